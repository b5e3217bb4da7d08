"""Checksums of source files; a file that was fetched or verified is hashed only once.

They are kept next to the file in .NAME.checksums.json, with its size, inode, mtime and ctime. While
all four stay the same, later steps use the kept checksums; otherwise they read the file again. A
write, a rename or a copy always changes the ctime, which cannot be set back: an edited or replaced
file is detected whatever its mtime. Times are only compared for equality, so a wrong or adjusted
clock does no harm.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from svae.errors import UserError
from svae.jobs.files import read_json, write_json

_CHUNK_BYTES = 1 << 20


def checksums(path: Path, *algorithms: str, keep: bool = False) -> dict[str, str]:
    """Hexadecimal digests of a file by algorithm, such as "sha256"; one pass over it at most.

    keep: whether to write those that had to be computed next to the file, for later calls.
    """
    stamp = _stamp(path)
    found = _kept(path, stamp)
    missing = {name: hashlib.new(name) for name in algorithms if name not in found}
    if missing:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                for digest in missing.values():
                    digest.update(chunk)
        found |= {name: digest.hexdigest() for name, digest in missing.items()}
        if keep and _stamp(path) == stamp:
            keep_checksums(path, found)
    return {name: found[name] for name in algorithms}


def keep_checksums(path: Path, found: Mapping[str, str]) -> None:
    """Keep the digests of a file that has just been read; without effect in a read-only folder, and
    on a full disk."""
    with contextlib.suppress(OSError, UserError):
        write_json(_note(path), {"stamp": _stamp(path), "checksums": dict(found)})


def forget_checksums(path: Path) -> None:
    with contextlib.suppress(OSError):
        _note(path).unlink(missing_ok=True)


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.checksums.json")


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_ino, status.st_mtime_ns, status.st_ctime_ns]


def _kept(path: Path, stamp: list[int]) -> dict[str, str]:
    with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
        note = read_json(_note(path))
        if note["stamp"] == stamp:
            return dict(note["checksums"])
    return {}
