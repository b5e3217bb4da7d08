"""The run folder: what a training writes; svae.model.saved reads the model from it.

identity.json            settings, seed, data checksum and code that determine the weights
checkpoints/             from which a stopped training resumes, see svae.training.checkpoints
history.jsonl            one line per epoch
best.weights.h5          weights of the epoch with the best validation objective
tensorboard/             the history for TensorBoard
final.weights.h5         final weights with re-estimated batch-norm statistics
finished.json            copy of run.json, which Snakemake deletes before it reruns the job
run.json                 the record of the finished run; exists only when all else is complete
"""

import contextlib
import fcntl
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from svae.errors import UserError
from svae.jobs.files import file_hash, read_json, replacing, write_json
from svae.jobs.neutral import with_neutral, without_neutral
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
    """Other runs of the same folder; see svae.jobs.set_aside, which affects no result."""

    def entries(self) -> Sequence[Any]: ...  # each an Entry

    def put(self, identity: dict[str, Any] | None) -> Path: ...

    def bring_back(self, entry: Any) -> bool: ...  # one of `entries`


class RunFolder:
    """The paths of a run folder, and the decision whether its content can be resumed."""

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
        """Lock the folder for this process: an orphan of a killed workflow may still write to it.

        UserError if another process holds the lock. It is an operating-system lock on a file next
        to the folder, because the folder may be moved, and is released when the process exits.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.with_name(f".{self.path.name}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UserError(
                    f"another process is still training in {self.path}; wait for it or end it, "
                    f"then run snakemake again"
                ) from None
            except OSError as error:
                log.warning("%s cannot be locked on this file system: %s", self.path, error)
            yield

    def write_history(self, records: list[dict[str, Any]]) -> None:
        with replacing(self.history) as temporary:
            temporary.write_text("".join(json.dumps(record) + "\n" for record in records))

    def prepare(self, identity: dict[str, Any], aside: SetAside) -> bool:
        """Prepare the folder for a run of this identity; return whether it contains a part of it.

        A run that differs only in having fewer epochs is an earlier part of the same run, unless
        its learning rates depend on the number of epochs. Of this folder and those set aside, the
        run with the most progress is used; a different run in this folder is set aside completely.
        Each of these two moves is one rename; a process that is killed between them leaves both
        runs set aside, where the next process finds them. Must be called inside `only_writer`.
        """
        before = read_json(self.identity) if self.identity.exists() else None
        here = _progress(self.path, before, identity)
        if before and not here and _without_epochs(before) == _without_epochs(identity):
            log.info("%s was trained for more epochs than now requested", self.path)
        found = [
            (progress, entry)
            for entry in aside.entries()
            if (progress := _progress(entry.content, entry.identity, identity))
        ]
        best: Any  # an Entry, or None
        progress, best = max(found, key=lambda pair: pair[0], default=(None, None))
        takes_best = progress is not None and (here is None or progress > here)
        if (here is None or takes_best) and self.path.exists() and any(self.path.iterdir()):
            place = aside.put(before)
            log.info("set aside the run of another configuration in %s: %s", self.path, place)
        if takes_best:
            if not aside.bring_back(best):  # deleted just now by another process
                return self.prepare(identity, aside)
            log.info("brought back %s, which was set aside", best.content)
        resumes = self.identity.exists()
        if resumes:
            self._remove_leftovers()
        write_json(self.identity, identity)
        return resumes

    def finish(self, record: dict[str, Any]) -> None:
        """Write the record of the finished run, as the last of all files."""
        write_json(self.finished, record)
        write_json(self.record, record)

    def finished_before(self, expected: dict[str, Any]) -> bool:
        """Rewrite run.json if the folder contains a finished run whose record has these fields.

        Return False and write nothing if not, or if its weights or history are damaged.
        """
        try:
            record = read_json(self.finished)
            record["settings"] = with_neutral(record["settings"], TrainingSettings)
            if any(_decisive(record)[key] != value for key, value in _decisive(expected).items()):
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
        """Remove temporary files of a killed process, see svae.jobs.files."""
        for folder in (self.path, self.checkpoints.folder):
            for path in folder.glob(".????????-*"):
                path.unlink()


def _decisive(record: dict[str, Any]) -> dict[str, Any]:
    return {**record, "settings": without_neutral(record["settings"], TrainingSettings)}


def _progress(
    folder: Path, own: dict[str, Any] | None, wanted: dict[str, Any]
) -> tuple[int, bool] | None:
    """The progress of the run in `folder`, of identity `own`, towards the requested run.

    Number of epochs in its history, and whether the two identities are equal. None if it is not a
    part of the requested run.
    """
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
    """Return the identity of a run: everything that determines its weights."""
    return {
        "settings": without_neutral(asdict(settings), TrainingSettings),
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
    """Write the weights atomically.

    Through a buffer in memory, because the HDF5 library does not survive a full disk.
    """
    content = _Memory()
    model.save_weights(content)
    with replacing(target) as temporary:
        temporary.write_bytes(content.getbuffer())
