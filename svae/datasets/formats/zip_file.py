"""Safe reading of zip archives; nothing is extracted to disk."""

import stat
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from svae.datasets.formats.untrusted import (
    CHUNK,
    MEMBER_LIMIT,
    WAY_OUT,
    check_new,
    check_size,
    damaged,
    expect,
    not_a_plain_file,
    safe_name,
    too_large,
    unreadable,
    without_files,
)
from svae.errors import UserError
from svae.jobs.folders import is_hidden

# What zipfile raises while it reads the members of an archive that it has opened.
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError)
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits of a zip member
_LOCAL_HEADER = 30  # bytes before a zip member's name


def zip_members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted files of a zip archive, sorted by name.

    See svae.datasets.formats.archives.members for the arguments, names and errors.
    """
    with checked_zip(path, limit) as archive:
        files = {
            safe_name(info.orig_filename, path): info
            for info in archive.infolist()
            if not info.is_dir()
        }
        for name in sorted(files):
            if not is_hidden(name) and wanted(name):
                yield name, zip_content(archive, files[name], member_limit)


@contextmanager
def checked_zip(path: Path | str, limit: int) -> Iterator[zipfile.ZipFile]:
    """Open a zip archive after checking that all members are safe: regular files and folders.

    Args:
        path: a zip archive whose members are stored or deflated.
        limit: the most bytes that all members together may unpack to.

    Raises:
        UserError: if the file is not a zip archive or is damaged, or if a member is encrypted, a
            link or a device, has a path outside, is a duplicate or overlaps another; raised here
            or when a member is read in the `with` block.
    """
    expect(path, "zip archive", "a zip archive")
    with damaged(path, "zip archive"):
        archive = zipfile.ZipFile(path)
    with archive:
        _check_zip(archive, path, limit)
        try:
            yield archive
        except _ZIP_DAMAGE as error:
            raise unreadable(path, "zip archive", error) from error


def zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Return the content of one member: at most `limit` bytes, and exactly its declared size.

    Raises:
        UserError: if it has another size.
        zipfile.BadZipFile, zlib.error, EOFError: if it is damaged; a UserError in `checked_zip`.
    """
    check_size(info.filename, info.file_size, limit, archive.filename)
    # zipfile silently stops at the declared size; given a larger one, it also returns what follows.
    declared = info.file_size
    info.file_size += CHUNK
    try:
        with archive.open(info) as file:
            content = file.read(declared + 1)
    finally:
        info.file_size = declared
    if len(content) != declared:
        relation = "more" if len(content) > info.file_size else "less"
        raise UserError(
            f"{archive.filename}: {info.filename!r} unpacks to {relation} than its declared "
            f"{declared} bytes: {WAY_OUT}"
        )
    return content


def _check_zip(archive: zipfile.ZipFile, path: Path | str, limit: int) -> None:
    seen: set[str]
    seen, total, extents = set(), 0, []
    size = Path(path).stat().st_size
    for info in archive.infolist():
        if not info.filename:
            raise UserError(f"{path} has a member without a name: {WAY_OUT}")
        name = safe_name(info.orig_filename, path)
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{path}: {name!r} is encrypted: give an archive without a password.")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise not_a_plain_file(path, name, "a link or a device")
        # Python unpacks the other methods without a bound on memory.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {name!r} is compressed by a method other than deflate: pack it again."
            )
        if not info.is_dir():
            check_new(name, seen, path)
        if info.header_offset + info.compress_size > size:
            beyond = zipfile.BadZipFile(f"{name!r} lies beyond its end")
            raise unreadable(path, "zip archive", beyond)
        total += info.file_size
        extents.append((info.header_offset, info.compress_size))
    if not seen:
        raise without_files(path)
    if total > limit:
        raise too_large(path, limit)
    end = 0
    for start, packed in sorted(extents):
        if start < end:
            raise UserError(f"{path} has overlapping members, a sign of an attack: {WAY_OUT}")
        end = start + _LOCAL_HEADER + packed
