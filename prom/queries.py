"""Named PromQL. Each is about all functions; `function_name` tells them apart."""

READY = "gateway_service_ready_count"
DESIRED = "gateway_service_count"
IN_FLIGHT = "gateway_function_invocation_inflight"
REPLICAS = f'{{__name__=~"{DESIRED}|{READY}"}}'
