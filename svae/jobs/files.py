"""Atomic writing of files, checksums, and listings of folders."""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path next to `target`; rename it to `target` if no error is raised.

    After an error, the temporary file is deleted and an existing target stays unchanged.
    """
    target = Path(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Writers such as Keras depend on the suffix, so it is kept.
    handle, name = tempfile.mkstemp(prefix=".", suffix=f"-{target.name}", dir=target.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


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


def folder_listing(folder: Path | str) -> str:
    """Return the SHA-256 of the names, sizes and times of all files in a folder, following links.

    It changes when a file is added, removed or rewritten. Hidden files are ignored.
    """
    digest = hashlib.sha256()
    seen = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a parent: os.walk would not end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in files if not name.startswith(".")):
            path = Path(parent, name)
            status = path.stat() if path.exists() else path.lstat()
            digest.update(os.fsencode(os.path.relpath(path, folder)))
            digest.update(f"\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return digest.hexdigest()
