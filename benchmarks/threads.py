"""Compares two single-threaded trainings in parallel with two in turn on two threads each.

    python benchmarks/threads.py [--rounds 3] [--steps 60]

Trains low_rank on 32x32x3 noise in separate processes, alternating between the two ways, and prints
the images per second of both and their ratio, round by round. Start-up and tracing do not count.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent  # where the worker finds common

WORKER = """
import dataclasses, sys
threads, steps = int(sys.argv[1]), int(sys.argv[2])
from svae.jobs import devices
devices.set_up(None, threads)
import numpy as np
import tensorflow as tf
from common import SETTINGS, Training
run = Training(dataclasses.replace(SETTINGS, threads=threads), (32, 32, 3), steps)
images = tf.constant(np.random.default_rng(0).integers(0, 256, (100, 32, 32, 3), np.uint8))
for _ in range(5):
    run.step(images)
print("ready", flush=True)
sys.stdin.readline()
for _ in range(steps):
    run.step(images)
print("done", flush=True)
"""


def images_per_second(threads: int, together: int, turns: int, steps: int) -> float:
    """Run, `turns` times, `together` trainings at once, each of `steps` batches of 100."""
    seconds = 0.0
    for _ in range(turns):
        command = [sys.executable, "-c", WORKER, str(threads), str(steps)]
        workers = [
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=FOLDER
            )
            for _ in range(together)
        ]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"
        start = time.monotonic()
        for worker in workers:
            worker.stdin.write("\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.stdout.readline() == "done\n"
        seconds += time.monotonic() - start
        for worker in workers:
            worker.communicate()
    return turns * together * steps * 100 / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    ratios = []
    for _ in range(arguments.rounds):
        parallel = images_per_second(1, together=2, turns=1, steps=arguments.steps)
        in_turn = images_per_second(2, together=1, turns=2, steps=arguments.steps)
        ratios.append(parallel / in_turn)
        print(f"side by side {parallel:.0f} images/s, in turn {in_turn:.0f} images/s", flush=True)
    print(json.dumps({"ratio_side_by_side_to_in_turn": statistics.median(ratios)}))


if __name__ == "__main__":
    main()
