"""What a user sees of a training: one plain line an epoch, and a bar where it disturbs nobody."""

import contextlib
import fcntl
import logging
import sys
from pathlib import Path
from typing import Any

import keras
from tqdm import tqdm

log = logging.getLogger(__name__)


class Terminal:
    """Tells whether this training has the terminal for itself.

    Every training holds a shared operating-system lock on one file in `folder`; who can make it
    exclusive is alone. The lock goes with its process.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True, exist_ok=True)
        self._file = (folder / ".trainings.lock").open("w")
        with contextlib.suppress(OSError):  # a file system without locks: nobody is alone
            fcntl.flock(self._file, fcntl.LOCK_SH)

    def free(self) -> bool:
        """Standard error is a terminal, and no other training runs beside this one."""
        if not sys.stderr.isatty():
            return False
        alone = False
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        with contextlib.suppress(OSError):
            fcntl.flock(self._file, fcntl.LOCK_SH)
        return alone

    def close(self) -> None:
        self._file.close()


class Progress(keras.callbacks.Callback):
    """A line an epoch from the epoch's history record; between, a bar over all images to come."""

    def __init__(
        self,
        name: str,
        epochs: int,
        steps: int,
        batch_size: int,
        records: list[dict],
        terminal: Terminal,
    ):
        super().__init__()
        self.name, self.epochs, self.steps, self.batch_size = name, epochs, steps, batch_size
        self.records, self.terminal = records, terminal
        self.bar = None

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch
        if self.bar is not None:  # of an epoch that was rolled back
            self.bar.close()
            self.bar = None
        if self.terminal.free():
            images = self.steps * self.batch_size
            self.bar = tqdm(
                total=self.epochs * images,
                initial=epoch * images,
                desc=self.name,
                unit=" images",
                unit_scale=True,
                leave=False,
            )

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None:
            done = (self.epoch * self.steps + batch + 1) * self.batch_size
            self.bar.update(done - self.bar.n)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if self.bar is not None:
            self.bar.close()
            self.bar = None
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
