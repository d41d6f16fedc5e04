"""Which control groups are used, and what is written into them: both versions, on made-up file systems."""

from __future__ import annotations

import pytest

from local.gateway.cgroups import Group, Limits, _candidates

pytestmark = pytest.mark.unit


def made(folder, own, given=()):
    """A mount with the given `cgroup.subtree_control` files, and what a process says of its own groups."""
    mount = folder / "cgroup"
    for path, controllers in dict(given).items():
        (mount / path).mkdir(parents=True, exist_ok=True)
        (mount / path / "cgroup.subtree_control").write_text(controllers)
    (folder / "own").write_text(own)
    return mount, folder / "own"


def test_of_version_2_the_nearest_group_that_has_both_controllers_to_give(tmp_path):
    given = {
        "": "cpu memory",
        "user.slice": "memory pids",
        "user.slice/app": "cpu memory pids",
        "user.slice/app/me": "",
    }
    mount, own = made(tmp_path, "0::/user.slice/app/me\n", given)
    folders = [parents["memory"] for version, parents in _candidates(mount, own) if version == 2]
    assert folders == [mount / "user.slice/app", mount]


def test_of_version_1_the_own_group_of_each_hierarchy_as_far_as_it_is_seen(tmp_path):
    mount, own = made(tmp_path, "4:memory:/shared/ours\n3:cpu,cpuacct:/elsewhere\n0::/\n", {})
    for path in ("memory/shared/ours", "cpu"):
        (mount / path).mkdir(parents=True)
    ((version, parents),) = _candidates(mount, own)
    assert (version, parents) == (1, {"memory": mount / "memory/shared/ours", "cpu": mount / "cpu"})


def test_none_without_a_kernel_that_tells(tmp_path):
    assert list(_candidates(tmp_path, tmp_path / "own")) == []


@pytest.mark.parametrize(
    ("version", "limits", "files"),
    [
        (1, Limits(128, 0.5), {"memory.limit_in_bytes": "134217728", "cpu.cfs_quota_us": "50000"}),
        (1, Limits(), {}),
        (2, Limits(128, 1.5), {"memory.max": "134217728", "memory.oom.group": "1", "cpu.max": "150000 100000"}),
        (2, Limits(0, 0.001), {"memory.oom.group": "1", "cpu.max": "1000 100000"}),
    ],
)
def test_limits_are_written_as_the_version_has_them(tmp_path, version, limits, files):
    Group(version, tmp_path / "m", tmp_path / ("c" if version == 1 else "m"), limits)
    written = {path.name: path.read_text() for path in tmp_path.glob("*/*")}
    assert {name: text for name, text in written.items() if name != "cpu.cfs_period_us"} == files


def test_kills_are_counted_from_the_kernels_own_books(tmp_path):
    group = Group(2, tmp_path / "m", tmp_path / "m", Limits(128))
    (tmp_path / "m" / "memory.events").write_text("low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n")
    assert group.oom_kills == 2
    group = Group(1, tmp_path / "old", tmp_path / "cpu", Limits())
    (tmp_path / "old" / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 0\n")
    assert group.oom_kills == 0
