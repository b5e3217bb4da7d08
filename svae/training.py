"""Training of one variant, from an h5 store to a finished run folder."""

import contextlib
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

from svae import batch_norm
from svae.datasets.feed import Feed
from svae.datasets.store import Store
from svae.errors import UserError
from svae.evaluation import Evaluator
from svae.files import file_hash, replacing, write_json
from svae.model import SpatialVAE
from svae.progress import Progress, Terminal
from svae.provenance import software
from svae.runs import RunFolder, identity
from svae.settings.services import Services
from svae.settings.training import TrainingSettings

log = logging.getLogger(__name__)

_BLOCK = 256  # images


def train(
    store_path: Path | str,
    folder: Path | str,
    settings: TrainingSettings,
    services: Services,
    *,
    variant: str,
    seed: int,
    code: str,
    device: str,
    lock_folder: Path | str,
) -> None:
    """Train a variant and write `folder`/run.json, last of all files of the run folder.

    `code`: fingerprint of this stage's modules; `device`: the line that says where it runs, both
    recorded; `lock_folder`: where trainings tell each other that they run. The result is a function
    of the store's pixels, the settings (threads included), the seed and the code. A folder that
    holds an earlier part of this very run is continued; any other run in it is set aside. The store
    stays open meanwhile; its images take `settings.image_memory_mb`, whatever their number.

    UserError: fewer training images than a batch, a loss that is no longer finite, or another
    process that trains in the folder.
    """
    run = RunFolder(folder)
    with run.only_writer(), Store(store_path) as store:
        count = store.count("train")
        if count < settings.batch_size:
            raise UserError(
                f"training.batch_size is {settings.batch_size}, but {store_path} has {count} "
                f"training images; lower it"
            )
        _train(store, run, settings, variant, seed, code, device, Path(lock_folder))


def _train(
    store: Store,
    run: RunFolder,
    settings: TrainingSettings,
    variant: str,
    seed: int,
    code: str,
    device: str,
    lock_folder: Path,
) -> None:
    goes_on = run.prepare(identity(settings, seed, store.checksum, code))
    images = store.split("train")
    feed = Feed(images, settings.batch_size, seed, settings.image_memory_mb * 10**6)
    model = SpatialVAE(store.shape, store.padding, settings, seed)
    # Nothing else is worth a pass over the images.
    learned = settings.decoder_variance == "learned"
    model.compile_for(feed.steps, _data_variance(images) if learned else math.nan)
    records: list[dict[str, Any]] = []
    if goes_on:
        model.load_weights(run.checkpoint)
        records = run.read_history()[: int(model.optimizer.iterations) // feed.steps]
        log.info("%s: goes on behind epoch %d", variant, len(records))
    log.info("%s: %s", variant, device)

    evaluator = Evaluator(model)
    with contextlib.closing(Terminal(lock_folder)) as terminal:
        model.fit(
            as_dataset(feed, range(len(records), settings.epochs)),
            epochs=settings.epochs,
            initial_epoch=len(records),
            steps_per_epoch=feed.steps,
            verbose=0,
            shuffle=False,
            callbacks=[
                _History(run, records, evaluator, store.split("valid")),
                keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
                Progress(
                    variant,
                    settings.epochs,
                    feed.steps * settings.batch_size,
                    records,
                    terminal,
                ),
            ],
        )

    final = _finish(model, evaluator, store, feed)
    _save_weights(model, run.weights)
    w = model.equivalent_weight()
    record = {
        "variant": variant,
        "seed": seed,
        "dataset": store.attributes["dataset"],
        "dataset_checksum": store.checksum,
        "image_shape": list(store.shape),
        "padding": store.padding,
        "dimension": model.dimension,
        "settings": asdict(settings),
        "objective": settings.objective,
        **weights_of(w, model.decoder_variance()),
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_variables),
        "epochs": settings.epochs,
        "steps": settings.epochs * feed.steps,
        "training_seconds": sum(line["seconds"] for line in records),
        "device": device,
        "threads": settings.threads,
        "batch_norm": "moving statistics, re-estimated over the training images after training",
        **final,
        "weights_sha256": file_hash(run.weights),
        "code": code,
        "software": software("tensorflow", "keras", "numpy", "h5py"),
    }
    write_json(run.record, record)


