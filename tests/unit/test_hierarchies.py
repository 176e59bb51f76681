"""Where this process's control groups lie, from the words of the kernel."""

from __future__ import annotations

import pytest

from worker.forkserver.hierarchies import Hierarchy, find

V1_MOUNTS = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 /docker/abc /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu
35 31 0:32 /docker/abc /sys/fs/cgroup/memory rw,relatime shared:7 - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
"""


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (
            "9:name=systemd:/\n8:pids:/user.slice\n4:memory:/docker/abc\n0::/\n",
            [
                Hierarchy(1, "/sys/fs/cgroup/pids/user.slice", ("pids",)),
                Hierarchy(1, "/sys/fs/cgroup/memory", ("memory",)),
            ],
        ),
        (
            "4:memory:/docker/abc/deeper\n8:pids:/\n",
            [
                Hierarchy(1, "/sys/fs/cgroup/memory/deeper", ("memory",)),
                Hierarchy(1, "/sys/fs/cgroup/pids", ("pids",)),
            ],
        ),
        (
            "1:cpu:/docker/abc\n2:cpuacct:/\n5:devices:/\n",
            [Hierarchy(1, "/sys/fs/cgroup/cpu", ("cpu",))],
        ),
        ("4:memory:/somewhere/else\n", []),
        ("4:memory:/docker/abcdef\n", []),
        ("", []),
    ],
)
def test_version_1_is_found_where_the_mount_shows_it(groups: str, expected: list[Hierarchy]) -> None:
    assert find(groups, V1_MOUNTS) == expected


def test_a_group_outside_the_namespace_is_not_ours() -> None:
    mounts = "30 23 0:27 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    assert find("0::/../elsewhere\n", mounts) == []
