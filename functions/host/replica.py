"""Who this replica is: one function host process, its stamps, and its memory high-water mark."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path
from uuid import uuid4

import msgspec

from fave.environment import count


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    function: str
    replica_id: str
    process_started_at_ns: int
    memory_limit_mb: int

    @classmethod
    def from_environment(cls) -> Identity:
        """On a cluster the pod's name and a random part take the place of the embedded platform's replica id."""
        get = os.environ.get
        return cls(
            function=get("FAVE_FUNCTION", socket.gethostname()),
            replica_id=get("FAVE_REPLICA_ID") or f"{socket.gethostname()}-{uuid4().hex[:8]}",
            process_started_at_ns=process_started_at_ns(),
            memory_limit_mb=count("FAVE_MEMORY_LIMIT_MB", 0),
        )


def process_started_at_ns() -> int:
    """When the kernel started this process (UTC ns, to 10 ms): before the interpreter could stamp anything."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    started_after_boot_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - started_after_boot_s
    return time.time_ns() - int(age_s * 1e9)


def reset_peak_rss() -> None:
    """Start a new high-water mark (Linux: `5` into clear_refs); where that is refused the mark is the process's."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def peak_rss_mb(pid: int | None = None) -> float:
    """The high-water mark of this process, or of `pid`, in MiB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid or 'self'}/status").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    marks = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
    return marks[0] / 1024 if marks else 0.0
