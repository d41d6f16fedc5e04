"""Named PromQL. Each is about all functions; `function_name` tells them apart."""

READY = "gateway_service_ready_count"
DESIRED = "gateway_service_count"
IN_FLIGHT = "gateway_function_invocation_inflight"
INVOCATIONS_PER_S = "sum by (function_name) (rate(gateway_function_invocation_total[10s]))"
REPLICAS = f'{{__name__=~"{DESIRED}|{READY}"}}'
