"""The shipped workload, for tests that are about it."""

from workloads.model import shipped

WORK = shipped()
GRAPH = WORK.graph
FUNCTIONS = WORK.functions
ORCHESTRATOR = GRAPH.director
STAGES = GRAPH.functions
