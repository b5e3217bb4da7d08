"""The run folder: what a training writes; svae.model.saved reads the model from it.

identity.json            settings, seed, data checksum and code that the weights belong to
checkpoints/             what a stopped training goes on from, see svae.training.checkpoints
history.jsonl            one line an epoch
best.weights.h5          the weights of the epoch with the best validation objective
tensorboard/             the same for TensorBoard
final.weights.h5         the weights with re-estimated batch-norm statistics, nothing else
finished.json            the same as run.json, which Snakemake deletes before it runs a job again
run.json                 the record of the finished run; there only when all else is complete
"""

import contextlib
import fcntl
import io
import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from svae.errors import UserError
from svae.jobs.files import file_hash, read_json, replacing, write_json
from svae.jobs.provenance import software
from svae.model import saved
from svae.model.vae import SpatialVAE
from svae.settings.training import TrainingSettings
from svae.training import history
from svae.training.checkpoints import Checkpoints

log = logging.getLogger(__name__)


class Entry(Protocol):
    """A run that is set aside: its folder, and its identity if that is known."""

    content: Path
    identity: dict[str, Any] | None


class SetAside(Protocol):
    """Where other runs of a folder are; see svae.jobs.set_aside, which decides no result."""

    def entries(self) -> list[Entry]: ...

    def put(self, identity: dict[str, Any] | None) -> Path: ...

    def bring_back(self, entry: Entry) -> bool: ...


class RunFolder:
    """The paths of a run folder, and what decides whether its content can go on."""

    def __init__(self, path: Path | str):
        self.path = Path(path)
        self.identity = self.path / "identity.json"
        self.checkpoints = Checkpoints(self.path / "checkpoints")
        self.history = self.path / history.NAME
        self.best_weights = self.path / "best.weights.h5"
        self.tensorboard = self.path / "tensorboard"
        self.weights = self.path / saved.WEIGHTS
        self.finished = self.path / "finished.json"
        self.record = self.path / saved.RECORD

    @contextlib.contextmanager
    def only_writer(self) -> Iterator[None]:
        """Hold the folder for this process: an orphan of a killed workflow may still write to it.

        UserError if another process holds it. The lock is the operating system's and lies beside
        the folder, which may be moved; it goes with its process.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process still trains in {self.path}; wait for it or end it, then run "
                    f"snakemake again"
                ) from None
            except OSError as error:
                log.warning("%s cannot be locked on this file system: %s", self.path, error)
            yield

    def write_history(self, records: list[dict[str, Any]]) -> None:
        with replacing(self.history) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records))

    def prepare(self, identity: dict[str, Any], aside: SetAside) -> bool:
        """Make the folder ready for a run of this identity; True if it holds a part of this run.

        A run that differs in nothing but fewer epochs is the same run, earlier, unless its learning
        rates depend on their number. Of this folder and those set aside, the one whose training got
        furthest is taken; what was here before is set aside, whole. Each of the two is one rename,
        and a process that is killed between them leaves both set aside, where the next one finds
        them. To be called by the `only_writer`.
        """
        before = read_json(self.identity) if self.identity.exists() else None
        here = _progress(self.path, before, identity)
        if before and not here and _without_epochs(before) == _without_epochs(identity):
            log.info("%s was trained for more epochs than are wanted now", self.path)
        found = [
            (progress, entry)
            for entry in aside.entries()
            if (progress := _progress(entry.content, entry.identity, identity))
        ]
        progress, best = max(found, key=lambda pair: pair[0], default=(None, None))
        takes_best = progress is not None and (here is None or progress > here)
        if (here is None or takes_best) and self.path.exists() and any(self.path.iterdir()):
            place = aside.put(before)
            log.info("the run of another configuration in %s is set aside in %s", self.path, place)
        if takes_best:
            if not aside.bring_back(best):  # deleted in this moment
                return self.prepare(identity, aside)
            log.info("%s was set aside and comes back", best.content)
        goes_on = self.identity.exists()
        if goes_on:
            self._remove_leftovers()
        write_json(self.identity, identity)
        return goes_on

    def finish(self, record: dict[str, Any]) -> None:
        """Write the record of the finished run, last of all files."""
        write_json(self.finished, record)
        write_json(self.record, record)

    def finished_before(self, expected: dict[str, Any]) -> bool:
        """Write run.json again if the folder holds a finished run with these fields in its record.

        False, with nothing written, if it does not, or if its weights or its history are damaged.
        """
        try:
            record = read_json(self.finished)
            if any(record[key] != value for key, value in expected.items()):
                return False
            if file_hash(self.weights) != record["weights_sha256"]:
                log.warning("%s is damaged and will be made again", self.weights)
                return False
            if len(history.read_history(self.path)) != record["epochs_trained"]:
                return False
        except (OSError, ValueError, KeyError, TypeError, UserError):
            return False
        write_json(self.record, record)
        return True

    def _remove_leftovers(self) -> None:
        """Of files that were being written when their process was killed, see svae.jobs.files."""
        for folder in (self.path, self.checkpoints.folder):
            for path in folder.glob(".????????-*"):
                path.unlink()


def _progress(
    folder: Path, own: dict[str, Any] | None, wanted: dict[str, Any]
) -> tuple[int, bool] | None:
    """How far the run in `folder`, of identity `own`, is on the way to the one wanted: epochs in
    its history, and whether it asked for the same number. None if it is on the way to another."""
    if own is None or _without_epochs(own) != _without_epochs(wanted):
        return None
    if own["settings"]["epochs"] > wanted["settings"]["epochs"]:
        return None
    try:
        epochs = len((folder / history.NAME).read_bytes().splitlines())
    except OSError:
        epochs = 0
    return epochs, own == wanted


def _without_epochs(identity: dict[str, Any]) -> dict[str, Any]:
    if identity["settings"].get("learning_rate_schedule") == "cosine":
        return identity
    return {**identity, "settings": {**identity["settings"], "epochs": None}}


def identity(
    settings: TrainingSettings, seed: int, dataset_checksum: str, code: str
) -> dict[str, Any]:
    """What two runs must share to be one run."""
    return {
        "settings": asdict(settings),
        "seed": seed,
        "dataset_checksum": dataset_checksum,
        "code": code,
        "software": software("tensorflow", "keras"),
    }


class _Memory(io.BytesIO):
    """A file in memory with a name that Keras accepts."""

    def __str__(self) -> str:
        return "memory.weights.h5"


def save_weights(model: SpatialVAE, target: Path) -> None:
    """Write the weights, whole or not at all.

    By way of memory, since the HDF5 library does not survive a disk that is full.
    """
    content = _Memory()
    model.save_weights(content)
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())
