"""Measures how long `snakemake -n` takes on a finished run, compared with a one-rule Snakefile.

    python benchmarks/dry_run.py [FINISHED_FOLDER] [--rounds 10]

FINISHED_FOLDER: where `snakemake` has finished; default: the clone. The two take turns; the last
line is the ratio of the medians as JSON.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).parent.parent
ONE_RULE = 'rule all:\n    output:\n        "done",\n    shell:\n        "touch {output}"\n'


def seconds(snakefile: Path, folder: Path) -> float:
    command = [sys.executable, "-m", "snakemake", "-n", "-s", snakefile, "--directory", folder]
    start = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = time.monotonic() - start
    assert "Nothing to be done" in done.stdout + done.stderr, f"{folder} is not finished"
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("finished", type=Path, nargs="?", default=CLONE)
    parser.add_argument("--rounds", type=int, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        one = Path(name) / "Snakefile"
        one.write_text(ONE_RULE)
        (one.parent / "done").touch()
        times = [
            (seconds(CLONE / "Snakefile", arguments.finished), seconds(one, one.parent))
            for _ in range(arguments.rounds)
        ]
    ours, theirs = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"finished run {ours:.2f} s, one rule {theirs:.2f} s (medians)")
    print(json.dumps({"ratio_to_one_rule": ours / theirs}))


if __name__ == "__main__":
    main()
