"""Compares the time of a whole study's trainings with PyTorch's: the job that a user waits for.

    python benchmarks/study.py [--torch-python PATH] [--rounds 5] [--steps 30]

All variants of config.yaml take an equal number of steps (noise, batch 100, float32), at 32x32x3
and at 64x64x3: this project's side by side, as the workflow schedules them under `threads: auto`;
the same models in PyTorch in its best way. Which way is best is measured for low_rank: eager or
compiled, one training after the other on all cores, or one per core on one thread each. The sides
take turns. Start-up, tracing and compilation do not count for either.

Before the command, `ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 TORCHINDUCTOR_CACHE_DIR=NEW`
keeps the libraries of both sides from using AVX-512 where there is some.

The last line is a JSON object: `processor`, and `ratio_32` and `ratio_64`, PyTorch's time divided
by this project's (the median over rounds), with their parts.
"""

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import wait
from pathlib import Path

from common import SETTINGS, make_store
from common import train as train_ours
from train import ROOT, STEPS_COMPARED, find_torch, prepare, variants
from turns import BATCH, Script, Worker

from svae.settings.training import TrainingSettings

CORES = len(os.sched_getaffinity(0))
IMAGES = 10_000
PLAIN = ("learning_rate", "learning_rate_schedule", "learning_rate_warmup_epochs")
DATASETS = {32: "cifar10", 64: "celeba"}
# PyTorch's ways: mode, threads of a training, trainings at once.
WAYS = [
    (mode, threads, together)
    for mode in ("eager", "compiled")
    for threads, together in ((CORES, 1), (1, CORES))
]


def processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?"
    )
    wide = any(line.startswith("flags") and " avx512f" in line for line in lines)
    return f"{name}, {CORES} cores, {'AVX-512' if wide else 'no AVX-512'}"


def seconds_of(workers: Sequence[Worker], together: int) -> float:
    """The time in which all workers take a turn, `together` at once, in the order given."""
    waiting, running = list(workers), []
    start = time.perf_counter()
    while waiting or running:
        while waiting and len(running) < together:
            running.append(waiting.pop(0).connection)
            running[-1].send("go")
        for done in wait(running):
            done.recv()
            running.remove(done)
    return time.perf_counter() - start


class Torch:
    """Trainings of some plans in one way of PyTorch."""

    def __init__(self, interpreter: str, plans: Sequence[Path], way: tuple, steps: int):
        mode, threads, self.together = way
        self.workers = [
            Script(
                *("env", f"OMP_NUM_THREADS={threads}", interpreter),
                *(ROOT / "benchmarks/torch_vae.py", plan, mode, steps),
            )
            for plan in plans
        ]

    def seconds(self) -> float:
        return seconds_of(self.workers, self.together)

    def end(self) -> None:
        for worker in self.workers:
            worker.end()


def best_way(interpreter: str, plan: Path, steps: int, rounds: int) -> tuple[tuple, dict]:
    """The fastest way for low_rank, and the images per second of each."""
    found = {}
    for way in WAYS:
        workers = Torch(interpreter, [plan] * way[2], way, steps)
        seconds = statistics.median(workers.seconds() for _ in range(rounds))
        found[way] = way[2] * steps * BATCH / seconds
        workers.end()
    return max(found, key=found.__getitem__), found


def loss_difference(
    interpreter: str, folder: Path, settings: TrainingSettings, shape: tuple[int, int, int]
) -> float:
    """Of both after 100 steps from the same weights, on the same images and noise: equal losses
    show that both compute the same. Without what PyTorch's script leaves out."""
    plain = dataclasses.replace(
        settings,
        **{key: getattr(SETTINGS, key) for key in PLAIN},
        log_var_limit=None,
        saturation_penalty=0.0,
        threads=CORES,
    )
    plan = folder / "plain.npz"
    worker = Worker(prepare, plan, plain, shape)
    ours = worker.turn()
    worker.end()
    others = Script(interpreter, ROOT / "benchmarks/torch_vae.py", plan, "losses", 0).turn()
    return abs(others[-1] / ours[-1] - 1)


def compare(side: int, interpreter: str, rounds: int, steps: int) -> dict:
    shape = (side, side, 3)
    chosen = variants(DATASETS[side])
    threads = max(1, CORES // len(chosen))
    together = max(1, CORES // threads)
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "noise.h5")
        make_store(store, IMAGES, shape)
        difference = loss_difference(interpreter, Path(folder), chosen["low_rank"], shape)
        plans = {name: Path(folder, f"{name}.npz") for name in chosen}
        for name, settings in chosen.items():
            Worker(prepare, plans[name], settings, shape).end()
        way, ways = best_way(interpreter, plans["low_rank"], steps, rounds)
        print(f"{side}x{side}: PyTorch's best way is {way[0]}, {way[2]} at once", flush=True)
        own = [
            Worker(
                *(train_ours, store, IMAGES * side * side * 3, steps),
                *(dataclasses.replace(settings, threads=threads), shape),
            )
            for settings in chosen.values()
        ]
        other = Torch(interpreter, list(plans.values()), way, steps)
        times = []
        for turn in range(rounds):
            order = (0, 1) if turn % 2 else (1, 0)
            pair = [0.0, 0.0]
            for which in order:
                pair[which] = other.seconds() if which else seconds_of(own, together)
            times.append(pair)
            print(f"{side}x{side}: {pair[0]:.2f} s, PyTorch {pair[1]:.2f} s", flush=True)
        for worker in own:
            worker.end()
        other.end()
    images = len(chosen) * steps * BATCH
    ours, theirs = (statistics.median(pair[which] for pair in times) for which in (0, 1))
    return {
        "ratio": statistics.median(pair[1] / pair[0] for pair in times),
        "ratios": [round(pair[1] / pair[0], 3) for pair in times],
        "images_per_second": images / ours,
        "pytorch_images_per_second": images / theirs,
        "threads": threads,
        "at_once": together,
        "pytorch_way": {"mode": way[0], "threads": way[1], "at_once": way[2]},
        "pytorch_ways_low_rank_images_per_second": {
            f"{mode}, {count} threads, {at_once} at once": rate
            for (mode, count, at_once), rate in ways.items()
        },
        f"relative_loss_difference_after_{STEPS_COMPARED}_steps": difference,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="an interpreter with torch and numpy")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    interpreter = find_torch(arguments.torch_python)
    result: dict = {"processor": processor()}
    for side in DATASETS:
        found = compare(side, interpreter, arguments.rounds, arguments.steps)
        result |= {f"ratio_{side}": found.pop("ratio"), f"parts_{side}": found}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
