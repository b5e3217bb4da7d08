"""TensorBoard logs of a run: curves and histograms every epoch, pictures every few epochs."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from svae.errors import UserError
from svae.jobs.files import replacing
from svae.model.vae import scaled
from svae.pixels import to_bytes
from svae.streams import Stream, generator
from svae.training.history import objectives

log = logging.getLogger(__name__)

PICTURE_IMAGES = 32  # validation images of which reconstructions are shown
_COLUMNS, _SAMPLES = 8, 64
# The writers, each with one colour in every chart, and the last tag that each writes per epoch.
_WRITERS = {"train": "training/images_per_second", "validation": "latent/kl_nats_per_map"}
_SAMPLES_TAG, _RECONSTRUCTIONS_TAG = "pictures/samples", "pictures/reconstructions"
# Named like TensorBoard's own files, which it finds by name, and sorted before all of those.
_KEPT = "events.out.tfevents.0000000000.kept"


class TensorBoard(keras.callbacks.Callback):
    """Writes TensorBoard events into `folder`, for `tensorboard --logdir` on it or a parent.

    The step of an event is the epoch, counted from 1. `records`: the history, which contains an
    epoch's record by `on_epoch_end`. `images`: uint8 (n, height, width, channel), from validation.
    Every `picture_epochs` epochs and after the last one (0: never), these are shown above their
    reconstructions from the posterior mean, together with decoder means of prior samples. The z of
    the samples are always the same: those of the first samples that svae.sampling.prior draws with
    this seed. Pictures use the moving batch-norm statistics, and no random state of TensorFlow or
    Keras.

    A resumed training keeps the events of the epochs in `records` and drops later ones; if events
    of earlier epochs were lost, they are rewritten from the records, except the pictures. If events
    cannot be written, because the disk is full or for another reason, logging ends with a warning,
    and the training continues.
    """

    def __init__(
        self,
        folder: Path | str,
        records: list[dict[str, Any]],
        picture_epochs: int,
        images: np.ndarray,
    ):
        super().__init__()
        self.folder, self.records = Path(folder), records
        self.picture_epochs, self.images = picture_epochs, images[:PICTURE_IMAGES]
        self.writers: dict[str, tf.summary.SummaryWriter] = {}

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (tf.errors.OpError, OSError, UserError) as error:
            # Lost events are rewritten from the records when the training is resumed later.
            self.writers, self.picture_epochs = {}, 0
            reason = str(error).strip().splitlines()[0].rpartition("}} ")[2]
            log.warning("warning: stopped writing events for TensorBoard: %s", reason)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        with self._writing():
            self._open()

    def _open(self) -> None:
        folders = {name: self.folder / name for name in _WRITERS}
        ends = (_last_step(folder, _WRITERS[name]) for name, folder in folders.items())
        reached = min(len(self.records), *ends)
        for name, folder in folders.items():
            _drop_after(folder, reached)
            self.writers[name] = tf.summary.create_file_writer(str(folder))
        self.pictured = max(
            (step for step, tag, _ in _events(folders["validation"]) if tag == _SAMPLES_TAG),
            default=0,
        )
        for record in self.records[reached:]:
            self._write_record(record)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with self._writing():
            self._write_record(self.records[epoch])
            if self.picture_epochs and (epoch + 1) % self.picture_epochs == 0:
                self._draw()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        with self._writing():
            if self.picture_epochs and self.pictured < len(self.records):
                self._draw()
            for writer in self.writers.values():
                writer.close()

    def _write_record(self, record: dict[str, Any]) -> None:
        if not self.writers:
            return
        elbo = "valid_elbo_nats_per_image" in record
        objective = "objective_negative_elbo_with_beta" if elbo else "objective_sse_plus_w_kl"
        losses = objectives(record, self.model.dimension)
        variance = {"training/decoder_variance": record["decoder_variance"]} if elbo else {}
        at_unit_beta = "loss/negative_elbo_nats_per_image"
        bound = {at_unit_beta: -record["valid_elbo_nats_per_image"]} if elbo else {}
        scalars = {
            "train": {
                f"loss/{objective}": losses["train"],
                "loss/as_minimised": record["train_loss"],
                "loss/sse_per_image": record["train_sse_per_image"],
                "loss/kl_nats_per_image": record["train_kl_nats_per_image"],
                **variance,
                "training/kl_weight": record["kl_weight"],
                "training/kl_warmup_factor": record["kl_warmup_factor"],
                "training/learning_rate": record["learning_rate"],
                "training/images_per_second": record["images_per_second"],
            },
            "validation": {
                f"loss/{objective}": losses["valid"],
                **bound,
                "loss/sse_per_image": record["valid_sse_per_image"],
                "loss/kl_nats_per_image": record["valid_kl_nats_per_image"],
                "latent/active_entries": record["valid_active_entries"],
                "latent/active_maps": record["valid_active_maps"],
            },
        }
        step = record["epoch"]
        for name, writer in self.writers.items():
            with writer.as_default():
                for tag, value in scalars[name].items():
                    tf.summary.scalar(tag, value, step)
        with self.writers["validation"].as_default():
            per_map = record["valid_kl_nats_per_map"]
            tf.summary.histogram("latent/kl_nats_per_map", tf.constant(per_map), step)
        self._flush()

    def _draw(self) -> None:
        model, step = self.model, len(self.records)
        rng = generator(model.seed, Stream.PRIOR_LATENTS)
        noise = rng.standard_normal((_SAMPLES, *model.latent_shape), np.float32)
        output = to_bytes(model.decode(model.prior.sample(tf.constant(noise))).numpy())
        with self.writers["validation"].as_default():
            tf.summary.image(_SAMPLES_TAG, _grid(output), step)
            tf.summary.image(_RECONSTRUCTIONS_TAG, self._reconstructions(), step)
        self.pictured = step
        self._flush()

    def _reconstructions(self) -> np.ndarray:
        """Rows of images, each above the row of their reconstructions."""
        output = to_bytes(self.model(scaled(tf.constant(self.images))).numpy())
        rows = [
            _grid(part[start : start + _COLUMNS])
            for start in range(0, len(self.images), _COLUMNS)
            for part in (self.images, output)
        ]
        return np.concatenate(rows, axis=1)

    def _flush(self) -> None:
        for writer in self.writers.values():
            writer.flush()


def _grid(images: np.ndarray) -> np.ndarray:
    """uint8 images (n, height, width, channel) in rows of 8 as (1, height', width', channel).

    Each has a white border of one pixel; the rest of the last row is white.
    """
    missing = -len(images) % _COLUMNS
    padding = ((0, missing), (0, 0), (0, 0), (0, 0))
    images = np.pad(images, padding, constant_values=255)
    images = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    n, height, width, channels = images.shape
    rows = images.reshape(n // _COLUMNS, _COLUMNS, height, width, channels)
    return rows.transpose(0, 2, 1, 3, 4).reshape(1, -1, _COLUMNS * width, channels)


def _events(folder: Path) -> Iterator[tuple[int, str, bytes]]:
    """Yield step, tag and bytes of each event in a folder; a file's first event has no tag."""
    for path in sorted(folder.glob("events.out.tfevents.*")):
        # A killed process may leave half an event.
        with contextlib.suppress(tf.errors.DataLossError):
            for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
                event = tf.compat.v1.Event.FromString(content)
                tag = event.summary.value[0].tag if event.summary.value else ""
                yield event.step, tag, content


def _last_step(folder: Path, last_tag: str) -> int:
    """The last step such that the events of all steps from 1 to it exist."""
    steps = {step for step, tag, _ in _events(folder) if tag == last_tag}
    last = 0
    while last + 1 in steps:
        last += 1
    return last


def _drop_after(folder: Path, last: int) -> None:
    """Keep only the events up to step `last`, each once, in one file."""
    paths = list(folder.glob("events.out.tfevents.*"))
    seen = set()
    with (
        replacing(folder / _KEPT) as temporary,
        tf.io.TFRecordWriter(str(temporary)) as file,
    ):
        for step, tag, content in _events(folder):
            if step <= last and (step, tag) not in seen:
                seen.add((step, tag))
                file.write(content)
    for path in paths:
        if path.name != _KEPT:
            path.unlink()
