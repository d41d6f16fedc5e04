"""Named PromQL. Each is about all functions; `function_name` tells them apart.

Several gateway pods may stand behind one Prometheus. Each counts the calls that went through itself, so counters and
calls in flight are summed over them. But what a pod tells of a function (`gateway_service_…`: replica counts, targets)
it has read from Kubernetes, as the others have: a sum would double every replica. Of these the highest counts: pods
read at different moments, and no replica is gone as long as one pod still sees it.
"""

READY = "gateway_service_ready_count"
DESIRED = "gateway_service_count"
IN_FLIGHT = "gateway_function_invocation_inflight"
REPLICA_SERIES = f'{{__name__=~"{DESIRED}|{READY}"}}'
REPLICAS = f"max by (__name__, function_name) ({REPLICA_SERIES})"
# Everything that gateways tell, without the histograms' buckets.
GATEWAY = (
    'max by (__name__, function_name, code) ({__name__=~"gateway_service_.+"}) '
    # Without `on`, sets are matched by all labels but the name.
    "or on (__name__, function_name, code) sum by (__name__, function_name, code) "
    '({__name__=~"gateway_.+",__name__!~"gateway_service_.+|.+_(bucket|created)"})'
)


def ready_since(at_s: float) -> str:
    """Ready replicas, of scrapes after `at_s` alone."""
    return f"max by (function_name) ({READY} and timestamp({READY}) > {at_s:.3f})"


def in_flight_since(at_s: float) -> str:
    """Calls in flight, once every gateway pod was scraped after `at_s`; nothing before.

    A pod tells of a function's calls from the first one on, but of replicas always: those show which pods there are.
    """
    return f"sum by (function_name) ({IN_FLIGHT}) unless on () timestamp({DESIRED}) <= {at_s:.3f}"
