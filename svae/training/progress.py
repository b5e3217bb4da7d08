"""Log lines about the progress of a training: one per epoch, and more within long epochs.

Only whole lines are written, so that parallel trainings and Snakemake can share a terminal or a log
file.
"""

import logging
import time
from typing import Any

import keras

log = logging.getLogger(__name__)

SECONDS = 30.0  # between lines within an epoch


class Progress(keras.callbacks.Callback):
    """Logs the history record of each epoch and, every `seconds`, how far the training has come.

    `records`: the history so far, to which the loop appends.
    """

    def __init__(
        self,
        name: str,
        epochs: int,
        steps: int,
        batch_size: int,
        records: list[dict[str, Any]],
        seconds: float = SECONDS,
    ):
        super().__init__()
        self.name, self.epochs, self.steps, self.batch_size = name, epochs, steps, batch_size
        self.records, self.seconds = records, seconds

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch
        self._last: tuple[float, int] | None = None  # time and step of the last line

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.monotonic()
        if self._last is None:  # the first step of an epoch may include compilation
            self._last = now, batch
            return
        then, step = self._last
        if now - then < self.seconds:
            return
        self._last = now, batch
        pace = (now - then) / (batch - step)
        left = ((self.epochs - self.epoch) * self.steps - batch - 1) * pace
        log.info(
            "%s: epoch %d/%d, step %d of %d  %.0f images/s  %.1f min left",
            self.name,
            self.epoch + 1,
            self.epochs,
            batch + 1,
            self.steps,
            self.batch_size / pace,
            left / 60,
        )

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        record = self.records[-1]
        left = (self.epochs - epoch - 1) * record["seconds"]
        log.info(
            "%s: epoch %d/%d  SSE %.2f  KL %.2f nats  valid SSE %.2f  KL %.2f nats  "
            "active maps %d/%d  %.0f images/s  %.1f min left",
            self.name,
            epoch + 1,
            self.epochs,
            record["train_sse_per_image"],
            record["train_kl_nats_per_image"],
            record["valid_sse_per_image"],
            record["valid_kl_nats_per_image"],
            record["valid_active_maps"],
            record["valid_latent_maps"],
            record["images_per_second"],
            left / 60,
        )
