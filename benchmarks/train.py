"""Compares the speed of training with PyTorch and Keras, and from a store and from memory.

    python benchmarks/train.py [--torch-python PATH] [--images 10000] [--memory-mb 50]
                               [--rounds 8] [--steps 10]

Measures images per second of low_rank (N = 64, d = 3) on 64x64x3 noise, batch 100, float32, all
cores: this project's training step from a store that fits into the feed's memory, from the same
store with a feed limited to --memory-mb, and from one batch in memory; PyTorch, eager and compiled,
channels_last, from one batch in memory; and Keras layers with `fit`, from one batch in memory. Then
it measures every variant of config.yaml, one after the other, as the workflow runs them: the time
for an equal number of steps, this project's from the store, PyTorch's in the faster of its two
modes. Start-up, tracing and compilation do not count for either. All take turns, each in its
own process, which waits in between. Before that, both train 100 steps from the same weights
on the same images and noise, without dropout, and the difference of their final losses is reported.

At full size: --images 202599 --memory-mb 500 --steps 220 (2.5 GB of temporary space).
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from common import ENDLESS, IMAGE, SETTINGS, SHAPE, Training, make_store, train
from turns import BATCH, Ended, Script, Turns, Worker

from svae.config.resolve import resolve
from svae.settings.training import TrainingSettings

ROOT = Path(__file__).parent.parent
STEPS_COMPARED = 100


def variants(dataset: str = "celeba") -> dict[str, TrainingSettings]:
    """Return the variants of config.yaml for a data set, by default of 64x64x3, on all cores."""
    raw = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    raw |= {"dataset": dataset, "sources": {}}
    found = resolve(raw, ROOT).variants
    return {
        name: dataclasses.replace(settings, threads=SETTINGS.threads, batch_size=BATCH)
        for name, settings in found.items()
    }


def waves(n: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Return smooth images that a model can learn, uint8 (n, batch, *shape)."""
    rng = np.random.default_rng(1)
    down, right, phase = rng.uniform(0, 0.5, (3, n, BATCH, 1, 1, shape[2]))
    y, x = np.mgrid[: shape[0], : shape[1]][..., None]
    return np.round(127.5 * (1 + np.sin(down * y + right * x + 6 * phase))).astype(np.uint8)


def prepare(
    connection: Connection,
    path: Path,
    settings: TrainingSettings,
    shape: tuple[int, int, int] = SHAPE,
) -> None:
    """Write PyTorch's inputs: geometry, weights, images and noise; send our own losses."""
    from svae.jobs import devices

    devices.set_up(None, settings.threads)
    import tensorflow as tf

    from svae.model import keyed_random
    from svae.streams import Stream

    run = Training(dataclasses.replace(settings, dropout=0.0), shape, STEPS_COMPARED)
    model = run.model
    data: dict[str, Any] = {}
    blocks: dict[str, list] = {}
    for part in ("encoder", "decoder"):
        for index, block in enumerate(getattr(model, part).blocks):
            layer, norm = block.convolution, block.batch_norm
            data[f"{part}.{index}.kernel"] = layer.kernel.numpy()
            data[f"{part}.{index}.gamma"] = norm.gamma.numpy()
            data[f"{part}.{index}.beta"] = norm.beta.numpy()
            inputs = layer.kernel.shape[2 if part == "encoder" else 3]
            geometry = [inputs, layer.filters, layer.kernel_size[0], layer.strides[0]]
            blocks.setdefault(part, []).append([*geometry, layer.padding])
    data["outputs.kernel"] = model.encoder.outputs.kernel.numpy()
    data["outputs.bias"] = model.encoder.outputs.bias.numpy()
    chosen = ("posterior", "latent_maps", "latent_size", "dropout", "kl_weight", "learning_rate")
    plan = {name: getattr(settings, name) for name in chosen}
    plan |= {"side": shape[0], "dimension": model.dimension, **blocks}
    plan["outputs"] = len(data["outputs.bias"])
    data["plan"] = json.dumps(plan)
    data["images"] = waves(10, shape)
    data["noise"] = np.stack(
        [
            keyed_random.normal(
                (BATCH, *model.latent_shape),
                keyed_random.key(model.seed, Stream.TRAINING_LATENTS, i),
            )
            for i in range(STEPS_COMPARED)
        ]
    )
    np.savez(path, **data)
    connection.send("ready")
    if connection.recv() == "go":
        images = itertools.cycle(data["images"])
        connection.send(
            [run.step(tf.constant(next(images)))["loss"] for _ in range(STEPS_COMPARED)]
        )
        connection.recv()
    connection.send(0.0)  # asked to end


