"""HDF5 files that are written whole, and checked when they are read.

`new_hdf5` writes with the checksums that the library has: Fletcher's for each chunk of an array,
and, from format 1.10 on, one for each block of structure. It has none for attributes and for texts
of variable length: the former have a digest here, the latter a checksum next to them. A file of an
earlier version, without all of this, is read unchecked.
"""

import contextlib
import hashlib
import json
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from svae.errors import Damaged, UserError, readable

CHUNK_BYTES = 256 << 10  # of images that are read at random: what one access reads

_DIGEST = "attributes_sha256"
_SUMS = "_crc32"  # after the name of the texts
_TEXTS = 1024  # per chunk
# What h5py raises for damaged content, depending on the place.
_UNREADABLE = (OSError, RuntimeError, LookupError, ValueError, TypeError, OverflowError)


class File(h5py.File):
    """An open file whose arrays raise Damaged, with the remedy, if their content is."""

    def __init__(self, path: Path | str, remedy: str) -> None:
        """Damaged, or UserError if it cannot be read; `remedy` ends the message of the former.

        Nothing is locked: a notebook may hold the file, and some file systems have no locks. Files
        get their final names when they are whole, so no writer is at work on this one.
        """
        self.path, self.remedy = path, remedy
        with self._explained(*_UNREADABLE):
            try:
                super().__init__(path, "r", locking=False)
            except FileNotFoundError:
                raise
            except OSError:  # if this process has it open with a lock, it must have one here, too
                super().__init__(path, "r")
        try:
            with self._explained(*_UNREADABLE):
                digest = self.attrs.get(_DIGEST)
                if digest is not None and digest != _digest(self.attrs):
                    raise ValueError("its attributes changed")
        except BaseException:
            self.close()
            raise

    def attributes(self) -> dict[str, Any]:
        """All attributes, as h5py gives them."""
        with self._explained(*_UNREADABLE):
            return {name: value for name, value in self.attrs.items() if name != _DIGEST}

    def __getitem__(self, name: str) -> Any:
        with self._explained(*_UNREADABLE):
            found = super().__getitem__(name)
            if not isinstance(found, h5py.Dataset):
                return found
            # What its header claims takes memory when it is read. Rows of texts may not be stored.
            claimed = math.prod(found.shape) * found.dtype.itemsize
            texts = found.dtype.hasobject or name.endswith(_SUMS)
            if not texts and claimed > found.id.get_storage_size():
                raise ValueError(f"{name} claims {claimed} bytes, more than it has")
            return _Array(found.id, self)

    def __contains__(self, name: Any) -> bool:
        with self._explained(*_UNREADABLE):
            return super().__contains__(name)

    def texts(self, name: str, count: int, rows: Sequence[int] | None = None) -> list[str]:
        """Texts that NewFile.add_texts wrote, `count` in all: those of some rows, or all."""
        with self._explained(*_UNREADABLE, AttributeError):
            return self._texts(name, count, rows)

    def _texts(self, name: str, count: int, rows: Sequence[int] | None) -> list[str]:
        stored = self[name]
        if stored.shape != (count,):
            raise ValueError(f"{name} has shape {stored.shape}, not {count} texts")
        sums = None
        if name + _SUMS in self:
            sums = self[name + _SUMS]
        chosen = [slice(None)] if rows is None else [slice(row, row + 1) for row in rows]
        found = []
        for part in chosen:
            texts = stored[part]
            if sums is not None and [zlib.crc32(text) for text in texts] != sums[part].tolist():
                raise ValueError(f"{name} changed")
            found += [text.decode("utf-8") for text in texts]
        return found

    @contextlib.contextmanager
    def _explained(self, *errors: type[Exception]) -> Iterator[None]:
        try:
            yield
        except errors as error:
            if isinstance(error, UserError):
                raise
            if isinstance(error, FileNotFoundError):
                raise UserError(
                    f"{self.path} does not exist; run snakemake, which makes it"
                ) from error
            if isinstance(error, OSError) and error.errno is not None:
                # Refused, locked, or on a failing disk: to delete it would be too soon.
                raise UserError(
                    f"{self.path} cannot be read ({os.strerror(error.errno)}); check that you may "
                    f"read it, that no other program writes it, and its disk"
                ) from error
            reason = readable(str(error))
            raise Damaged(f"{self.path} is damaged ({reason}); {self.remedy}") from error


class _Array(h5py.Dataset):
    """An array of a File: read where it is sliced, and checked then."""

    def __init__(self, identifier: Any, owner: File) -> None:
        super().__init__(identifier)
        self._owner = owner

    def __getitem__(self, *arguments: Any, **options: Any) -> Any:
        with self._owner._explained(OSError):
            return super().__getitem__(*arguments, **options)


class NewFile(h5py.File):
    """A file being written; `check` raises the OSError of the first write that failed."""

    def __init__(self, disk: "LateErrors") -> None:
        super().__init__(disk, "w", libver="v110")
        self.check = disk.check

    def add(self, name: str, values: np.ndarray | None = None, **options: Any) -> h5py.Dataset:
        """`create_dataset` with checksums, for which it is chunked; an empty array cannot be."""
        if values is None or values.size:
            options = {"chunks": True, "fletcher32": True, **options}
        return self.create_dataset(name, data=values, **options)

    def add_texts(self, name: str) -> None:
        """Create texts, one per row, with the checksum of each; see `write_texts`."""
        size: dict[str, Any] = {"shape": (0,), "maxshape": (None,), "chunks": (_TEXTS,)}
        self.create_dataset(name, dtype=h5py.string_dtype(), **size)
        self.add(name + _SUMS, dtype=np.uint32, **size)

    def write_texts(self, name: str, start: int, texts: Sequence[str]) -> None:
        """Write rows from `start` on, the last ones; rows that are left out are empty texts."""
        sums = [zlib.crc32(text.encode("utf-8")) for text in texts]
        for key, rows in ((name, list(texts)), (name + _SUMS, sums)):
            self[key].resize(start + len(rows), axis=0)
            if rows:
                self[key][start:] = rows


@contextlib.contextmanager
def new_hdf5(path: Path | str) -> Iterator[NewFile]:
    """Yield a new file; an error of the disk is raised at the end of the block, as OSError."""
    with LateErrors(path) as disk, NewFile(disk) as file:
        yield file
        file.attrs[_DIGEST] = _digest(file.attrs)


def _digest(attributes: h5py.AttributeManager) -> str:
    """SHA-256 of all attributes but the digest."""
    found = {name: _plain(attributes[name]) for name in sorted(attributes) if name != _DIGEST}
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """An attribute as JSON has it."""
    if isinstance(value, h5py.Empty):
        return None
    return value.tolist() if isinstance(value, np.generic | np.ndarray) else value


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
            if error is None or isinstance(error, Exception):  # one that follows from a lost write
                self.check()
        finally:
            os.close(self._file)  # this may fail, too, on a network file system
