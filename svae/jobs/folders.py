"""The files of a user's folder: found, and listed so that Snakemake notices a change."""

import hashlib
import logging
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from svae.errors import UserError

log = logging.getLogger(__name__)

# Folders of outputs in a working directory; data/ has no images, and may have the user's own.
OUTPUTS = frozenset({"results", "runs", "set-aside", "logs", "benchmarks"})
# Folders of the clone that may contain images.
_OF_THE_CLONE = frozenset({"docs", "studies", "tests"})
_CLONE = Path(__file__).parents[2]


def files_in(root: Path | str) -> Iterator[tuple[str, os.DirEntry]]:
    """Yield every file of a folder and its subfolders, with its path inside, in a fixed order.

    Hidden files and folders are left out, and so are the outputs of this program: in the current
    directory, in any other in which Snakemake has run, and in the clone. Links are followed, and
    each folder is entered once, under its real path if that is inside. UserError if a folder
    cannot be read.
    """
    try:
        yield from _files_in(Path(root))
    except OSError as error:
        raise UserError(
            f"{error.filename} cannot be read ({error.strerror}): check that it exists and that "
            "you may read it."
        ) from error


def _files_in(root: Path) -> Iterator[tuple[str, os.DirEntry]]:
    own = {_identity(Path()): OUTPUTS}
    if _CLONE.is_dir():
        own[_identity(_CLONE)] = OUTPUTS | _OF_THE_CLONE
    entered = set()
    folders, links = [""], list[str]()
    while folders or links:
        # Links come last, so that a link to a folder inside does not rename its files.
        folder = folders.pop() if folders else links.pop(0)
        here = _identity(root / folder)
        if here in entered:
            continue
        entered.add(here)
        with os.scandir(root / folder) as scanned:
            entries = sorted(scanned, key=lambda entry: entry.name)
        ran_here = any(entry.name == ".snakemake" for entry in entries)
        outputs = own.get(here, OUTPUTS if ran_here else frozenset())
        for entry in entries:
            if is_hidden(entry.name):
                continue
            name = f"{folder}{entry.name}"
            if not entry.is_dir():
                yield name, entry
            elif entry.name in outputs:
                log.info("%s: left out %s, a folder of this program", root, name)
            else:
                (links if entry.is_symlink() else folders).append(f"{name}/")


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def is_hidden(name: str) -> bool:
    """Whether a name, or a folder around it, is hidden or one that macOS adds."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def suffix_of(name: str) -> str:
    """The suffix of a file in lower case, such as .jpg; "" if it has none."""
    return PurePosixPath(name).suffix.lower()


def folder_listing(folder: Path | str, suffixes: Collection[str]) -> str:
    """Return the SHA-256 of the names, sizes and times of the files with these suffixes.

    It changes when one of them is added, removed or rewritten. See `files_in` for which files
    count.
    """
    digest = hashlib.sha256()
    for name, entry in files_in(folder):
        if suffix_of(name) in suffixes:
            try:
                status = entry.stat()
            except OSError:  # a link to nowhere
                status = entry.stat(follow_symlinks=False)
            digest.update(os.fsencode(name))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
