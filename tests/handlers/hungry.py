"""Takes CPU time, or memory in a process that has left the replica's session, as the query says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import Any

EATER = "import sys, time; held = bytearray(int(sys.argv[1]) * 2**20); print(flush=True); time.sleep(600)"


def handle(event: Any, context: Any) -> dict[str, Any]:
    until_s = time.process_time() + float(event.query.get("burn_s", 0))
    while time.process_time() < until_s:
        pass
    if "eat_mb" in event.query:
        command = [sys.executable, "-c", EATER, event.query["eat_mb"]]
        eater = subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE)
        assert eater.stdout is not None
        eater.stdout.readline()
        return {"body": f"{os.getpid()} {eater.pid}"}
    return {"body": str(os.getpid())}
