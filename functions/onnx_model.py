"""An onnxruntime session as a replica needs it: on the CPU, on one thread unless `FAVE_THREADS` says otherwise."""

from __future__ import annotations

import os
from typing import Any

from fave.programs import asset


def load(relative: str, variable: str) -> Any:
    """The model at `relative` in the asset cache, or where the environment `variable` says."""
    import onnxruntime  # a quarter of a second, which a lazily loading replica does not spend before it is ready

    threads = int(os.environ.get("FAVE_THREADS", "1"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    return onnxruntime.InferenceSession(str(asset(relative, variable)), options, providers=["CPUExecutionProvider"])
