"""Checks that a repeatedly killed training ends like an uninterrupted one.

    python benchmarks/kills.py [--kills 20] [--seed 0]

Runs the real workflow on mnist_5k (low_rank, default network: dropout, batch norm, shuffling) once
without interruption, and then again with SIGKILL at random moments, alternately to the training
only and to Snakemake with all its jobs. After each kill, the two documented commands follow. Prints
one row per kill, and at the end whether weights, history (without times), samples and scores are
identical, byte for byte. Kills continue in further runs until their number is reached.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLONE = Path(__file__).parent.parent
RUN = Path("runs/mnist_5k/low_rank/seed-0")
TARGET = "results/parzen_low_rank.json"
CONFIG = {
    "dataset": "mnist_5k",
    "training": {"epochs": 12},
    "checkpoints": {"minutes": 0.01},
    "variants": {"low_rank": {"posterior": "low_rank"}},
    "sampling": {"n_samples": 500},
}
TIMES = ("seconds", "images_per_second", "training_seconds")


def snakemake(folder: Path, *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "-s", str(CLONE / "Snakefile"), "--cores", "2"]
    return subprocess.Popen(
        [*command, "--directory", str(folder), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def training_of(group: int) -> int | None:
    """Return the training process of this process group."""
    found = subprocess.run(
        ["pgrep", "-g", str(group), "-f", r"python.*\.train\.py"], capture_output=True, text=True
    )
    return int(found.stdout.split()[-1]) if found.stdout else None


def make_folder(parent: str, name: str) -> Path:
    folder = Path(parent, name)
    folder.mkdir()
    (folder / "config.yaml").write_text(json.dumps(CONFIG))
    return folder


def kill_once(folder: Path, all_of_it: bool, wait: float) -> dict | None:
    """Start the workflow and kill it `wait` seconds after its training logged the first line.

    Return None if it finished before that.
    """
    log = folder / "logs/train_mnist_5k_low_rank_seed-0.log"
    log.unlink(missing_ok=True)
    process = snakemake(folder, TARGET, "--rerun-incomplete")
    while not (log.exists() and "low_rank" in log.read_text()):
        if process.poll() is not None:
            return None
        time.sleep(0.02)
    time.sleep(wait)
    victim = training_of(process.pid)
    if victim is None or process.poll() is not None:
        process.wait()
        return None
    if all_of_it:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        os.kill(victim, signal.SIGKILL)
    process.wait()
    resumed = re.search(r"resuming after (.*)", log.read_text())
    saved = sorted((folder / RUN / "checkpoints").glob("step-*"))
    left = list((folder / RUN / "checkpoints").glob(".*"))
    return {
        "killed": "everything" if all_of_it else "the training",
        "after_seconds": round(wait, 1),
        "had_resumed_after": resumed[1] if resumed else "the start",
        "last_checkpoint": saved[-1].stem if saved else "none",
        "half_written_file": bool(left),
    }


def without_times(content: dict) -> dict:
    return {key: value for key, value in content.items() if key not in TIMES}


def results(folder: Path) -> dict[str, object]:
    """Return everything that must be identical."""
    lines = [json.loads(line) for line in (folder / RUN / "history.jsonl").read_text().splitlines()]
    record = json.loads((folder / RUN / "run.json").read_text())
    return {
        "weights": (folder / RUN / "final.weights.h5").read_bytes(),
        "history": [without_times(line) for line in lines],
        "record": without_times(record),
        "samples": (folder / RUN / "samples.h5").read_bytes(),
        "score": without_times(json.loads((folder / TARGET).read_text())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as parent:
        whole = make_folder(parent, "whole")
        start = time.monotonic()
        assert snakemake(whole, TARGET).wait() == 0
        print(f"uninterrupted: {time.monotonic() - start:.0f} s", flush=True)
        expected, rows, runs = results(whole), [], 0
        while len(rows) < arguments.kills:
            folder = make_folder(parent, f"killed-{runs}")
            mine = []
            while row := kill_once(folder, len(rows) % 2 == 1, moments.uniform(0, 15)):
                rows.append(row)
                mine.append(row)
                print(json.dumps({"run": runs, **row}), flush=True)
                # After a kill of all processes, these are the documented commands.
                assert snakemake(folder, "--unlock").wait() == 0
                if len(rows) == arguments.kills:
                    break
            assert snakemake(folder, TARGET, "--rerun-incomplete").wait() == 0
            found = results(folder)
            same = {name: found[name] == expected[name] for name in expected}
            print(json.dumps({"run": runs, "kills": len(mine), "identical": same}), flush=True)
            for row in mine:
                row["identical"] = all(same.values())
            runs += 1
    print(json.dumps({"kills": len(rows), "identical": sum(row["identical"] for row in rows)}))


if __name__ == "__main__":
    main()
