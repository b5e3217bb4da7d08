"""Cores and memory that control groups grant."""

import os

import pytest

from svae.jobs.limits import cores, memory_mb

CORES = len(os.sched_getaffinity(0))
MEMORY = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A function that makes control groups on a machine of 64 cores, and gives their paths."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(64)))

    def make(own, files):
        (tmp_path / "own").write_text(own)
        for name, content in files.items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path / "groups", tmp_path / "own"

    return make


V2, V1 = "0::/\n", "5:cpu,cpuacct:/docker/a\n4:memory:/docker/a\n0::/\n"


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {"cpu.max": "200000 100000\n"}, 2),
        (V2, {"cpu.max": "max 100000\n"}, 64),
        (V2, {"cpu.max": "50000 100000\n"}, 1),
        (V2, {"cpu.max": "350000 100000\n"}, 3),
        (V2, {}, 64),
        ("0::/a/b\n", {"a/cpu.max": "400000 100000\n", "a/b/cpu.max": "max 100000\n"}, 4),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        (V1, {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        (V2, {"cpu.max": "nonsense\n"}, 64),
        (V2, {"cpu.max": ""}, 64),
    ],
)
def test_cores(machine, own, files, expected):
    assert cores(*machine(own, files)) == expected


@pytest.mark.parametrize(
    ("own", "files", "expected"),
    [
        (V2, {"memory.max": "500000000\n"}, 500),
        (V2, {"memory.max": "max\n"}, MEMORY),
        ("0::/a\n", {"memory.max": "600000000\n", "a/memory.max": "700000000\n"}, 600),
        (V1, {"memory/memory.limit_in_bytes": "900000000\n"}, 900),
        (V1, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, MEMORY),
        (V2, {}, MEMORY),
    ],
)
def test_memory(machine, own, files, expected):
    assert memory_mb(*machine(own, files)) == expected


def test_on_this_machine(tmp_path):
    assert 1 <= cores() <= CORES and 100 < memory_mb() <= MEMORY
    assert cores(tmp_path, tmp_path / "absent") == CORES
