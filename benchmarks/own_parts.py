"""Compares our own Adam and layers with Keras'.

    python benchmarks/own_parts.py [--rounds 5] [--steps 10]

Takes the training step of low_rank (N = 64, d = 3) on 64x64x3 noise, batch 100, float32, all cores,
as it is and with one of these taken from Keras: Adam, the transposed convolutions, batch norm; and
with all three. They take turns of --steps steps in one process. Prints medians over --rounds: per
step, milliseconds and milliseconds of CPU time of all threads, and the ratios of both to those of
the unchanged step in the same round. On a busy machine, only the CPU time is meaningful. The last
line is one JSON object.
"""

import argparse
import contextlib
import json
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
from common import SETTINGS, SHAPE, Training
from turns import BATCH


def steps_by_way() -> dict[str, Callable[[], Any]]:
    """A traced training step for each choice of the parts that are Keras'."""
    import keras
    import tensorflow as tf

    from svae.model import fast_layers
    from svae.training import step

    keras_parts = {
        "adam": (step, "Adam", keras.optimizers.Adam),
        "transposed_convolution": (
            fast_layers,
            "transposed_convolution",
            lambda layer, x: layer(x),
        ),
        "batch_norm": (fast_layers, "batch_norm", lambda layer, x: layer(x, training=True)),
    }
    ways = {"ours": [], **{f"keras_{part}": [part] for part in keras_parts}}
    ways["keras_all"] = list(keras_parts)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (BATCH, *SHAPE), np.uint8))
    steps = {}
    for way, parts in ways.items():
        with contextlib.ExitStack() as patches:
            for part in parts:
                patches.enter_context(mock.patch.object(*keras_parts[part]))
            training = Training(SETTINGS, SHAPE, steps=1000)
            for _ in range(3):
                training.step(images)
        steps[way] = lambda training=training: training.step(images)
    return steps


def clocks() -> np.ndarray:
    """Wall-clock seconds, and CPU seconds of all threads of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()

    from svae.jobs import devices

    devices.set_up(None, SETTINGS.threads)
    steps = steps_by_way()
    times: dict[str, list[np.ndarray]] = {way: [] for way in steps}
    for _ in range(arguments.rounds):
        for way, step in steps.items():
            start = clocks()
            for _ in range(arguments.steps):
                step()
            times[way].append((clocks() - start) / arguments.steps * 1e3)
    found = {}
    for way, values in times.items():
        ratios = np.divide(values, times["ours"])
        (ms, cpu_ms), (ratio, cpu_ratio) = (np.median(x, axis=0) for x in (values, ratios))
        found[way] = {"ms": ms, "cpu_ms": cpu_ms, "ratio": ratio, "cpu_ratio": cpu_ratio}
        print(
            f"{way:30} {ms:7.1f} ms, {ratio:.2f} times ours; "
            f"CPU time {cpu_ms:7.1f} ms, {cpu_ratio:.2f} times ours"
        )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
