"""What the readers of archives refuse: damage, unsafe names, too many or too large members.

Every refusal is a UserError that names the file and says what to do.
"""

import errno
import lzma
import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from svae.errors import UserError, readable

MEMBER_LIMIT = 64 << 20  # bytes; far more than any reasonable image file

WAY_OUT = "replace it with a complete copy, or give another in config.yaml under `sources`."
# What tarfile, zipfile and the decompressors raise on damaged input, in addition to OSErrors.
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RecursionError,
)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
GZIP, BZIP2, XZ = "compressed by gzip", "compressed by bzip2", "compressed by xz"
COMPRESSED = {b"\x1f\x8b": GZIP, b"BZh": BZIP2, b"\xfd7zXZ\x00": XZ}
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
CHUNK = 1 << 20
_MOST_MEMBERS = 4_000_000  # each takes memory, whatever its size


@contextmanager
def damaged(path: Path | str, kind: str) -> Iterator[None]:
    """Convert the exceptions that libraries raise on damaged input into a UserError.

    System errors (no space, no permission, a failing disk) are not converted.

    Args:
        path: the file that is being read.
        kind: the expected format, such as "tar archive".
    """
    try:
        yield
    except _DAMAGE as error:
        raise unreadable(path, kind, error) from error
    except OSError as error:
        # gzip and bz2 raise OSErrors without errno; a seek to an invalid place gives EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise unreadable(path, kind, error) from error


def safe_name(raw: str, path: Path | str) -> str:
    """Return a member's name as a relative path; UserError if it may lead outside."""
    parts = raw.split("/")
    if raw.startswith("/") or ".." in parts or re.search(r"[\\\0]|^[A-Za-z]:", raw):
        raise UserError(
            f"{path} contains {raw!r}, a path that may lead outside (some Windows programs write "
            "backslashes into names): pack it with another program, or give another archive in "
            "config.yaml under `sources`."
        )
    return readable("/".join(part for part in parts if part not in ("", ".")))


def check_new(name: str, seen: set[str], path: Path | str) -> None:
    """Add a name to `seen`; UserError if it was there, or if there are too many."""
    if name in seen:
        raise UserError(f"{path} contains {name!r} twice: {WAY_OUT}")
    seen.add(name)
    if len(seen) > _MOST_MEMBERS:
        raise UserError(f"{path} contains more than {_MOST_MEMBERS} files: split it up.")


def check_size(name: str, size: int, limit: int, path: Path | str | None) -> None:
    """UserError if a member of `size` bytes is larger than the limit."""
    if size > limit:
        raise UserError(
            f"{path}: {name!r} has {size} bytes, more than the limit of {limit} for such a file: "
            f"{WAY_OUT}"
        )


def nature_of(path: Path | str) -> str | None:
    """Return what a file is, judged by its first bytes; None if they do not tell."""
    with open_file(path) as file:
        start = file.read(512)
    if not start:
        return "an empty file"
    if _WEB_PAGE.match(start):
        return "a web page"
    if start.startswith(_ZIP_MAGIC):
        return "a zip archive"
    for magic, nature in COMPRESSED.items():
        if start.startswith(magic):
            return nature
    return "a tar archive" if start[257:262] == b"ustar" else None


def expect(path: Path | str, kind: str, *natures: str) -> None:
    """UserError if a file is known to be something else than `natures`, as by `nature_of`."""
    nature = nature_of(path)
    if nature is not None and nature not in natures:
        raise UserError(f"{path} is {nature}, not a {kind}: {WAY_OUT}")


def open_file(path: Path | str) -> BinaryIO:
    """Open for reading; UserError if that fails."""
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise not_opened(path, error) from error


def not_opened(path: Path | str, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be read ({error.strerror}): check that it exists and that you may read it."
    )


def unreadable(path: Path | str, kind: str, error: Exception) -> UserError:
    reason = readable(str(error))
    return UserError(
        f"{path} cannot be read as a {kind} ({reason}); it may be truncated, or a web page saved "
        f"instead of the file: {WAY_OUT}"
    )


def too_large(path: Path | str, limit: int) -> UserError:
    return UserError(
        f"{path} unpacks to more than {limit} bytes, the limit for this data set: {WAY_OUT}"
    )


def without_files(path: Path | str) -> UserError:
    return UserError(f"{path} contains no files: {WAY_OUT}")


def not_a_plain_file(path: Path | str, name: str, kind: str) -> UserError:
    return UserError(
        f"{path}: {name!r} is {kind}; only regular files and folders are read: {WAY_OUT}"
    )
