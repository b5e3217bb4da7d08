"""Does feeding from the h5 store keep up with training, within its memory, and shuffle well enough?

    python benchmarks/feed.py [--images 20000] [--memory-mb 100] [--rounds 8] [--steps 20]

Trains low_rank (N = 64, d = 3) on 64x64x3 noise, batch 100, all cores, from one batch in memory,
from a store that fits into the feed's memory, and from the same store with a feed that may only
take --memory-mb; and reads both feeds alone. All five take turns, each in a process of its own that
waits in between. Then a file sorted by class is shuffled through windows: how its batches vary, and
what a small training on it reaches beside one on images shuffled beforehand, and beside one that is
not shuffled. At full size: --images 202599 --memory-mb 500 --steps 220 (2.5 GB of temporary space).
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from svae.datasets.feed import Feed
from svae.datasets.store_writer import Writer
from svae.settings.training import TrainingSettings

SHAPE, BATCH = (64, 64, 3), 100
IMAGE = 64 * 64 * 3  # bytes
ENDLESS = 10**6  # epochs
SETTINGS = TrainingSettings(
    posterior="low_rank",
    latent_maps=64,
    latent_size=3,
    dropout=0.1,
    objective="weighted",
    kl_weight=5.3,
    decoder_variance=None,
    decoder_variance_learning_rate=None,
    beta=1.0,
    kl_warmup_epochs=0.0,
    epochs=1,
    batch_size=BATCH,
    learning_rate=1e-3,
    learning_rate_schedule="constant",
    learning_rate_warmup_epochs=0.0,
    gradient_clip_norm=None,
    early_stopping_patience=None,
    precision="float32",
    jit_compile=False,
    image_memory_mb=1000,
    threads=os.cpu_count() or 1,
)


def make_store(path: Path, n: int) -> None:
    """A store of noise."""
    rng = np.random.default_rng(0)
    with Writer(path) as writer:
        for start in range(0, n, 1000):
            noise = rng.integers(0, 256, (min(1000, n - start), *SHAPE), np.uint8)
            writer.append("train", noise)
        writer.finish({"padding": 0})


def peak_mb() -> float:
    """The most memory that this process has had, in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024 / 1e6


