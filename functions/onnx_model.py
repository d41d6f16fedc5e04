"""An onnxruntime session as a replica needs it: on the CPU, on one thread unless `FAVE_THREADS` says otherwise."""

from __future__ import annotations

from typing import Any

from fave.environment import threads
from fave.programs import asset


def load(relative: str, variable: str) -> Any:
    """The model at `relative` in the asset cache, or where the environment `variable` says."""
    import onnxruntime  # a quarter of a second, which a lazily loading replica does not spend before it is ready

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads()
    return onnxruntime.InferenceSession(str(asset(relative, variable)), options, providers=["CPUExecutionProvider"])