def weights_of(w: float, decoder_variance: float | None) -> dict[str, float | None]:
    """The KL weight and what it equals, as every history line and result shows them."""
    return {
        "kl_weight": w,
        "equivalent_variance_at_unit_beta": w / 2,
        "equivalent_beta_at_unit_variance": w / 2,
        "decoder_variance": decoder_variance,
    }


def _data_variance(images: h5py.Dataset) -> float:
    """Variance of all pixels on [-1, 1]; from whole numbers, so that the blocks do not matter."""
    total = squares = 0
    for start in range(0, len(images), _BLOCK):
        block = images[start : start + _BLOCK]
        total += int(block.sum(dtype=np.int64))
        squares += int(np.square(block, dtype=np.uint16).sum(dtype=np.int64))
    count = math.prod(images.shape)
    return (squares * count - total**2) / (count * 127.5) ** 2


def as_dataset(feed: Feed, epochs: range) -> tf.data.Dataset:
    """The batches of these epochs, made ready while the model trains."""
    signature = tf.TensorSpec(feed.batch_shape, tf.uint8)
    return tf.data.Dataset.from_generator(
        lambda: feed.batches(epochs), output_signature=signature
    ).prefetch(2)


class _History(keras.callbacks.Callback):
    """Behind every epoch: validation terms, one history line, a checkpoint."""

    def __init__(self, run: RunFolder, records: list, evaluator: Evaluator, valid: h5py.Dataset):
        super().__init__()
        self.run, self.records, self.evaluator, self.valid = run, records, evaluator, valid

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.start = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        model = self.model
        seconds = time.monotonic() - self.start
        if not all(math.isfinite(logs[name]) for name in ("loss", "sse", "kl")):
            raise UserError(
                f"epoch {epoch + 1}: the loss is not finite (SSE {logs['sse']}, KL {logs['kl']}); "
                f"lower training.learning_rate"
            )
        if model.settings.decoder_variance == "optimal":
            # Of the training batches, not of the images that it then scores.
            model.log_variance.assign(math.log(logs["sse"] / model.dimension))
        terms = self.evaluator(self.valid)
        images = self.params["steps"] * model.settings.batch_size
        record = {
            "epoch": epoch + 1,
            "step": int(model.optimizer.iterations),
            # As minimised, warm-up and beta included: nats under elbo, else squared pixel units.
            "train_loss": float(logs["loss"]),
            "train_sse_per_image": float(logs["sse"]),
            "train_kl_nats_per_image": float(logs["kl"]),
            **{f"valid_{name}": value for name, value in terms.items()},
            **{f"valid_{name}": value for name, value in self.evaluator.objective(terms).items()},
            **weights_of(model.equivalent_weight(), model.decoder_variance()),
            "kl_warmup_factor": float(model.kl_factor()),
            "learning_rate": float(model.optimizer.learning_rate),
            "seconds": seconds,
            "images_per_second": images / seconds,
        }
        # Keras hands the same dict to the callbacks that follow: TensorBoard shows these too.
        logs.update({name: value for name, value in record.items() if isinstance(value, float)})
        self.records.append(record)
        # In this order: a line too many is cut off again, a line too few would repeat its epoch.
        self.run.write_history(self.records)
        with replacing(self.run.checkpoint) as temporary:
            model.save_weights(temporary)


def _finish(model: SpatialVAE, evaluator: Evaluator, store: Store, feed: Feed) -> dict[str, Any]:
    """Re-estimate the batch-norm statistics, then take the terms of every split."""
    # Shuffled, in an order that no epoch had: batches of a file sorted by class are of one class.
    batch_norm.reestimate(model, feed.batches([model.settings.epochs]))
    terms = {"train": evaluator(store.split("train"))}
    if model.settings.decoder_variance == "optimal":
        model.log_variance.assign(math.log(terms["train"]["mse_per_pixel"]))
    terms |= {split: evaluator(store.split(split)) for split in ("valid", "test")}
    return {split: {**value, **evaluator.objective(value)} for split, value in terms.items()}


def _save_weights(model: SpatialVAE, target: Path) -> None:
    """Write the weights alone, without optimizer."""
    bare = SpatialVAE(model.image_shape, model.padding, model.settings, model.seed)
    bare.set_weights(model.get_weights())
    with replacing(target) as temporary:
        bare.save_weights(temporary)
