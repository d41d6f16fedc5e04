"""Foreign work on this machine is told from FAVE's own, also where processes come and go."""

import subprocess
import sys

import pytest

from fave import strain
from fave.clock import monotonic_s
from fave.processes import OwnedProcess, wait_until
from fave.strain import HostStrain

pytestmark = pytest.mark.integration

# Works for so long by its own clock, in the last of three generations; the two others have ended it by then.
WORK = "import time\nwhile time.process_time() < {work_s}: pass"
PARENT = "import subprocess, sys\nfor _ in range(4): subprocess.run([sys.executable, '-c', {work!r}], check=True)"


def test_what_short_lived_grandchildren_used_is_their_roots():
    """As the replicas of a run: most have ended before anybody looks."""
    work = PARENT.format(work=WORK.format(work_s=0.25))
    with subprocess.Popen([sys.executable, "-c", PARENT.format(work=work)]) as root:
        assert wait_until(lambda: strain._tree_s([root.pid]) > 1.0, timeout_s=60)
        assert root.wait(120) == 0


def test_one_process_is_foreign_to_all_but_its_owner(tmp_path):
    began_s = monotonic_s()
    command = [sys.executable, "-c", "while True: pass"]
    with OwnedProcess("neighbour", command, log=tmp_path / "log") as neighbour:
        theirs, ours = HostStrain(), HostStrain([neighbour.pid])
        assert wait_until(lambda: strain._tree_s([neighbour.pid]) > 1.0, timeout_s=60)
        foreign, own = theirs.cpu_so_far().foreign_share, ours.cpu_so_far().foreign_share
    cores = strain.os.cpu_count()
    used_share = 1.0 / (monotonic_s() - began_s) / cores
    assert foreign > own + used_share / 2
    assert 0 <= own <= 1


def test_a_kernel_that_tells_nothing_is_no_quiet_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(strain, "_PROC", tmp_path)
    host = HostStrain()
    assert host.cpu_so_far() == (None, None, None)
    assert host.so_far() == (None, None)
