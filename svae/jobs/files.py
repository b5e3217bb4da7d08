"""Files that are written whole and checked when they are read; checksums."""

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import lzma
import os
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svae.errors import Damaged, readable
from svae.jobs.disk import disk_error, disk_explained, remove_leftovers

if TYPE_CHECKING:  # the Snakefile imports this module, and no NumPy
    import numpy as np


@contextlib.contextmanager
def replacing(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `target`; rename it to `target` if no error is raised.

    After an error, the temporary file is deleted and an existing target stays unchanged. The new
    content is on the disk before it gets the name, so that a power cut leaves the old file or the
    new one. What killed processes left of this target is removed. UserError for a full or failing
    disk.
    """
    target = Path(target)
    with disk_explained(target), contextlib.ExitStack() as stack:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(target)
        temporary = stack.enter_context(_temporary(target))
        try:
            yield temporary
            _permit_as_any_new_file(temporary)
            flush(temporary)
            temporary.replace(target)
            flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _temporary(target: Path) -> Iterator[Path]:
    """A new file next to `target`, locked, by which `remove_leftovers` sees that it is in use."""
    while True:
        # Writers such as Keras depend on the suffix, so it is kept.
        handle, name = tempfile.mkstemp(prefix=".", suffix=f"-{target.name}", dir=target.parent)
        try:
            with contextlib.suppress(OSError):  # not all file systems have locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:  # else another process has just removed it
                yield Path(name)
                return
        finally:
            os.close(handle)


def _permit_as_any_new_file(path: Path) -> None:
    """Give a file of `tempfile` the usual permissions, where the file system has any."""
    mask = os.umask(0)
    os.umask(mask)
    with contextlib.suppress(OSError):
        path.chmod(0o666 & ~mask)


def flush(path: Path | str) -> None:
    """Wait until a file is on the disk or, for a folder, the names in it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Not all file systems can flush a folder, or anything.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EROFS, errno.ENOSYS):
            raise
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """`flush` for all files and folders in a folder, and for itself."""
    for parent, _, files in os.walk(folder):
        for name in files:
            flush(Path(parent, name))
        flush(parent)


def write_json(target: Path | str, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, atomically, with a digest as its last entry; ValueError for
    NaN and infinity."""
    plain = json.loads(json.dumps(content, allow_nan=False))  # as it will be read
    text = json.dumps({**plain, _DIGEST: _digest(plain)}, indent=2) + "\n"
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path | str) -> dict[str, Any]:
    """The content that `write_json` wrote; errors as in `checked`.

    A file without a digest, of an earlier version or by another program, is read unchecked.
    """
    with checked(path):
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("its content is not that of such a file")
        name, digest = content.popitem() if content else (_DIGEST, _digest({}))
        # By its value, too, lest damage to its name leave it out.
        if digest == _digest(content):
            return content
        if name == _DIGEST:
            raise ValueError("its content was changed")
        return {**content, name: digest}


def read_zip(path: Path | str, *names: str) -> dict[str, bytes]:
    """Members of a zip archive without a comment, these or all, whose checksums were verified;
    errors as in `checked`."""
    with checked(path), Path(path).open("rb") as file, zipfile.ZipFile(file) as archive:
        file.seek(-_COUNT_FROM_END, os.SEEK_END)
        if struct.unpack("<H", file.read(2)) != (len(archive.infolist()),):
            raise ValueError("its list of members is incomplete")
        return {name: archive.read(name) for name in names or archive.namelist()}


def read_npz(path: Path | str) -> "dict[str, np.ndarray]":
    """The arrays of an npz file, whose checksums were verified; errors as in `checked`."""
    with checked(path):
        return {
            name.removesuffix(".npy"): read_npy(content) for name, content in read_zip(path).items()
        }


def read_npy(content: bytes) -> "np.ndarray":
    """The array in the bytes of an npy file. Unlike `numpy.load`, it allocates no more than these,
    whatever their header claims. Damaged content raises one of what `checked` converts."""
    from numpy import frombuffer
    from numpy.lib import format as npy

    file = io.BytesIO(content)
    read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    try:
        shape, by_columns, dtype = read[npy.read_magic(file)](file)
    except Exception as error:  # it is Python code, so that damage can raise nearly anything
        raise ValueError(f"the header of an array: {error}") from error
    flat = frombuffer(content, dtype, offset=file.tell())
    return flat.reshape(shape, order="F" if by_columns else "C").copy("K")


@contextlib.contextmanager
def checked(path: Path | str) -> Iterator[None]:
    """Convert what damaged content raises, while `path` is read, into Damaged.

    FileNotFoundError stays; UserError for a failing disk, or where access is refused: to delete the
    file would be too soon.
    """
    try:
        yield
    except (FileNotFoundError, Damaged):
        raise
    except (*_CONTENT, OSError) as error:
        disk = disk_error(path, error) if isinstance(error, OSError) else None
        remedy = "delete it and run snakemake again"
        raise disk or Damaged(f"{path} is damaged ({readable(str(error))}); {remedy}") from error


# Of the number of members. Damage to one may hide the next ones, which zipfile does not notice.
_COUNT_FROM_END = 12

# What readers of JSON and zip raise for damaged content.
_CONTENT = (
    *(ValueError, LookupError, TypeError, EOFError, OverflowError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error),
)

_DIGEST = "sha256_of_the_rest"


def _digest(content: Mapping[str, Any]) -> str:
    """In whatever order the entries are."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def file_hash(path: Path | str, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
