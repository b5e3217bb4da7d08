"""Checkpoints: everything that a stopped training needs to resume with a bit-identical result.

Each is one file, such as checkpoints/step-000000120.npz: every variable of the training step and,
as JSON, the step, the history, the sums of the current epoch, and the digest of the best weights so
far. No other state lasts from step to step: the order of the images and all random numbers are
functions of seed, epoch and step.
"""

import contextlib
import json
import logging
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from svae.errors import Damaged, UserError
from svae.jobs.files import checked, read_npy, read_npz, read_zip, replacing

log = logging.getLogger(__name__)

KEPT = 2
_NAME = re.compile(r"step-\d{9,}\.npz")


@dataclass
class State:
    """The progress of a training."""

    step: int = 0  # steps taken
    records: list[dict[str, Any]] = field(default_factory=list)  # of the finished epochs
    # Sums over the steps of the current epoch: of their terms, and of the seconds that they took.
    sums: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("loss", "sse", "kl", "penalty"), 0.0)
    )
    seconds: float = 0.0
    # The step of the current epoch with the largest loss, counted from 1, and that loss.
    worst_step: int = 0
    worst_loss: float = 0.0
    spikes: list[dict[str, Any]] = field(default_factory=list)  # that were rolled back
    devices: list[str] = field(default_factory=list)  # on which it trained, in this order
    best_sha256: str | None = None  # of the file with the weights of the best epoch in `records`
    identity: dict[str, Any] | None = None  # of the run, see svae.training.run_folder


class Checkpoints:
    """The last two good checkpoints of a run, in `folder`, and that of the last complete epoch."""

    def __init__(self, folder: Path):
        self.folder = folder

    def save(
        self, state: State, variables: Iterable[keras.Variable], epoch_start: int | None = None
    ) -> Path:
        """Write a checkpoint, delete older ones, and return the new one's path.

        The previous one is kept, and that of step `epoch_start`, to which a training returns after
        a spike. UserError, which leaves existing checkpoints as they are, if a value is not finite,
        so that every checkpoint can be resumed, or if the disk is full.
        """
        arrays: dict[str, Any] = {f"{i:04}": np.asarray(value) for i, value in enumerate(variables)}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            raise UserError(f"step {state.step}: a weight is no longer finite; {self.way_back()}")
        target = self.folder / f"step-{state.step:09}.npz"
        text = np.frombuffer(json.dumps(asdict(state), allow_nan=False).encode(), np.uint8)
        with replacing(target) as temporary, temporary.open("wb") as file:
            np.savez(file, state=text, **arrays)
        for path in self._newest_first()[KEPT:]:
            if _step(path) != epoch_start:
                path.unlink()
        return target

    def drop_after(self, step: int) -> None:
        """Delete the checkpoints of steps after `step`."""
        for path in self._newest_first():
            if _step(path) > step:
                path.unlink()

    def restore(
        self,
        variables: Iterable[keras.Variable],
        lacks: Callable[[State], str | None] = lambda state: None,
    ) -> State | None:
        """Set the variables from the newest good checkpoint; return its state, or None.

        lacks: what a state cannot be resumed without, if that is missing, in words. Checkpoints
        that are damaged or lack something are deleted, lest they count among the two that are kept.
        """
        variables = list(variables)
        for path in self._newest_first():
            try:
                state, values = _read(path, [variable.shape for variable in variables])
                if reason := lacks(state):
                    raise Damaged(f"{path} cannot be resumed: {reason}")
            except Damaged as error:
                log.warning("skipping, and deleting, a checkpoint: %s", error)
                path.unlink()
                continue
            for variable, value in zip(variables, values, strict=True):
                variable.assign(value)
            return state
        return None

    def identity(self) -> dict[str, Any] | None:
        """The identity of the run, from the newest checkpoint that has it."""
        for path in self._newest_first():
            with contextlib.suppress(Damaged), checked(path):
                return _state(read_npy(read_zip(path, "state.npy")["state.npy"])).identity
        return None

    def newest(self) -> Path | None:
        return next(iter(self._newest_first()), None)

    def way_back(self) -> str:
        """Return a clause for messages that names the last good checkpoint."""
        newest = self.newest()
        return f"the last good checkpoint is {newest}" if newest else "there is no checkpoint yet"

    def _newest_first(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(paths, key=_step, reverse=True)


def _step(path: Path) -> int:
    return int(path.stem.removeprefix("step-"))


def _read(path: Path, shapes: list[tuple[int, ...]]) -> tuple[State, list[np.ndarray]]:
    """The content of a checkpoint. Damaged if it is not that of this model."""
    with checked(path):
        arrays = read_npz(path)
        state = _state(arrays.pop("state"))
        values = [arrays[f"{i:04}"] for i in range(len(arrays))]
        if [value.shape for value in values] != shapes:
            raise ValueError("its arrays belong to another model")
    return state, values


def _state(text: np.ndarray) -> State:
    return State(**json.loads(text.tobytes()))
