"""Where things lie in the object store: everything of a request under its id."""

from __future__ import annotations

import re
from typing import NamedTuple

REQUESTS = "requests/"
_MADE = re.compile(r".*/requests/[^/]+/(?P<task>(?P<function>[^/]+)(?:/[^/]+)?)/[^/]+")
_METADATA = re.compile(r"requests/[^/]+/(?P<task>(?P<function>[^/]+)(?:/[^/]+)?)/metadata\.\d+\.json")


class Written(NamedTuple):
    """Which task made something: `stage`, or `stage/clip`."""

    task: str
    function: str


def of_request(request_id: str, name: str = "") -> str:
    """The folder of a request, or what it has of that name below it."""
    return f"{REQUESTS}{request_id}/{name}"


def state(request_id: str) -> str:
    return of_request(request_id, "metadata/state.json")


def final(request_id: str) -> str:
    return of_request(request_id, "metadata/final.json")


def video(request_id: str, name: str) -> str:
    """A person's own, uploaded for this request."""
    return of_request(request_id, f"input/{name}")


def outputs(request_id: str, task: str) -> str:
    """The folder of a task."""
    return of_request(request_id, f"{task}/")


def metadata(request_id: str, task: str, attempt: int) -> str:
    """What a stage writes beside its outputs, of each attempt."""
    return f"{outputs(request_id, task)}metadata.{attempt}.json"


def written(key: str) -> Written | None:
    """None for a key that is not metadata of a task."""
    found = _METADATA.fullmatch(key)
    return Written(found["task"], found["function"]) if found else None


def made(uri: str) -> Written | None:
    """Which task's output an address is; None where it is none."""
    found = _MADE.fullmatch(uri)
    return Written(found["task"], found["function"]) if found else None
