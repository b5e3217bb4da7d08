"""Long writes that a kill or a full disk may interrupt: their leftovers, and error messages."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from svae.errors import UserError


def remove_leftovers(target: Path | str) -> None:
    """Remove what killed calls of `replacing` and `scratch_folder` left next to `target`.

    Must not be called while another process writes this target.
    """
    target = Path(target)
    temporary = re.compile(rf"\.[a-z0-9_]{{8}}-{re.escape(target.name)}")  # as tempfile names them
    if target.parent.is_dir():
        for path in target.parent.iterdir():
            if temporary.fullmatch(path.name):
                path.unlink(missing_ok=True)
    shutil.rmtree(_scratch(target), ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(target: Path | str) -> Iterator[Path]:
    """Yield a new, empty, hidden folder next to `target`; delete it with its content at the end."""
    folder = _scratch(Path(target))
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _scratch(target: Path) -> Path:
    return target.with_name(f".{target.stem}-scratch")


@contextlib.contextmanager
def full_disk_explained(target: Path | str) -> Iterator[None]:
    """Convert the error of a full disk or quota, while `target` is written, into a UserError."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder = Path(target).absolute().parent
        problem = "no space left on" if error.errno == errno.ENOSPC else "your quota is exceeded on"
        free = shutil.disk_usage(folder).free if folder.is_dir() else 0
        raise UserError(
            f"{target} cannot be written: {problem} the disk of {folder}: {free:,} bytes free, "
            "which is too little; make room there, or work in a folder on another disk."
        ) from error


@contextlib.contextmanager
def new_hdf5(path: Path | str) -> Iterator[Any]:
    """Yield a new h5py.File; an error of the disk is raised at the end of the block, as OSError."""
    import h5py

    with LateErrors(path) as disk, h5py.File(disk, "w") as file:
        yield file


class LateErrors:
    """A new file at `path` whose writing methods never raise; a context manager.

    The HDF5 library does not survive a failed write: the interpreter then crashes on exit, whatever
    the program does. Here a failed write therefore appears to succeed, and its OSError is raised by
    `check`, or at the end of the block at the latest.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = self._end = 0
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the OSError of the first write that failed."""
        if self._error is not None:
            raise self._error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._end}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        content = os.pread(self._file, size, self._position)
        self._position += len(content)
        return content

    def readinto(self, buffer: memoryview) -> int:
        """Fill the whole buffer: with zeros where a write was lost."""
        content = self.read(len(buffer))
        buffer[:] = content.ljust(len(buffer), b"\0")
        return len(buffer)

    def write(self, content: memoryview) -> int:
        rest, position = memoryview(content), self._position
        try:
            while rest and self._error is None:
                written = os.pwrite(self._file, rest, position)
                rest, position = rest[written:], position + written
        except OSError as error:
            self._error = error
        self._position += len(content)
        self._end = max(self._end, self._position)
        return len(content)

    def truncate(self, size: int) -> int:
        try:
            os.ftruncate(self._file, size)
        except OSError as error:
            self._error = self._error or error
        self._end = size
        return size

    def flush(self) -> None:
        """Do nothing: nothing is buffered here."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.check()
        finally:
            os.close(self._file)  # this may fail, too, on a network file system
