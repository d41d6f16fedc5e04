"""Answers with what it was asked; can sleep, crash, eat memory, hang or work in a child, as the query says."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from fave.errors import StageError
from functions.host import work

_hoard: list[bytearray] = []


def handle(event: Any, context: Any) -> dict[str, Any]:
    query = event.query
    if "crash" in query:
        os._exit(3)
    if "eat_mb" in query:
        _hoard.append(bytearray(int(query["eat_mb"]) * 2**20))
        time.sleep(5)
    time.sleep(float(query.get("sleep_s", 0)))
    if "child_s" in query:
        child = subprocess.Popen(["sleep", query["child_s"]])
        with context.work.owns(child):
            child.wait()
        try:
            work.current().check()
        except StageError as error:
            return {"statusCode": 422, "body": error.slug}
    if "secret" in query:
        return {"body": (Path(os.environ["secret_mount_path"]) / query["secret"]).read_text()}  # noqa: SIM112
    body = {
        "method": event.method,
        "path": event.path,
        "query": query,
        "headers": event.headers,
        "body": event.body.decode(),
        "pid": os.getpid(),
        "replica": context.replica.replica_id,
    }
    status = int(query.get("status", 200))
    return {"statusCode": status, "body": json.dumps(body), "headers": {"X-Test": "yes", "Location": "/elsewhere"}}
