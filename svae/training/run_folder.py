"""The run folder: what a training writes; svae.model.saved reads the model from it.

identity.json            settings, seed, data checksum and code that determine the weights
checkpoints/             from which a stopped training resumes, see svae.training.checkpoints;
                         best-EPOCH.weights.h5: the epochs with the best validation objective
history.jsonl            one line per epoch
tensorboard/             the history for TensorBoard
final.weights.h5         final weights with re-estimated batch-norm statistics
finished.json            copy of run.json, which Snakemake deletes before it reruns the job
run.json                 the record of the finished run; exists only when all else is complete
"""

import io
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from svae.errors import Damaged, UserError
from svae.jobs.files import file_hash, read_json, replacing, write_json
from svae.jobs.neutral import with_neutral, without_neutral
from svae.jobs.provenance import software
from svae.model import saved
from svae.model.vae import SpatialVAE
from svae.settings.training import TrainingSettings
from svae.training import history
from svae.training.checkpoints import Checkpoints, State
from svae.training.history import best_epoch

log = logging.getLogger(__name__)

# The last two checkpoints and that of the last epoch have at most two different best epochs; one
# more may come from a process that was killed before its checkpoint.
BEST_KEPT = 3


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
        self.tensorboard = self.path / "tensorboard"
        self.weights = self.path / saved.WEIGHTS
        self.finished = self.path / "finished.json"
        self.record = self.path / saved.RECORD

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
        before = self._identity()
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
        if (here is None or takes_best) and self._has_content():
            place = aside.put(before)
            log.info("set aside the run of another configuration in %s: %s", self.path, place)
        if takes_best:
            if not aside.bring_back(best):  # deleted just now by another process
                return self.prepare(identity, aside)
            log.info("brought back %s, which was set aside", best.content)
        self._remove_leftovers()
        write_json(self.identity, identity)
        return takes_best or here is not None

    def _identity(self) -> dict[str, Any] | None:
        """The identity of the run in the folder or, if the file is damaged or lost, as a checkpoint
        has it; None if it is unknown."""
        try:
            return read_json(self.identity)
        except (FileNotFoundError, Damaged) as error:
            found = self.checkpoints.identity()
            if found is not None or isinstance(error, Damaged):
                origin = "is unknown" if found is None else "is taken from a checkpoint"
                log.warning("%s is damaged or lost: what was trained %s", self.identity, origin)
            return found

    def _has_content(self) -> bool:
        """Whether there is more than what a process leaves that is killed at its start."""
        return self.path.exists() and any(
            not path.name.startswith(".") for path in self.path.iterdir()
        )

    def best_weights(self, epoch: int) -> Path:
        return self.checkpoints.folder / f"best-{epoch:09}.weights.h5"

    def save_best(self, model: SpatialVAE, epoch: int) -> str:
        """Write the weights of the best epoch so far; return the digest of the file.

        Those before it are kept as long as a checkpoint may refer to them.
        """
        target = self.best_weights(epoch)
        save_weights(model, target)
        for path in self._best()[:-BEST_KEPT]:
            path.unlink()
        return file_hash(target)

    def drop_best_after(self, epoch: int) -> None:
        """Delete those of epochs that a killed process did not finish."""
        for path in self._best():
            if path > self.best_weights(epoch):
                path.unlink()

    def _best(self) -> list[Path]:
        return sorted(self.checkpoints.folder.glob("best-*.weights.h5"))

    def lacks_best(self, state: State, dimension: int) -> str | None:
        """In words, whether the weights that belong to this state are missing or others; None if
        they are there."""
        best = best_epoch(state.records, dimension)
        path = self.best_weights(best)
        if not best or (path.exists() and file_hash(path) == state.best_sha256):
            return None
        return f"{path}, the best weights that belong to it, is missing or damaged"

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
            history.read_history(self.path, record.get("history_sha256"))
        except FileNotFoundError:
            return False
        except (LookupError, TypeError, UserError) as error:
            log.warning("the finished run is not used: %s", error)
            return False
        write_json(self.record, record)
        return True

    def _remove_leftovers(self) -> None:
        """Remove temporary files of a killed process, whatever they were to become."""
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
