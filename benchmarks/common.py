"""Shared by the training benchmarks: settings, stores, and single training steps."""

import contextlib
import dataclasses
import math
import os
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from turns import BATCH, Ended, Turns

from svae.datasets.feed import Feed
from svae.datasets.store_writer import Writer
from svae.settings.training import TrainingSettings

SHAPE = (64, 64, 3)
IMAGE = math.prod(SHAPE)  # bytes
ENDLESS = 10**6  # epochs
SETTINGS = TrainingSettings(  # otherwise the defaults
    posterior="low_rank",
    low_rank_start="published",
    kl_weight=5.3,
    epochs=1,
    batch_size=BATCH,
    learning_rate=0.001,
    learning_rate_schedule="constant",
    learning_rate_warmup_epochs=0.0,
    threads=os.cpu_count() or 1,
)


def make_store(path: Path, n: int, shape: tuple[int, int, int] = SHAPE) -> None:
    """Write a store of `n` noise images."""
    rng = np.random.default_rng(0)
    with Writer(path) as writer:
        for start in range(0, n, 1000):
            noise = rng.integers(0, 256, (min(1000, n - start), *shape), np.uint8)
            writer.append("train", noise)
        writer.finish({"padding": 0})


class Training:
    """A new model for images of `shape`, and its training step as in svae.training.loop.

    `steps`: per epoch. TensorFlow must already be set up.
    """

    def __init__(
        self, settings: TrainingSettings, shape: tuple[int, int, int], steps: int, seed: int = 0
    ):
        import tensorflow as tf

        from svae.model.vae import SpatialVAE
        from svae.training.step import TrainingStep

        self.model = SpatialVAE(shape, 0, settings, seed)
        self.compiled = tf.function(
            TrainingStep(self.model, steps, 0.3), jit_compile=settings.jit_compile
        )
        self.count = tf.constant(0, tf.int64)

    def step(self, images: Any) -> dict[str, float]:
        """Take one step on these images; return the terms of the loss."""
        terms = self.compiled(images, self.count)
        self.count += 1
        return {name: float(value) for name, value in terms.items()}


def train(
    connection: Connection,
    path: Path,
    memory_bytes: int | None,
    steps: int,
    settings: TrainingSettings = SETTINGS,
    shape: tuple[int, int, int] = SHAPE,
) -> None:
    """Take `steps` training steps per turn, from a feed or from one batch in memory."""
    from svae.jobs import devices

    devices.set_up(None, settings.threads)
    import tensorflow as tf

    from svae.training.loop import prepared

    settings = dataclasses.replace(settings, epochs=ENDLESS)
    with h5py.File(path) as file:
        images = file["train"]
        step = Training(settings, shape, len(images) // BATCH).step
        batches = tf.data.Dataset.from_tensors(images[:BATCH]).repeat()
        for batch in batches.take(5):  # traced before memory is measured
            step(batch)
        turns = Turns(connection, 5, steps)
        if memory_bytes is not None:
            batches = prepared(Feed(images, BATCH, 0, memory_bytes), range(ENDLESS))
        with contextlib.suppress(Ended):
            for batch in batches:
                step(batch)
                turns()
