"""Training of one variant, from an h5 store to a finished run folder."""

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from svae import batch_norm
from svae.datasets.store import Store
from svae.errors import UserError
from svae.evaluation import Evaluator
from svae.files import file_hash, replacing, write_json
from svae.model import SpatialVAE
from svae.progress import Progress, Terminal
from svae.provenance import software
from svae.runs import RunFolder, identity
from svae.settings.training import TrainingSettings

log = logging.getLogger(__name__)


def train(
    store_path: Path | str,
    folder: Path | str,
    settings: TrainingSettings,
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
    holds an earlier part of this very run is continued; any other run in it is set aside.

    UserError: fewer training images than a batch, a loss that is no longer finite, or another
    process that trains in the folder.
    """
    run = RunFolder(folder)
    with run.only_writer():
        _train(store_path, run, settings, variant, seed, code, device, Path(lock_folder))


def _train(
    store_path: Path | str,
    run: RunFolder,
    settings: TrainingSettings,
    variant: str,
    seed: int,
    code: str,
    device: str,
    lock_folder: Path,
) -> None:
    with Store(store_path) as store:
        images = {split: store.images(split) for split in ("train", "valid", "test")}
        attributes, checksum = store.attributes, store.checksum
        shape, padding = store.shape, store.padding
    steps = len(images["train"]) // settings.batch_size
    if steps == 0:
        raise UserError(
            f"training.batch_size is {settings.batch_size}, but {store_path} has "
            f"{len(images['train'])} training images; lower it"
        )
    goes_on = run.prepare(identity(settings, seed, checksum, code))
    model = SpatialVAE(shape, padding, settings, seed)
    model.compile_for(steps, float(np.var(images["train"] / np.float32(127.5))))
    records: list[dict[str, Any]] = []
    if goes_on:
        model.load_weights(run.checkpoint)
        records = run.read_history()[: int(model.optimizer.iterations) // steps]
        log.info("%s: goes on behind epoch %d", variant, len(records))
    log.info("%s: %s", variant, device)

    evaluator = Evaluator(model)
    with contextlib.closing(Terminal(lock_folder)) as terminal:
        model.fit(
            _batches(images["train"], settings, seed, first_epoch=len(records)),
            epochs=settings.epochs,
            initial_epoch=len(records),
            steps_per_epoch=steps,
            verbose=0,
            shuffle=False,
            callbacks=[
                _History(run, records, evaluator, images["valid"]),
                keras.callbacks.TensorBoard(run.tensorboard, write_graph=False),
                Progress(variant, settings.epochs, steps * settings.batch_size, records, terminal),
            ],
        )

    final = _finish(model, evaluator, images, settings.batch_size)
    _save_weights(model, run.weights)
    w = model.equivalent_weight()
    record = {
        "variant": variant,
        "seed": seed,
        "dataset": attributes["dataset"],
        "dataset_checksum": checksum,
        "image_shape": list(shape),
        "padding": padding,
        "dimension": model.dimension,
        "settings": asdict(settings),
        "objective": settings.objective,
        **weights_of(w, model.decoder_variance()),
        "parameters": sum(math.prod(weight.shape) for weight in model.trainable_variables),
        "epochs": settings.epochs,
        "steps": settings.epochs * steps,
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


def _batches(
    images: np.ndarray, settings: TrainingSettings, seed: int, first_epoch: int
) -> tf.data.Dataset:
    """Shuffled uint8 batches, epoch after epoch; seed and epoch alone decide an epoch's order."""
    size = settings.batch_size

    def generate() -> Iterator[np.ndarray]:
        for epoch in range(first_epoch, settings.epochs):
            order = np.random.default_rng([seed, epoch]).permutation(len(images))
            for start in range(0, len(images) - size + 1, size):
                yield images[np.sort(order[start : start + size])]

    signature = tf.TensorSpec((size, *images.shape[1:]), tf.uint8)
    return tf.data.Dataset.from_generator(generate, output_signature=signature).prefetch(2)


class _History(keras.callbacks.Callback):
    """Behind every epoch: validation terms, one history line, a checkpoint."""

    def __init__(self, run: RunFolder, records: list, evaluator: Evaluator, valid: np.ndarray):
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


def _finish(
    model: SpatialVAE, evaluator: Evaluator, images: dict[str, np.ndarray], batch_size: int
) -> dict[str, Any]:
    """Re-estimate the batch-norm statistics, then take the terms of every split."""
    train = images["train"]
    whole = range(0, len(train) - batch_size + 1, batch_size)
    batch_norm.reestimate(model, (train[start : start + batch_size] for start in whole))
    terms = {"train": evaluator(train)}
    if model.settings.decoder_variance == "optimal":
        model.log_variance.assign(math.log(terms["train"]["mse_per_pixel"]))
    terms |= {split: evaluator(images[split]) for split in ("valid", "test")}
    return {split: {**value, **evaluator.objective(value)} for split, value in terms.items()}


def _save_weights(model: SpatialVAE, target: Path) -> None:
    """Write the weights alone, without optimizer."""
    bare = SpatialVAE(model.image_shape, model.padding, model.settings, model.seed)
    bare.set_weights(model.get_weights())
    with replacing(target) as temporary:
        bare.save_weights(temporary)
