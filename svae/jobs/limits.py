"""What a container or service grants of the machine's cores and memory, by its control groups.

The number of cores that programs see is that of the host, whatever `docker run --cpus` says.
Imported by the Snakefile: standard library only.
"""

import os
from collections.abc import Iterator
from pathlib import Path

_GROUPS, _OWN = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def cores(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """The cores that this process may use, at least 1: the machine's, or the quota."""
    found = [float(len(os.sched_getaffinity(0)))]
    for folder in _folders("cpu", groups, own):
        quota, period = (
            _numbers(folder / "cpu.max", 2)
            or (
                *_numbers(folder / "cpu.cfs_quota_us", 1),
                *_numbers(folder / "cpu.cfs_period_us", 1),
            )
            or (0, 0)
        )
        if quota > 0 and period > 0:
            found.append(quota / period)
    return max(1, int(min(found)))


def memory_mb(groups: Path = _GROUPS, own: Path = _OWN) -> int:
    """The memory that this process may use, in MB (1e6 bytes): the machine's, or the limit."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for folder in _folders("memory", groups, own):
        for name in ("memory.max", "memory.limit_in_bytes"):
            found += [limit for limit in _numbers(folder / name, 1) if limit > 0]
    return min(found) // 10**6


def _folders(controller: str, groups: Path, own: Path) -> Iterator[Path]:
    """The folders of this process's group and of those around it, in versions 1 and 2."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = groups / controller if controllers else groups
        if controllers and controller not in controllers.split(","):
            continue
        folder = root / path.lstrip("/")
        yield from (folder, *(parent for parent in folder.parents if parent.is_relative_to(root)))


def _numbers(path: Path, count: int) -> tuple[int, ...]:
    """The numbers at the start of a file; () if there is none, as where it says `max`."""
    try:
        return tuple(map(int, path.read_text().split()[:count]))
    except (OSError, ValueError):
        return ()
