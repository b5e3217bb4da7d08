"""Writers on a disk that may be full or fail: one at a time, their leftovers, their errors."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from svae.errors import UserError

log = logging.getLogger(__name__)


@contextlib.contextmanager
def only_writer(target: Path | str) -> Iterator[None]:
    """Lock a file or folder for this process: an orphan of a killed workflow may still write to it.

    UserError if another process holds the lock. It is an operating-system lock on a file next to
    the target, because the target may be moved, and is released when the process exits.
    """
    target = Path(target)
    place = target.with_name(f".{target.name}.lock")
    with disk_explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = place.open("w")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            taken = not os.fstat(lock.fileno()).st_nlink  # and removed, after it was opened here
        except OSError as error:
            taken = isinstance(error, BlockingIOError)
            if not taken:
                log.warning("%s cannot be locked on this file system: %s", target, error)
        if taken:
            raise UserError(
                f"another process is still writing {target}; wait for it or end it, then run "
                f"snakemake again"
            )
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                place.unlink()
    finally:
        with contextlib.suppress(OSError):  # nothing was written to it
            lock.close()


def remove_leftovers(target: Path | str) -> None:
    """Remove what killed calls of `replacing` left next to `target`.

    A living writer holds a lock on its temporary file, which it checks for this removal.
    """
    target = Path(target)
    temporary = re.compile(rf"\.[a-z0-9_]{{8}}-{re.escape(target.name)}")  # as tempfile names them
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        if temporary.fullmatch(path.name):
            # Where it is locked, or cannot be, it stays.
            with contextlib.suppress(OSError), path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()


@contextlib.contextmanager
def scratch_folder(target: Path | str) -> Iterator[Path]:
    """Yield an empty, hidden folder next to `target`, without what a killed process left in it;
    delete it with its content at the end. Must be used within `only_writer`."""
    target = Path(target)
    folder = target.with_name(f".{target.stem}-scratch")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_FULL = {errno.ENOSPC: "no space left on", errno.EDQUOT: "your quota is exceeded on"}
_FAILING = (errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG, errno.ESTALE)


@contextlib.contextmanager
def disk_explained(target: Path | str) -> Iterator[None]:
    """Convert errors of the disk, while `target` is written, into a UserError."""
    try:
        yield
    except OSError as error:
        found = error.filename
        other = isinstance(found, str) and Path(found).parent != Path(target).parent
        explained = disk_error(found if other else target, error)
        if explained is None:
            raise
        raise explained from error


def number_of(message: str) -> int | None:
    """The number of an error of the disk that a library gives in words only."""
    return next((n for n in (*_FULL, *_FAILING) if os.strerror(n) in message), None)


def disk_error(path: Path | str, error: OSError) -> UserError | None:
    """The error for a disk that is full or fails, or that refuses access to `path`; None for
    errors of other kinds."""
    folder = Path(path).absolute().parent
    free = "an unknown number of bytes free"
    with contextlib.suppress(OSError):
        free = f"{shutil.disk_usage(folder).free:,} bytes free"
    if error.errno in _FULL:
        return UserError(
            f"{path} cannot be written: {_FULL[error.errno]} the disk of {folder}: {free}, "
            f"which is too little; make room there, or work in a folder on another disk."
        )
    if error.errno in _FAILING:
        return UserError(
            f"{path} cannot be read or written ({os.strerror(error.errno)}; {free} on the disk of "
            f"{folder}): check that you have access and that the disk is in order, or work in a "
            f"folder on another disk."
        )
    return None