class Worker:
    """A process that reads or trains when told to, and says how fast it was."""

    def __init__(self, target: Callable[..., None], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self.process.start()
        other.close()
        self.connection.recv()  # ready

    def turn(self) -> float:
        """Images per second."""
        self.connection.send("go")
        return self.connection.recv()

    def end(self) -> float:
        """The growth of its memory since it was ready, in MB."""
        self.connection.send("end")
        growth = self.connection.recv()
        self.process.join()
        return growth


class Ended(Exception):
    pass


class Turns:
    """The worker's side: called behind every batch, it waits where a turn ends."""

    def __init__(self, connection: Connection, warm_up: int, batches: int):
        self.connection, self.left, self.batches = connection, warm_up, batches
        self.start: float | None = None
        self.memory = peak_mb()

    def __call__(self) -> None:
        self.left -= 1
        if self.left:
            return
        seconds = 0.0 if self.start is None else time.perf_counter() - self.start
        self.connection.send(self.batches * BATCH / seconds if seconds else "ready")
        if self.connection.recv() == "end":
            self.connection.send(peak_mb() - self.memory)
            raise Ended
        self.left, self.start = self.batches, time.perf_counter()


def read(connection: Connection, path: Path, memory_bytes: int) -> None:
    """An epoch a turn of the feed alone."""
    list(Feed(np.zeros((8, 1, 1, 1), np.uint8), 2, 0, 2).batches([0]))  # so that all is imported
    with h5py.File(path) as file:
        turns = Turns(connection, 1, len(file["train"]) // BATCH)
        with contextlib.suppress(Ended):
            for _ in Feed(file["train"], BATCH, 0, memory_bytes).batches(range(ENDLESS)):
                turns()


def train(connection: Connection, path: Path, memory_bytes: int | None, steps: int) -> None:
    """`steps` training steps a turn from a feed, or from one batch in memory."""
    from svae import devices

    devices.set_up(None, SETTINGS.threads)
    import keras
    import tensorflow as tf

    from svae.model import SpatialVAE
    from svae.training import as_dataset

    model = SpatialVAE(SHAPE, 0, SETTINGS, 0)
    model.compile_for(1, 0.3)
    with h5py.File(path) as file:
        images = file["train"]
        constant = tf.data.Dataset.from_tensors(images[:BATCH]).repeat()
        # Traced before memory is looked at.
        model.fit(constant, steps_per_epoch=5, verbose=0, shuffle=False)
        turns = Turns(connection, 5, steps)
        batches = constant
        if memory_bytes is not None:
            batches = as_dataset(Feed(images, BATCH, 0, memory_bytes), range(ENDLESS))
        behind = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: turns())
        with contextlib.suppress(Ended):
            model.fit(
                batches, steps_per_epoch=ENDLESS, verbose=0, shuffle=False, callbacks=[behind]
            )


def speed(path: Path, n: int, memory_bytes: int, rounds: int, steps: int) -> dict[str, float]:
    """All figures of speed and memory."""
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

    # Over all turns: in a median, turns without a new window would hide those with one.
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
    """Variance of the classes' counts in the batches of a file of ten classes, sorted, over what it
    is in random batches (hypergeometric)."""
    labels = (np.arange(n) * 10 // n).astype(np.uint8).reshape(n, 1, 1, 1)
    feed = Feed(labels, BATCH, 0, 2 * window_images)
    squares = []
    for batch in itertools.islice(feed.batches(range(ENDLESS)), max(feed.steps, 2000)):
        squares.append((np.bincount(batch.ravel(), minlength=10) - BATCH / 10) ** 2)
    return float(np.mean(squares) / (BATCH * 0.1 * 0.9 * (n - BATCH) / (n - 1)))


def class_images(n: int, seed: int) -> np.ndarray:
    """uint8 (n, 32, 32, 1), sorted by class: waves whose direction and brightness are the class's,
    their phase the image's."""
    label = (np.arange(n) * 10 // n)[:, None, None, None]
    phase = np.random.default_rng(seed).uniform(0, 6.28, (n, 1, 1, 1))
    y, x = np.mgrid[:32, :32][..., None] / 5
    waves = np.sin(np.cos(label) * y + np.sin(label) * x + phase)
    return np.round(20 + 15 * label + 40 * (1 + waves)).astype(np.uint8)


class InFileOrder:
    """A feed that shuffles nothing."""

    def __init__(self, images: np.ndarray, batch_size: int):
        self.images, self.batch_shape = images, (batch_size, *images.shape[1:])

    def batches(self, epochs: Iterable[int]) -> Iterator[np.ndarray]:
        size = self.batch_shape[0]
        for _ in epochs:
            yield from (
                self.images[k : k + size] for k in range(0, len(self.images) - size + 1, size)
            )


def learn(connection: Connection, n: int, window_images: int, seeds: int) -> None:
    """Sends, for each way to shuffle, what one epoch reaches on held-out images, seed by seed."""
    from svae import batch_norm, devices

    devices.set_up(None, SETTINGS.threads)
    from svae.evaluation import Evaluator
    from svae.model import SpatialVAE
    from svae.training import as_dataset

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
            model = SpatialVAE((32, 32, 1), 0, settings, seed)
            model.compile_for(n // size, 0.3)
            batches = as_dataset(feed, range(1))
            model.fit(batches, steps_per_epoch=n // size, verbose=0, shuffle=False)
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
    # Windows of a tenth, of as few and short runs as the feed ever makes.
    for name, values in Worker(learn, 20_480, 2048, arguments.seeds).turn().items():
        print(f"sorted by class, {name}: objective {', '.join(f'{v:.2f}' for v in values)}")
        result[f"objective_sorted_{name}"] = statistics.mean(values)
        result[f"objective_sorted_{name}_spread"] = statistics.stdev(values)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
