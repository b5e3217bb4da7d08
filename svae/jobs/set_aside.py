"""Outputs that gave way to others and come back when they are asked for again.

Training and conversion replace what was made with other settings. What was there before is kept in
a tree of its own, next to runs/ and data/, so that TensorBoard shows only the current runs:

    set-aside/runs/mnist_5k/vanilla/seed-0/1f0c9a3be27d/about.json  what it is: identity, date
                                                        seed-0      the run folder, whole
    set-aside/data/celeba.h5/5e0d2c11a9f4/about.json, celeba.h5     a converted data set

A run folder moves there and back. A converted data set gets a second name there (a hard link, no
further disk space) as soon as it is made, since Snakemake deletes an output before it makes it
again. Every step is one rename or link, so that a killed process leaves the content in one place or
in the other.

    python -m svae.jobs.set_aside                           lists what is set aside
    python -m svae.jobs.set_aside --delete                  deletes it
    python -m svae.jobs.set_aside --delete --older-than 30  ... what was set aside 30 days ago
    python -m svae.jobs.set_aside --delete set-aside/PLACE  ... one line of the list

Nothing here decides a result. Standard library only.
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
    """One thing that is set aside."""

    place: Path  # its folder in the tree
    path: Path  # where it was, and will be again
    identity: dict[str, Any] | None  # what decides its content; None: unknown
    date: datetime  # when it was set aside, or a converted data set was made
    sha256: str | None  # of a file

    @property
    def content(self) -> Path:
        return self.place / self.path.name

    def is_current(self) -> bool:
        """Whether this is a further name of the file that is at `path` now."""
        return self.path.exists() and self.path.samefile(self.content)


def folder_for(path: Path | str) -> Path:
    """Where the versions of an output, given relative to the working folder, are set aside."""
    return Path(FOLDER, path)


def stamp(path: Path | str) -> list[str | int]:
    """Name, size in bytes and time in ns of a file: they identify it without reading it."""
    status = Path(path).stat()
    return [Path(path).name, status.st_size, status.st_mtime_ns]


class SetAside:
    """The versions of `path`, a folder or a file, that are set aside in `folder`.

    An identity is what decides the content: a mapping that JSON can hold. The caller sees to it
    that one process at a time calls the methods.
    """

    def __init__(self, path: Path | str, folder: Path | str):
        self.path, self.folder = Path(path), Path(folder)

    def entries(self) -> list[Entry]:
        """All that is set aside, in the order of the names."""
        if not self.folder.is_dir():
            return []
        places = [place for place in self.folder.iterdir() if not place.name.startswith(".")]
        return [entry for place in sorted(places) if (entry := _entry(place, self.path))]

    def put(self, identity: dict[str, Any] | None) -> Path:
        """Move what is at `path` into the tree; returns its folder there."""
        place = self._new_place(identity)
        self._describe(place, identity, None)
        _move(self.path, place / self.path.name)
        return place

    def bring_back(self, entry: Entry) -> bool:
        """Move a folder back to `path`, where nothing may be; False if it has been deleted."""
        try:
            _move(entry.content, self.path)
        except FileNotFoundError:
            return False
        _remove_description(entry.place)
        return True

    def keep(self, identity: dict[str, Any]) -> None:
        """Give the file at `path` a second name in the tree; replaces one of this identity.

        Without effect, but for a line in the log, where the file system has no hard links.
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
        """Put the file of this identity at `path`; False if there is none that is whole."""
        for entry in self._of(identity):
            if file_hash(entry.content) != entry.sha256:
                log.warning("%s is damaged and will be made again", entry.content)
                _delete(entry.place)
                continue
            if not entry.is_current():
                self.path.unlink(missing_ok=True)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self.path.hardlink_to(entry.content)
            log.info("%s was made before; it comes back from %s", self.path, entry.place)
            return True
        return False

    def _of(self, identity: dict[str, Any]) -> list[Entry]:
        wanted = json.loads(json.dumps(identity))  # lists for tuples, as in the file
        return [entry for entry in self.entries() if entry.identity == wanted]

    def _new_place(self, identity: dict[str, Any] | None) -> Path:
        """A folder named after the identity, in which there is no content yet."""
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
    """What is in a folder of the tree; None if that is nothing whole. `path`: see Entry."""
    try:
        about = read_json(place / _ABOUT)
        path = Path(about["path"]) if path is None else path
        date = datetime.fromisoformat(about["set_aside"])
        entry = Entry(place, path, about["identity"], date, about["sha256"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be read and is passed over: %s", place / _ABOUT, error)
        return None
    return entry if entry.content.exists() else None


def _remove_description(place: Path) -> None:
    with contextlib.suppress(OSError):  # such as a folder that somebody put a file into
        (place / _ABOUT).unlink(missing_ok=True)
        place.rmdir()


def _move(source: Path, target: Path) -> None:
    """Rename a folder or, to another file system, copy it whole before it goes."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        source.rename(target)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    copy = target.with_name(f".{target.name}.copy")
    shutil.rmtree(copy, ignore_errors=True)  # of a process that was killed
    shutil.copytree(source, copy, symlinks=True)
    # Out of the way at once: half of a folder must not be taken for the folder.
    gone = source.with_name(f"{_DELETED}{source.name}")
    shutil.rmtree(gone, ignore_errors=True)
    copy.rename(target)
    source.rename(gone)
    shutil.rmtree(gone)


def _delete(place: Path) -> None:
    """Delete a folder of the tree; a run that is just brought back from it stays whole."""
    gone = place.with_name(f"{_DELETED}{place.name}")
    shutil.rmtree(gone, ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        place.rename(gone)
        shutil.rmtree(gone)


# The command ----------------------------------------------------------------------------------


def found(root: Path | str) -> list[Entry]:
    """All that is set aside below `root`, without the converted data sets that are current.

    Paths in entries start from the working folder.
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
    """Folders whose deletion was begun."""
    for folder, names, _ in os.walk(root):
        yield from (Path(folder, name) for name in names if name.startswith(_DELETED))
        names[:] = [name for name in names if not name.startswith(".")]


def megabytes(path: Path) -> float:
    """Size of a file, or of all files in a folder, in MB (1e6 bytes)."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.lstat().st_size for file in files if file.is_file()) / 1e6


def differences(entry: Entry) -> str:
    """Names of what differs between an entry and what is current, such as "learning_rate, code"."""
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
    """The settings by their own names, and all else by the names of the identity."""
    rest = {name: value for name, value in identity.items() if name != "settings"}
    return {**identity.get("settings", {}), **rest}


def table(entries: Sequence[Entry]) -> str:
    """One line for each entry."""
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
    """List or delete what is set aside in the working folder. UserError: a place that is none."""
    parser = argparse.ArgumentParser(
        prog="python -m svae.jobs.set_aside",
        description="List runs and converted data sets that are set aside, or delete them.",
    )
    parser.add_argument("places", nargs="*", metavar="PLACE", help="only these lines of the list")
    parser.add_argument("--older-than", type=float, metavar="DAYS", help="only what is older")
    parser.add_argument("--delete", action="store_true", help="delete what is listed")
    parser.add_argument("--directory", metavar="DIR", help="the folder of the outputs, if not here")
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
                f"{min(unknown)} is not a place where something is set aside; give one from the "
                "list of python -m svae.jobs.set_aside"
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
