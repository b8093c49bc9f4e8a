"""Trees of files as the kernel shows them, copied from machines and containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.cgroups import Throttling, cpu_quota, throttling

V2_MOUNT = "30 24 0:26 {root} /sys/fs/cgroup rw,nosuid,nodev - cgroup2 cgroup2 rw,nsdelegate"
V1_MOUNT = "33 30 0:29 {root} /sys/fs/cgroup/cpu,cpuacct rw,nosuid - cgroup cgroup rw,cpu,cpuacct"


def machine(folder: Path, groups: str, mounts: str, **files: str) -> Path:
    """Write ``proc`` and the limits; ``files`` are ``folder__file`` below ``/sys/fs/cgroup``."""
    proc = folder / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(groups + "\n")
    (proc / "mountinfo").write_text(f"22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw\n{mounts}\n")
    for name, content in files.items():
        path = folder / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content + "\n")
    return folder


@pytest.mark.parametrize(
    ("content", "quota"),
    [("200000 100000", 2.0), ("150000 100000", 1.5), ("max 100000", None), ("5000 10000", 0.5), ("", None)],
)
def test_version_2_in_a_container_with_a_name_space_of_its_own(
    tmp_path: Path, content: str, quota: float | None
) -> None:
    assert cpu_quota(machine(tmp_path, "0::/", V2_MOUNT.format(root="/"), **{"cpu.max": content})) == quota


def test_version_2_where_the_mount_is_the_group_of_the_container(tmp_path: Path) -> None:
    made = machine(tmp_path, "0::/docker/abc", V2_MOUNT.format(root="/docker/abc"), **{"cpu.max": "300000 100000"})
    assert cpu_quota(made) == 3.0


def test_the_smallest_limit_of_nested_groups_counts(tmp_path: Path) -> None:
    files = {
        "kubepods/cpu.max": "800000 100000",
        "kubepods/pod1/cpu.max": "250000 100000",
        "kubepods/pod1/main/cpu.max": "max 100000",
    }
    assert cpu_quota(machine(tmp_path, "0::/kubepods/pod1/main", V2_MOUNT.format(root="/"), **files)) == 2.5


def test_a_limit_of_another_group_does_not_count(tmp_path: Path) -> None:
    files = {"a/cpu.max": "max 100000", "b/cpu.max": "100000 100000"}
    assert cpu_quota(machine(tmp_path, "0::/a", V2_MOUNT.format(root="/"), **files)) is None


@pytest.mark.parametrize(("quota", "expected"), [("150000", 1.5), ("-1", None), ("0", None)])
def test_version_1(tmp_path: Path, quota: str, expected: float | None) -> None:
    groups = "12:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/\n1:name=systemd:/docker/abc"
    files = {"cpu,cpuacct/cpu.cfs_quota_us": quota, "cpu,cpuacct/cpu.cfs_period_us": "100000"}
    assert cpu_quota(machine(tmp_path, groups, V1_MOUNT.format(root="/docker/abc"), **files)) == expected


def test_both_versions_beside_each_other(tmp_path: Path) -> None:
    """As systemd mounts them in its hybrid mode: the processors are limited in version 1."""
    groups = "4:cpu,cpuacct:/user\n0::/user"
    mounts = V1_MOUNT.format(root="/") + "\n31 30 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw"
    files = {"cpu,cpuacct/user/cpu.cfs_quota_us": "400000", "cpu,cpuacct/user/cpu.cfs_period_us": "100000"}
    assert cpu_quota(machine(tmp_path, groups, mounts, **files)) == 4.0


def test_a_group_outside_of_what_is_mounted_is_that_of_the_mount(tmp_path: Path) -> None:
    made = machine(tmp_path, "0::/../other", V2_MOUNT.format(root="/"), **{"cpu.max": "100000 100000"})
    assert cpu_quota(made) == 1.0


def test_a_mount_point_with_a_space(tmp_path: Path) -> None:
    mount = r"30 24 0:26 / /sys/fs/cgroup/my\040groups rw - cgroup2 cgroup2 rw"
    assert cpu_quota(machine(tmp_path, "0::/", mount, **{"my groups/cpu.max": "100000 100000"})) == 1.0


def test_where_there_are_no_groups_nothing_is_limited(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(("groups", "mounts"), [("nonsense", "also - nonsense"), ("0::/", "short - cgroup2")])
def test_files_that_are_something_else_limit_nothing(tmp_path: Path, groups: str, mounts: str) -> None:
    assert cpu_quota(machine(tmp_path, groups, mounts)) is None


STAT = "usage_usec 5000000\nnr_periods {}\nnr_throttled {}\nthrottled_usec 70000"


def test_how_often_a_limit_ran_out_is_that_of_the_group_where_it_did_most(tmp_path: Path) -> None:
    files = {
        "pod/cpu.max": "150000 100000",
        "pod/cpu.stat": STAT.format(90, 40),
        "pod/main/cpu.max": "200000 100000",
        "pod/main/cpu.stat": STAT.format(80, 3),
    }
    made = machine(tmp_path, "0::/pod/main", V2_MOUNT.format(root="/"), **files)
    assert throttling(made) == Throttling(periods=90, throttled=40)


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "max 100000", "cpu.stat": STAT.format(90, 40)},
        {"cpu.max": "150000 100000"},
        {"cpu.max": "150000 100000", "cpu.stat": "nr_periods many\nodd line here\n"},
    ],
)
def test_where_nothing_limits_or_tells_nothing_runs_out(tmp_path: Path, files: dict[str, str]) -> None:
    assert throttling(machine(tmp_path, "0::/", V2_MOUNT.format(root="/"), **files)) is None


def test_a_system_without_control_groups(tmp_path: Path) -> None:
    assert throttling(tmp_path) is None