def keras_fit(connection: Connection, steps: int) -> None:
    """Train the same low_rank model with Keras layers and `fit`, with TensorFlow's defaults."""
    import keras
    import tensorflow as tf
    from keras import layers

    settings = SETTINGS
    d, n, dimension = settings.latent_size, settings.latent_maps, IMAGE

    def block(layer: keras.layers.Layer, x: Any, activation: str = "elu") -> Any:
        x = layers.BatchNormalization(momentum=0.9, epsilon=1e-3)(layer(x))
        return layers.Activation(activation)(x)

    class Sample(layers.Layer):
        """Encoder outputs -> one posterior sample; adds the KL to the loss."""

        def call(self, raw: Any) -> Any:
            mu, nu, rows, columns = tf.split(tf.reshape(raw, [-1, 4 * d, n]), 4, 1)
            loc = mu[:, :, None] * nu[:, None]
            log_var = rows[:, :, None] + columns[:, None]
            kl = 0.5 * (tf.square(loc) + tf.exp(log_var) - log_var - 1)
            kl = tf.reduce_mean(tf.reduce_sum(kl, [1, 2, 3]))
            self.add_loss(settings.kl_weight * kl / dimension)
            return loc + tf.exp(0.5 * log_var) * tf.random.normal(tf.shape(loc))

    inputs = x = keras.Input(SHAPE)
    for filters, padding in ((32, "same"), (64, "same"), (128, "valid")):
        x = block(layers.Conv2D(filters, 5, 2, padding, use_bias=False), x)
    x = layers.Dropout(settings.dropout)(layers.Flatten()(x))
    x = Sample()(layers.Dense(4 * d * n)(x))
    for filters, kernel, strides, padding in (
        (64, 3, 2, "same"),
        (32, 3, 1, "valid"),
        (32, 5, 2, "same"),
        (16, 5, 2, "same"),
        (3, 5, 2, "same"),
    ):
        layer = layers.Conv2DTranspose(filters, kernel, strides, padding, use_bias=False)
        x = block(layer, x, "tanh" if filters == SHAPE[2] else "elu")
    model = keras.Model(inputs, x)
    adam = keras.optimizers.Adam(settings.learning_rate, epsilon=1e-8)
    model.compile(adam, "mse", jit_compile=False)
    images = np.random.default_rng(0).integers(0, 256, (BATCH, *SHAPE), np.uint8)
    batches = tf.data.Dataset.from_tensors((images / 127.5 - 1).astype(np.float32))
    batches = batches.map(lambda x: (x, x)).cache().repeat()
    turns = Turns(connection, 5, steps)
    after_batch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: turns())
    with contextlib.suppress(Ended):
        model.fit(batches, steps_per_epoch=ENDLESS, verbose=0, callbacks=[after_batch])


def measure(workers: dict[str, Worker], rounds: int) -> dict[str, list[float]]:
    """Return the images per second of each worker, turn by turn; then end the processes."""
    rates: dict[str, list[float]] = {name: [] for name in workers}
    names = list(workers)
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            rates[name].append(workers[name].turn())
        print("  ".join(f"{name} {rates[name][-1]:.0f}" for name in names), "images/s", flush=True)
    for worker in workers.values():
        worker.end()
    return rates


def ratio(rates: dict[str, list[float]], name: str, other: str) -> float:
    """Return the median ratio over the rounds; within a round both had similar conditions."""
    return statistics.median(a / b for a, b in zip(rates[name], rates[other], strict=True))


