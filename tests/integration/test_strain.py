"""Foreign work on this machine is told from FAVE's own, also where processes come and go."""

import os
import subprocess
import sys

import pytest

from fave import strain
from fave.clock import monotonic_s
from fave.processes import OwnedProcess, wait_until
from fave.settings import ROOT
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
    cores = os.cpu_count()
    used_share = 1.0 / (monotonic_s() - began_s) / cores
    assert foreign > own + used_share / 2
    assert 0 <= own <= 1


def test_a_kernel_that_tells_nothing_is_no_quiet_machine(monkeypatch, tmp_path):
    monkeypatch.setattr(strain, "_PROC", tmp_path)
    host = HostStrain()
    assert host.cpu_so_far() == (None, None, None)
    assert host.so_far() == (None, None)


AFFINITY = "import os; print(sorted(os.sched_getaffinity(0)))"


def test_a_part_runs_where_it_was_placed_and_its_replicas_elsewhere(tmp_path):
    """A replica leaves the core of the gateway that starts it."""
    cores = sorted(os.sched_getaffinity(0))
    first, last = cores[:1], cores[-1:]
    spawn = (
        "import asyncio, pathlib, sys\n"
        "from local.gateway.model import Program\nfrom local.gateway.replica import Replica\n"
        "async def main():\n"
        f"    replica = Replica('r', 1); log = pathlib.Path({str(tmp_path / 'replica')!r})\n"
        f"    program = Program([sys.executable, '-c', {AFFINITY!r}], False, log.parent, '', 9.0)\n"
        f"    await replica.spawn(program, {{}}, log, {last})\n"
        "    await replica.wait_ended()\n"
        "asyncio.run(main())\n" + AFFINITY
    )
    with OwnedProcess("part", [sys.executable, "-c", spawn], log=tmp_path / "part", cwd=ROOT, cores=first) as part:
        assert wait_until(lambda: not part.running(), timeout_s=60)
    assert (tmp_path / "part").read_text().split("\n")[0] == str(first)
    assert (tmp_path / "replica").read_text().split("\n")[0] == str(last)


def test_without_a_place_a_process_runs_anywhere(tmp_path):
    with OwnedProcess("part", [sys.executable, "-c", AFFINITY], log=tmp_path / "part") as part:
        assert wait_until(lambda: not part.running(), timeout_s=60)
    assert (tmp_path / "part").read_text().strip() == str(sorted(os.sched_getaffinity(0)))
