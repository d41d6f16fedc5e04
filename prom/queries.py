"""Named PromQL. Each is about all functions; `function_name` tells them apart."""

READY = "gateway_service_ready_count"
DESIRED = "gateway_service_count"
IN_FLIGHT = "gateway_function_invocation_inflight"
# Everything that the gateway counts, without the histograms' buckets.
GATEWAY = '{__name__=~"gateway_.+",__name__!~".+_(bucket|created)"}'
REPLICAS = f'{{__name__=~"{DESIRED}|{READY}"}}'
