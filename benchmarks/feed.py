"""Measures speed, memory and shuffling of the feed from the h5 store.

    python benchmarks/feed.py [--images 20000] [--memory-mb 100] [--rounds 8] [--steps 20]

Trains low_rank (N = 64, d = 3) on 64x64x3 noise, batch 100, all cores, from one batch in memory,
from a store that fits into the feed's memory, and from the same store with a feed limited to
--memory-mb; and reads from both feeds without training. All five take turns, each in its own
process, which waits in between. Then a file sorted by class is shuffled through windows: this shows
how its batches vary, and what a small training reaches on it, compared with images shuffled
beforehand and with no shuffling. At full size: --images 202599 --memory-mb 500 --steps 220 (2.5 GB
of temporary space).
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import statistics
import tempfile
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path

import h5py
import numpy as np
from common import ENDLESS, IMAGE, SETTINGS, Training, make_store, train
from turns import BATCH, Ended, Turns, Worker

from svae.datasets.feed import Feed


def read(connection: Connection, path: Path, memory_bytes: int) -> None:
    """Read one epoch per turn from the feed, without training."""
    list(
        Feed(np.zeros((8, 1, 1, 1), np.uint8), 2, 0, 2).batches([0])
    )  # so that everything is imported
    with h5py.File(path) as file:
        turns = Turns(connection, 1, len(file["train"]) // BATCH)
        with contextlib.suppress(Ended):
            for _ in Feed(file["train"], BATCH, 0, memory_bytes).batches(range(ENDLESS)):
                turns()


def speed(path: Path, n: int, memory_bytes: int, rounds: int, steps: int) -> dict[str, float]:
    """Return all measurements of speed and memory."""
    fits = n * IMAGE
    workers = {
        "feed_fits": Worker(read, path, fits),
        "feed_windows": Worker(read, path, memory_bytes),
        "step": Worker(train, path, None, steps),
        "fit_fits": Worker(train, path, fits, steps),
        "fit_windows": Worker(train, path, memory_bytes, steps),
    }
    rates: dict[str, list[float]] = {name: [] for name in workers}
    names = list(workers)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(workers[name].turn())
        print("  ".join(f"{name} {rates[name][-1]:.0f}" for name in names), "images/s", flush=True)
    growth = {name: worker.end() for name, worker in workers.items()}

    # The mean over all turns: a median would hide the turns that read a new window.
    rate = {name: statistics.harmonic_mean(values) for name, values in rates.items()}

    return {
        **{f"{name}_images_per_second": rate[name] for name in names},
        "ratio_feed_to_step_fits": rate["feed_fits"] / rate["step"],
        "ratio_feed_to_step_windows": rate["feed_windows"] / rate["step"],
        "feed_cost_fraction_fits": 1 - rate["fit_fits"] / rate["step"],
        "feed_cost_fraction_windows": 1 - rate["fit_windows"] / rate["step"],
        "feed_memory_beyond_bound_mb_fits": growth["feed_fits"] - fits / 1e6,
        "feed_memory_beyond_bound_mb_windows": growth["feed_windows"] - memory_bytes / 1e6,
        "fit_memory_beyond_bound_mb_fits": growth["fit_fits"] - growth["step"] - fits / 1e6,
        "fit_memory_beyond_bound_mb_windows": (
            growth["fit_windows"] - growth["step"] - memory_bytes / 1e6
        ),
    }


def variance_ratio(n: int, window_images: int) -> float:
    """Return the variance of class counts in batches of a sorted file of ten classes, relative to
    that in random batches (hypergeometric)."""
    labels = (np.arange(n) * 10 // n).astype(np.uint8).reshape(n, 1, 1, 1)
    feed = Feed(labels, BATCH, 0, 2 * window_images)
    squares = []
    for batch in itertools.islice(feed.batches(range(ENDLESS)), max(feed.steps, 2000)):
        squares.append((np.bincount(batch.ravel(), minlength=10) - BATCH / 10) ** 2)
    return float(np.mean(squares) / (BATCH * 0.1 * 0.9 * (n - BATCH) / (n - 1)))


def class_images(n: int, seed: int) -> np.ndarray:
    """Return uint8 (n, 32, 32, 1), sorted by class: waves whose direction and brightness depend on
    the class, and whose phase depends on the image."""
    label = (np.arange(n) * 10 // n)[:, None, None, None]
    phase = np.random.default_rng(seed).uniform(0, 6.28, (n, 1, 1, 1))
    y, x = np.mgrid[:32, :32][..., None] / 5
    waves = np.sin(np.cos(label) * y + np.sin(label) * x + phase)
    return np.round(20 + 15 * label + 40 * (1 + waves)).astype(np.uint8)


class InFileOrder:
    """A feed without shuffling."""

    def __init__(self, images: np.ndarray, batch_size: int):
        self.images, self.batch_shape = images, (batch_size, *images.shape[1:])

    def batches(self, epochs: Iterable[int], first: int = 0) -> Iterator[np.ndarray]:
        size = self.batch_shape[0]
        for _ in epochs:
            yield from (
                self.images[k : k + size] for k in range(0, len(self.images) - size + 1, size)
            )


def learn(connection: Connection, n: int, window_images: int, seeds: int) -> None:
    """Send, for each way to shuffle and each seed, the held-out objective after one epoch."""
    from svae.jobs import devices
    from svae.model import batch_norm

    devices.set_up(None, SETTINGS.threads)
    from svae.training.loop import prepared
    from svae.training.terms import Evaluator

    connection.send("ready")
    settings, size = dataclasses.replace(SETTINGS, latent_maps=8), 50
    ordered, valid = class_images(n, 1), class_images(1000, 2)
    shuffled = np.random.default_rng(3).permutation(ordered)
    reached: dict[str, list[float]] = {}
    for seed in range(seeds):
        ways = {
            "windows": Feed(ordered, size, seed, 2 * window_images * 1024),
            "shuffled_before": Feed(shuffled, size, seed, n * 1024),
            "not_shuffled": InFileOrder(ordered, size),
        }
        for name, feed in ways.items():
            run = Training(settings, (32, 32, 1), n // size, seed)
            for batch in prepared(feed, range(1)):
                run.step(batch)
            model = run.model
            batch_norm.reestimate(model, feed.batches([1]))
            evaluator = Evaluator(model)
            terms = evaluator.objective(evaluator(valid))
            reached.setdefault(name, []).append(terms["objective_sse_plus_w_kl"])
    connection.recv()
    connection.send(reached)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--memory-mb", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    n, memory_bytes = arguments.images, arguments.memory_mb * 10**6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.h5"
        make_store(path, n)
        result = speed(path, n, memory_bytes, arguments.rounds, arguments.steps)
    result["variance_ratio_sorted"] = variance_ratio(n, memory_bytes // 2 // IMAGE)
    # Windows of a tenth of the file, with the fewest and shortest runs that the feed ever uses.
    for name, values in Worker(learn, 20_480, 2048, arguments.seeds).turn().items():
        print(f"sorted by class, {name}: objective {', '.join(f'{v:.2f}' for v in values)}")
        result[f"objective_sorted_{name}"] = statistics.mean(values)
        if len(values) > 1:
            result[f"objective_sorted_{name}_spread"] = statistics.stdev(values)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
