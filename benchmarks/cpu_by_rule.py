"""Measures the processor time of a workflow by rule.

    python benchmarks/cpu_by_rule.py FOLDER [--clone CLONE] [-- ARGUMENTS OF SNAKEMAKE]

FOLDER: where the outputs go; new, so that all of it runs. --clone: another checkout with its own
.venv, to compare with. The times of a process are read ten times a second, so up to a tenth of a
second is missed per process. With one epoch (`-- --config 'training={epochs: 1}'`), hardly any of
it is training steps. The last line is the seconds by rule as JSON.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil

CLONE = Path(__file__).parent.parent


def name_of(process: psutil.Process) -> str:
    """The script that a process runs, or the program."""
    line = " ".join(process.cmdline())
    found = re.search(r"(?:tmp\w+\.|scripts/)(\w+)\.py", line)
    if found:
        return found[1]
    return "snakemake" if "snakemake" in line else process.name()


def measured(command: list[str], folder: Path) -> Counter:
    """Seconds of processor time by name, of a command and all that it starts."""
    seconds: dict[tuple[int, float], tuple[str, float]] = {}
    with subprocess.Popen(command, cwd=folder) as started:
        root = psutil.Process(started.pid)
        while started.poll() is None:
            try:
                processes = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                break
            for process in processes:
                try:
                    times = process.cpu_times()
                    key = process.pid, process.create_time()
                    seconds[key] = name_of(process), times.user + times.system
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    pass
            time.sleep(0.1)
    if started.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    total: Counter = Counter()
    for name, taken in seconds.values():
        total[name] += taken
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clone", type=Path, default=CLONE)
    own, arguments = sys.argv[1:], []
    if "--" in own:
        own, arguments = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    given.folder.mkdir(parents=True)
    clone = given.clone.resolve()
    command = [str(clone / ".venv/bin/snakemake"), "--snakefile", str(clone / "Snakefile")]
    command += ["--directory", str(given.folder.resolve()), "--cores", "all"]
    total = measured([*command, *arguments], clone)
    for name, taken in total.most_common():
        print(f"{name:24s} {taken:7.1f} s")
    print(json.dumps({"total": round(total.total(), 1), **total}))


if __name__ == "__main__":
    main()
