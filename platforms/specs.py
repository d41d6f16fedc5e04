"""A workload's function under a policy, as OpenFaaS takes it: labels scale, limits bound one replica."""

from __future__ import annotations

import msgspec

from fave.campaign.experiment import Policy
from fave.wire.openfaas import DIRECTORY, HANDLER, INHERITS, LABEL, READY_PATH, READY_TIMEOUT, FunctionSpec
from workloads.graph import GRAPH
from workloads.model import Workload

# On every function that FAVE deploys. Others are never touched.
MANAGED = "fave.managed"


def to_spec(workload: Workload, function: str, policy: Policy, *, image: str, regime: str) -> FunctionSpec:
    timeout, about = str(policy.exec_timeout), workload.functions[function]
    graph = workload.graph
    directed = graph if graph and function in (graph.director, *graph.parts) else None
    return FunctionSpec(
        service=function,
        image=image,
        labels={MANAGED: "true", **scaling_labels(policy)},
        annotations={"fave.regime": regime},
        limits={"memory": f"{policy.memory_limit_mb}Mi"},
        env_vars={
            **about.environment,
            "max_inflight": str(policy.max_in_flight),
            "FAVE_FUNCTION": function,
            "FAVE_MEMORY_LIMIT_MB": str(policy.memory_limit_mb),
            "exec_timeout": timeout,
            "read_timeout": timeout,
            "write_timeout": timeout,
            **({GRAPH: msgspec.json.encode(directed).decode()} if directed else {}),
        },
        secrets=about.secrets,
    )


def scaling_labels(policy: Policy) -> dict[str, str]:
    """One meaning everywhere: a replica above the minimum goes when it was not needed for the idle timeout.

    In OpenFaaS Pro's words: scaling down has that window, and where the minimum is none (its own is at least one) the
    function goes to zero after that time without a request.
    """
    idle = str(policy.idle_timeout)
    labels = {
        "min": str(max(1, policy.min_replicas)),
        "max": str(policy.max_replicas),
        "type": "capacity",
        "target": f"{policy.target_in_flight:g}",
        "target-proportion": "1.0",
        "down.window": idle,
    }
    if policy.min_replicas == 0:
        labels |= {"zero": "true", "zero-duration": idle}
    return {f"{LABEL}{name}": value for name, value in labels.items()}


def as_processes(spec: FunctionSpec, workload: Workload) -> FunctionSpec:
    """Also how the embedded platform runs it, where its image does not say so."""
    about = workload.functions[spec.service]
    told = {HANDLER: about.handler, INHERITS: ",".join(about.inherits)}
    if about.command:
        told |= {DIRECTORY: str(workload.path_of(about.directory).resolve()), READY_PATH: about.ready.path or "tcp"}
        told |= {READY_TIMEOUT: str(about.ready.timeout)}
    noted = {name: value for name, value in told.items() if value}
    return msgspec.structs.replace(spec, env_process=about.command, annotations=spec.annotations | noted)
