"""Loads until a file is there, whose path the environment says; then says how it was called."""

from __future__ import annotations

import os
import time
from typing import Any

while not os.path.exists(os.environ["LOADED_WHEN"]):
    time.sleep(0.01)


def handle(event: Any, context: Any) -> dict[str, Any]:
    return {"body": str(context.invocations_before)}
