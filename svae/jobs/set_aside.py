"""Replaced outputs, which return when they are needed again.

Training and conversion replace outputs of other settings. The previous output is kept in a separate
tree, next to runs/ and data/, where TensorBoard does not show it among the current runs:

    set-aside/runs/mnist_5k/vanilla/seed-0/1f0c9a3be27d/about.json  identity and date
                                                        seed-0      the complete run folder
    set-aside/data/celeba.h5/5e0d2c11a9f4/about.json, celeba.h5     a converted data set

A run folder moves there and back. A converted data set gets a second name there (a hard link, which
takes no disk space) as soon as it is made, because Snakemake deletes an output before it makes it
again. Every step is one rename or link, so that a killed process leaves the content in one of the
two places.

    python -m svae.jobs.set_aside                           lists what is set aside
    python -m svae.jobs.set_aside --delete                  deletes all of it
    python -m svae.jobs.set_aside --delete --older-than 30  ... if set aside over 30 days ago
    python -m svae.jobs.set_aside --delete set-aside/PLACE  ... one entry of the list

Nothing here affects a result. Standard library only.
"""

import argparse
import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from svae.errors import UserError
from svae.jobs.files import file_hash, read_json, write_json

log = logging.getLogger(__name__)

FOLDER = "set-aside"
_ABOUT = "about.json"
_DELETED = ".deleted-"


@dataclass(frozen=True)
class Entry:
    """One run or converted data set that is set aside."""

    place: Path  # its folder in the tree
    path: Path  # where it was, and where it returns to
    identity: dict[str, Any] | None  # what determines its content; None: unknown
    date: datetime  # when it was set aside or, for a converted data set, when it was made
    sha256: str | None  # if it is a file

    @property
    def content(self) -> Path:
        return self.place / self.path.name

    def is_current(self) -> bool:
        """Return whether this is a second name of the file that is now at `path`."""
        return self.path.exists() and self.path.samefile(self.content)


def folder_for(path: Path | str) -> Path:
    """Return the folder where versions of an output are set aside, in the working folder; an output
    elsewhere is a copy that Snakemake's storage plugins make for one job."""
    path = Path(path)
    return Path(FOLDER, path.relative_to(path.anchor))


def stamp(path: Path | str) -> list[str | int]:
    """Return name, size in bytes and time in ns of a file, which identify it without reading it."""
    status = Path(path).stat()
    return [Path(path).name, status.st_size, status.st_mtime_ns]


