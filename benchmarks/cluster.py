"""Runs a small workflow through profiles/slurm on a SLURM that it starts, and then on this machine.

    python benchmarks/cluster.py FOLDER

FOLDER: where both workflows go; new. Two variants of mnist_5k, with the settings of the tests; the
SLURM is that of the tests, two nodes on this machine, so both runs have the same processors. Prints
each job with its node, state, time, and the memory that it asked for and used at its peak, and the
times of both runs. Needs what `make test-slurm` needs.
"""

import argparse
import csv
import re
import sys
import time
from datetime import datetime
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from helpers.slurm import Slurm, missing
from helpers.workflow import SMALL, VARIANTS, Workflow

NAMES = ("vanilla", "low_rank")
# Of a site; with two processors, a job that waits for its turn is not lost.
SITE = """
default-resources: [slurm_partition=debug]
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 2
seconds-between-status-checks: 2
"""
# Of a group of rules: those that run side by side and are measured; `examples` is not.
SIDE_BY_SIDE = ("parzen", "scores")


def workflow(folder: Path) -> Workflow:
    made = Workflow(folder)
    made.configure({**SMALL, "variants": {name: VARIANTS[name] for name in NAMES}})
    return made


def run(made: Workflow, *arguments: str, environment: dict[str, str] | None = None) -> float:
    """Seconds that Snakemake took."""
    begun = time.monotonic()
    with (made.folder / "snakemake.log").open("w") as log:
        started = made.start(*arguments, environment=environment, stdout=log, stderr=log)
        if started.wait():
            sys.exit(f"Error: Snakemake failed; see {log.name}")
    return time.monotonic() - begun


def peak_mb(made: Workflow, job: str) -> int:
    """The most resident memory of a job, without its Snakemake; of a group, that of the rules which
    run side by side, for the variant that needs the most."""
    rule, _, rest = job.removeprefix("rule_").partition("_")
    rules = SIDE_BY_SIDE if rule == "short" else (rule,)
    variants = [name for name in NAMES if rest.endswith(f"_{name}_0")] or NAMES
    return max(sum(_peak_mb(made, each, variant) for each in rules) for variant in variants)


def _peak_mb(made: Workflow, rule: str, variant: str) -> int:
    paths = list((made.folder / "benchmarks/out").glob(f"{rule}_*.tsv"))
    own = [path for path in paths if f"_{variant}_seed" in path.stem] or paths
    (line,) = csv.DictReader(own[0].read_text().splitlines(), delimiter="\t")
    return round(float(line["max_rss"]) * 2**20 / 1e6)


def seconds(job: dict[str, str]) -> float:
    start, end = (datetime.fromisoformat(job[key]) for key in ("StartTime", "EndTime"))
    return (end - start).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    if absent := missing():
        sys.exit(f"Error: not installed: {', '.join(absent)}")
    local = run(workflow(folder / "here"), "--cores", "2")
    made = workflow(folder / "cluster")
    site = made.folder / "site"
    site.mkdir()
    (site / "config.yaml").write_text(SITE)
    with Slurm() as slurm:
        profiles = ("--profile", str(site), "--workflow-profile", "profiles/slurm")
        submitted = run(made, *profiles, environment=slurm.environment)
        jobs = slurm.jobs()
    print("| job | node | state | processors | seconds | MB asked | MB used |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for job in sorted(jobs, key=lambda job: job["StartTime"]):
        asked = re.search(r"mem=(\d+)M", job["TRES"])
        print(
            f"| {job['Comment']} | {job['NodeList']} | {job['JobState']} | {job['NumCPUs']} | "
            f"{seconds(job):.0f} | {asked[1] if asked else '-'} | {peak_mb(made, job['Comment'])} |"
        )
    print(f"this machine: {local:.0f} s; SLURM: {submitted:.0f} s, {submitted / local:.2f} times")


if __name__ == "__main__":
    main()
