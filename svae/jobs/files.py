"""Atomic writing of files, and checksums."""

import contextlib
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from svae.jobs.disk import full_disk_explained


@contextlib.contextmanager
def replacing(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `target`; rename it to `target` if no error is raised.

    After an error, the temporary file is deleted and an existing target stays unchanged. The new
    content is on the disk before it gets the name, so that a power cut leaves the old file or the
    new one. UserError for a full disk.
    """
    target = Path(target)
    with full_disk_explained(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        # Writers such as Keras depend on the suffix, so it is kept.
        handle, name = tempfile.mkstemp(prefix=".", suffix=f"-{target.name}", dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            _permit_as_any_new_file(temporary)
            flush(temporary)
            temporary.replace(target)
            flush(target.parent)
        finally:
            temporary.unlink(missing_ok=True)


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


def write_json(target: Path | str, content: Any) -> None:
    """Write `content` as indented JSON, atomically; ValueError for NaN and infinity."""
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    with replacing(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_json(path: Path | str) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


def file_hash(path: Path | str, algorithm: str = "sha256") -> str:
    """Return the hexadecimal digest of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()