class SetAside:
    """The versions of `path`, a folder or a file, that are set aside in `folder`.

    An identity is what determines the content: a mapping that can be stored as JSON. The caller
    ensures that only one process at a time calls the methods.
    """

    def __init__(self, path: Path | str, folder: Path | str):
        self.path, self.folder = Path(path), Path(folder)

    def entries(self) -> list[Entry]:
        """Return all versions that are set aside, sorted by name."""
        if not self.folder.is_dir():
            return []
        places = [place for place in self.folder.iterdir() if not place.name.startswith(".")]
        return [entry for place in sorted(places) if (entry := _entry(place, self.path))]

    def put(self, identity: dict[str, Any] | None) -> Path:
        """Move the content of `path` into the tree; return its folder there."""
        place = self._new_place(identity)
        self._describe(place, identity, None)
        _move(self.path, place / self.path.name)
        return place

    def bring_back(self, entry: Entry) -> bool:
        """Move a folder back to `path`, which must not exist; return False if it was deleted."""
        try:
            _move(entry.content, self.path)
        except FileNotFoundError:
            return False
        _remove_description(entry.place)
        return True

    def keep(self, identity: dict[str, Any]) -> None:
        """Give the file at `path` a second name in the tree; replace one of the same identity.

        Without hard links in the file system this has no effect, apart from a log line.
        """
        for entry in self._of(identity):
            if entry.is_current():
                return
            _delete(entry.place)
        place = self._new_place(identity)
        self._describe(place, identity, file_hash(self.path))
        try:
            (place / self.path.name).hardlink_to(self.path)
        except OSError as error:
            log.info("%s will not be kept once it is replaced: %s", self.path, error)
            _remove_description(place)

    def link_back(self, identity: dict[str, Any]) -> bool:
        """Put the file of this identity at `path`; return False if there is no intact one."""
        for entry in self._of(identity):
            if file_hash(entry.content) != entry.sha256:
                log.warning("%s is damaged and will be made again", entry.content)
                _delete(entry.place)
                continue
            if not entry.is_current():
                self.path.unlink(missing_ok=True)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.hardlink_to(entry.content)
            log.info("%s was made before; restored from %s", self.path, entry.place)
            return True
        return False

    def _of(self, identity: dict[str, Any]) -> list[Entry]:
        wanted = json.loads(json.dumps(identity))  # lists instead of tuples, as in the file
        return [entry for entry in self.entries() if entry.identity == wanted]

    def _new_place(self, identity: dict[str, Any] | None) -> Path:
        """A folder named after the identity, without content."""
        text = json.dumps(identity, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        place, number = self.folder / key, 1
        while (place / self.path.name).exists():
            number += 1
            place = self.folder / f"{key}-{number}"
        return place

    def _describe(self, place: Path, identity: dict[str, Any] | None, sha256: str | None) -> None:
        about = {
            "path": str(self.path),
            "set_aside": datetime.now().isoformat(timespec="seconds"),
            "sha256": sha256,
            "identity": identity,
        }
        write_json(place / _ABOUT, about)


def _entry(place: Path, path: Path | None = None) -> Entry | None:
    """The entry in a folder of the tree; None if it is not complete. `path`: see Entry."""
    try:
        about = read_json(place / _ABOUT)
        path = Path(about["path"]) if path is None else path
        date = datetime.fromisoformat(about["set_aside"])
        entry = Entry(place, path, about["identity"], date, about["sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("skipping %s, which cannot be read: %s", place / _ABOUT, error)
        return None
    return entry if entry.content.exists() else None


def _remove_description(place: Path) -> None:
    with contextlib.suppress(OSError):  # for example a folder with another file in it
        (place / _ABOUT).unlink(missing_ok=True)
        place.rmdir()


def _move(source: Path, target: Path) -> None:
    """Rename a folder; across file systems, copy it completely before deleting it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    copy = target.with_name(f".{target.name}.copy")
    shutil.rmtree(copy, ignore_errors=True)  # left by a killed process
    shutil.copytree(source, copy, symlinks=True)
    # Renamed first, so that a half-deleted folder is never taken for a complete one.
    gone = source.with_name(f"{_DELETED}{source.name}")
    shutil.rmtree(gone, ignore_errors=True)
    copy.rename(target)
    source.rename(gone)
    shutil.rmtree(gone)


def _delete(place: Path) -> None:
    """Delete a folder of the tree; a run that is being moved out of it stays intact."""
    gone = place.with_name(f"{_DELETED}{place.name}")
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        place.rename(gone)
        shutil.rmtree(gone)


# The command ----------------------------------------------------------------------------------


def found(root: Path | str) -> list[Entry]:
    """Return all that is set aside in `root`, except current data sets.

    Paths in entries are relative to the working folder.
    """
    entries = []
    for folder, names, files in os.walk(root):
        if _ABOUT in files:
            names.clear()
            entry = _entry(Path(folder))
            if entry and not entry.is_current():
                entries.append(entry)
        names[:] = sorted(name for name in names if not name.startswith("."))
    return entries


def _unfinished(root: Path) -> Iterator[Path]:
    """Folders whose deletion was interrupted."""
    for folder, names, _ in os.walk(root):
        yield from (Path(folder, name) for name in names if name.startswith(_DELETED))
        names[:] = [name for name in names if not name.startswith(".")]


def megabytes(path: Path) -> float:
    """Return the size of a file, or of all files in a folder, in MB (1e6 bytes)."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file()) / 1e6


def differences(entry: Entry) -> str:
    """Return the names of what differs from the current version, such as "learning_rate, code"."""
    current = _current_identity(entry)
    if current is None:
        return "nothing current to compare with"
    if entry.identity is None:
        return "unknown"
    old, new = _flat(entry.identity), _flat(current)
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return ", ".join(names) or "nothing"


def _current_identity(entry: Entry) -> dict[str, Any] | None:
    try:
        if entry.content.is_dir():
            return read_json(entry.path / "identity.json")
        kept = (_entry(place) for place in entry.place.parent.iterdir())
        return next(other.identity for other in kept if other and other.is_current())
    except (OSError, ValueError, StopIteration):
        return None


def _flat(identity: dict[str, Any]) -> dict[str, Any]:
    """The settings under their own names, everything else under the names of the identity."""
    rest = {name: value for name, value in identity.items() if name != "settings"}
    return {**identity.get("settings", {}), **rest}


def table(entries: Sequence[Entry]) -> str:
    """Return a text table with one line per entry."""
    rows = [("set aside", "epochs", "MB", "date", "differs from the current one in")]
    for entry in entries:
        epochs = _flat(entry.identity or {}).get("epochs", "")
        size = f"{megabytes(entry.content):.1f}"
        rows.append((str(entry.place), str(epochs), size, f"{entry.date:%F}", differences(entry)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """List or delete what is set aside in the working folder. UserError for an unknown PLACE."""
    parser = argparse.ArgumentParser(
        prog="python -m svae.jobs.set_aside",
        description="List or delete runs and converted data sets that are set aside.",
    )
    parser.add_argument("places", nargs="*", metavar="PLACE", help="only these entries of the list")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="only older entries")
    parser.add_argument("--delete", action="store_true", help="delete the listed entries")
    parser.add_argument("--directory", metavar="DIR", help="folder of the outputs, if not here")
    options = parser.parse_args(arguments)
    if options.directory is not None:
        try:
            os.chdir(options.directory)
        except OSError as error:
            raise UserError(f"--directory {options.directory}: {error.strerror}") from None
    entries = found(FOLDER)
    if options.places:
        places = {Path(place) for place in options.places}
        if unknown := places - {entry.place for entry in entries}:
            raise UserError(
                f"nothing is set aside in {min(unknown)}; give a PLACE from the list of "
                "python -m svae.jobs.set_aside"
            )
        entries = [entry for entry in entries if entry.place in places]
    if options.older_than is not None:
        limit = datetime.now() - timedelta(days=options.older_than)
        entries = [entry for entry in entries if entry.date < limit]
    if options.delete:
        for gone in _unfinished(Path(FOLDER)):
            shutil.rmtree(gone, ignore_errors=True)
    if not entries:
        print(
            "nothing is set aside" if options.older_than is None else "nothing older is set aside"
        )
        return
    total = sum(megabytes(entry.content) for entry in entries)
    print(table(entries))
    if options.delete:
        for entry in entries:
            _delete(entry.place)
    print(f"{len(entries)} {'deleted' if options.delete else 'set aside'}, {total:.1f} MB")


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        sys.exit(f"Error: {error}")