def find_torch(given: str | None) -> str:
    """Return an interpreter that can import torch."""
    if given is None and importlib.util.find_spec("torch"):
        return sys.executable
    command = [given or sys.executable, "-c", "import numpy, torch"]
    with contextlib.suppress(OSError):
        if given and subprocess.run(command, capture_output=True).returncode == 0:
            return given
    raise SystemExit(
        f"{given or sys.executable} cannot import torch and numpy, which this benchmark needs for "
        f"the comparison. Make a separate environment:\n"
        f"  python3 -m venv torchvenv\n"
        f"  torchvenv/bin/pip install torch==2.13.0 numpy "
        f"--extra-index-url https://download.pytorch.org/whl/cpu\n"
        f"and add --torch-python torchvenv/bin/python"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch-python", help="an interpreter with torch and numpy")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--memory-mb", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=10)
    arguments = parser.parse_args()
    interpreter = find_torch(arguments.torch_python)
    n, rounds, steps = arguments.images, arguments.rounds, arguments.steps

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "noise.h5"
        make_store(path, n)

        def torch(plan: Path, mode: str) -> Script:
            return Script(interpreter, ROOT / "benchmarks/torch_vae.py", plan, mode, steps)

        def prepared(name: str, settings: TrainingSettings) -> tuple[Path, Worker]:
            plan = Path(folder) / f"{name}.npz"
            return plan, Worker(prepare, plan, settings)

        plan, ours = prepared("one", SETTINGS)
        losses = ours.turn()
        ours.end()
        others = torch(plan, "losses").turn()
        difference = abs(others[-1] / losses[-1] - 1)
        print(f"loss {losses[0]:.1f} -> {losses[-1]:.3f}, PyTorch's {others[-1]:.3f}", flush=True)

        memory = arguments.memory_mb * 10**6
        rates = measure(
            {
                "constant": Worker(train, path, None, steps),
                "fits": Worker(train, path, n * IMAGE, steps),
                "windows": Worker(train, path, memory, steps),
                "torch_eager": torch(plan, "eager"),
                "torch_compiled": torch(plan, "compiled"),
                "keras_fit": Worker(keras_fit, steps),
            },
            rounds,
        )
        medians = {name: statistics.median(values) for name, values in rates.items()}
        best = max("torch_eager", "torch_compiled", key=medians.get)
        # The mean over all turns: a median would hide the turns that read a new window.
        total = {name: statistics.harmonic_mean(values) for name, values in rates.items()}
        costs = {name: 1 - total[name] / total["constant"] for name in ("fits", "windows")}

        by_variant: dict[str, list[float]] = {}
        for name, settings in variants().items():
            plan, ours = prepared(name, settings)
            ours.end()
            workers = {
                "ours": Worker(train, path, n * IMAGE, steps, settings),
                "torch": torch(plan, best.removeprefix("torch_")),
            }
            print(name, flush=True)
            found = measure(workers, max(2, rounds // 2))
            by_variant[name] = [statistics.median(found[side]) for side in ("ours", "torch")]
        seconds = [sum(1 / rates[side] for rates in by_variant.values()) for side in (0, 1)]

    result = {
        "ratio_to_pytorch_one_variant": ratio(rates, "fits", best),
        "ratio_to_pytorch_all_variants": seconds[1] / seconds[0],
        "feed_cost_fraction": max(costs.values()),
        "feed_cost_fraction_fits": costs["fits"],
        "feed_cost_fraction_windows": costs["windows"],
        "relative_loss_difference_after_100_steps": difference,
        "ratio_to_keras_fit": ratio(rates, "fits", "keras_fit"),
        "pytorch_way": best.removeprefix("torch_"),
        **{f"{name}_images_per_second": value for name, value in medians.items()},
        "variants_images_per_second": {
            name: {"ours": ours, "pytorch": other} for name, (ours, other) in by_variant.items()
        },
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
