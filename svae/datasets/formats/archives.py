"""Safe reading of untrusted archives; nothing is extracted to disk."""

import bz2
import errno
import gzip
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from svae.datasets.readers import BrokenImage
from svae.errors import UserError

MEMBER_LIMIT = 64 << 20  # bytes; far more than any reasonable image file

_WAY_OUT = "replace it with a complete copy, or give another in config.yaml under `sources`."
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
# What zipfile raises while it reads the members of an archive that it has opened.
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP, _BZIP2, _XZ = "compressed by gzip", "compressed by bzip2", "compressed by xz"
_COMPRESSED = {b"\x1f\x8b": _GZIP, b"BZh": _BZIP2, b"\xfd7zXZ\x00": _XZ}
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits of a zip member
_LOCAL_HEADER = 30  # bytes before a zip member's name
_HEADER_LIMIT = 1 << 20  # bytes of a tar member's extended header, mostly its name
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB
_CHUNK = 1 << 20
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
        raise _unreadable(path, kind, error) from error
    except OSError as error:
        # gzip and bz2 raise OSErrors without errno; a seek to an invalid place gives EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _unreadable(path, kind, error) from error


def members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes | BrokenImage]]:
    """Yield (name, content) of the wanted files of a folder, a zip or a tar archive.

    If a file in a folder cannot be read or is too large, its content is a BrokenImage with the
    reason.

    A name is the path inside the folder or archive, with `/` and without `./`; bytes that are not
    UTF-8, and control characters, are written as `\\xfc`. Hidden files, and `__MACOSX` folders of
    macOS, are left out. Files of a folder or a zip archive are sorted by name, those of a tar
    archive keep its order. In a folder, links are followed, and each folder is entered once, under
    its real path if that is inside.

    Args:
        path: a folder, a zip archive, or a tar archive, plain or compressed by gzip, bzip2 or xz.
        wanted: returns for a name whether the file is to be read.
        limit: the most bytes that an archive may unpack to, including unwanted members.
        member_limit: the most bytes of one wanted file.

    Raises:
        UserError: if the archive is damaged, truncated, too large or empty, or has an unsafe
            member, which the message names.
    """
    if Path(path).is_dir():
        found = _folder_members(path, wanted, member_limit)
    elif _nature(path) == "a zip archive":
        found = zip_members(path, wanted, limit, member_limit)
    else:
        found = tar_members(path, wanted, limit, member_limit)
    yield from found


def tar_members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes]]:
    """Like `members`, for a tar archive only; it is read once, from start to end."""
    _expect(path, "tar archive", "a tar archive", *_COMPRESSED.values())
    seen: set[str] = set()
    tar: Any  # the types of the standard library do not know `members`
    member: tarfile.TarInfo | None
    with damaged(path, "tar archive"), _open(path) as file:
        stream = _TarStream(path, file, limit)
        with tarfile.TarFile(
            fileobj=stream,  # type: ignore[arg-type]  # without `write`, as it is only read
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile would keep every member it has met
                if member.size < 0:  # older versions of Python do not check this
                    raise tarfile.ReadError("a member has a negative size")
                name = _safe_name(member.name, path)
                if member.isdir():
                    continue
                _check_tar_member(member, path)
                _check_new(name, seen, path)
                if not _ignored(name) and wanted(name):
                    _check_size(name, member.size, member_limit, path)
                    yield name, stream.content(member)
            stream.finish()
    if not seen:
        raise _without_files(path)


def zip_members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes]]:
    """Like `members`, for a zip archive only."""
    with checked_zip(path, limit) as archive:
        files = {
            _safe_name(info.orig_filename, path): info
            for info in archive.infolist()
            if not info.is_dir()
        }
        for name in sorted(files):
            if not _ignored(name) and wanted(name):
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
    _expect(path, "zip archive", "a zip archive")
    with damaged(path, "zip archive"):
        archive = zipfile.ZipFile(path)
    with archive:
        _check_zip(archive, path, limit)
        try:
            yield archive
        except _ZIP_DAMAGE as error:
            raise _unreadable(path, "zip archive", error) from error


def zip_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> bytes:
    """Return the content of one member: at most `limit` bytes, and exactly its declared size.

    Raises:
        UserError: if it has another size.
        zipfile.BadZipFile, zlib.error, EOFError: if it is damaged; a UserError in `checked_zip`.
    """
    _check_size(info.filename, info.file_size, limit, archive.filename)
    # zipfile silently stops at the declared size; given a larger one, it also returns what follows.
    declared = info.file_size
    info.file_size += _CHUNK
    try:
        with archive.open(info) as file:
            content = file.read(declared + 1)
    finally:
        info.file_size = declared
    if len(content) != declared:
        relation = "more" if len(content) > info.file_size else "less"
        raise UserError(
            f"{archive.filename}: {info.filename!r} unpacks to {relation} than its declared "
            f"{declared} bytes: {_WAY_OUT}"
        )
    return content


def _folder_members(
    root: Path | str, wanted: Callable[[str], bool], member_limit: int
) -> Iterator[tuple[str, bytes | BrokenImage]]:
    try:
        files = _folder_files(Path(root))
    except OSError as error:
        raise _closed(error.filename, error) from error
    if not files:
        raise _without_files(root)
    for name in sorted(files):
        if wanted(name):
            yield name, _file_content(Path(files[name]), member_limit)


def _folder_files(root: Path) -> dict[str, str]:
    """Name -> path of all files in the folder and its subfolders, each entered once."""
    files: dict[str, str]
    links: list[str]
    files, entered = {}, set()
    folders, links = [""], []
    while folders or links:
        # Links come last, so that a link to a folder inside does not rename its files.
        folder = folders.pop() if folders else links.pop(0)
        status = (root / folder).stat()
        if (status.st_dev, status.st_ino) in entered:
            continue
        entered.add((status.st_dev, status.st_ino))
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                name = f"{folder}{entry.name}"
                if _ignored(entry.name):
                    continue
                if entry.is_dir():
                    (links if entry.is_symlink() else folders).append(f"{name}/")
                else:
                    files[_readable(name)] = entry.path
    return files


def _file_content(path: Path, limit: int) -> bytes | BrokenImage:
    """The content of a file in the user's folder, or the problem with it."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return BrokenImage("not a regular file")
        if status.st_size > limit:
            return BrokenImage(f"a file of {status.st_size} bytes, more than the limit of {limit}")
        return path.read_bytes()
    except OSError as error:
        return BrokenImage(f"cannot be read ({error.strerror})")


class _TarStream:
    """The unpacked bytes of a tar archive, read forwards once, as a file object for tarfile.

    It counts the bytes against the limit, and detects what tarfile overlooks: tarfile takes an
    archive that is truncated or corrupt between two members for one that ends there.
    """

    def __init__(self, path: Path | str, file: BinaryIO, limit: int) -> None:
        self.path, self.limit = path, limit
        self.file = _decompressed(file, _nature(path))
        self.position = 0
        self.header = b""

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        if position < self.position:
            raise tarfile.ReadError("a member precedes its own header")
        while self.position < position and self._take(min(position - self.position, _CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """Called by tarfile, for headers only."""
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.header = self._take(size)
        return self.header

    def content(self, member: tarfile.TarInfo) -> bytes:
        """Return the content of the member that `next` has just returned."""
        self.seek(member.offset_data)
        content = self._take(member.size)
        if len(content) < member.size:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def finish(self) -> None:
        """Read to the end, where the compressed formats have their checksums."""
        if len(self.header) < tarfile.BLOCKSIZE or any(self.header):
            raise tarfile.ReadError("the end-of-archive marker is missing")
        while self._take(_CHUNK):
            pass

    def _take(self, size: int) -> bytes:
        """Read at most `size` bytes, 0 or more."""
        content = self.file.read(size)
        self.position += len(content)
        if self.position > self.limit:
            raise _too_large(self.path, self.limit)
        return content


class _Xz(io.RawIOBase):
    """An xz stream unpacked in bounded memory; lzma's file object has no memory limit."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content and not self.stream.eof:
            packed = self.file.read(_CHUNK) if self.stream.needs_input else b""
            if not packed and self.stream.needs_input:
                raise EOFError("the compressed data are truncated")
            content = self.stream.decompress(packed, len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _decompressed(file: BinaryIO, nature: str | None) -> BinaryIO | io.BufferedIOBase:
    if nature == _GZIP:
        return gzip.GzipFile(fileobj=file)
    if nature == _BZIP2:
        return bz2.BZ2File(file)
    return io.BufferedReader(_Xz(file), _CHUNK) if nature == _XZ else file


def _check_zip(archive: zipfile.ZipFile, path: Path | str, limit: int) -> None:
    seen: set[str]
    seen, total, extents = set(), 0, []
    for info in archive.infolist():
        name = _safe_name(info.orig_filename, path)
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{path}: {name!r} is encrypted: give an archive without a password.")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _no_plain_file(path, name, "a link or a device")
        # Python unpacks the other methods without a bound on memory.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {name!r} is compressed by a method other than deflate: pack it again."
            )
        if not info.is_dir():
            _check_new(name, seen, path)
        total += info.file_size
        extents.append((info.header_offset, info.compress_size))
    if not seen:
        raise _without_files(path)
    if total > limit:
        raise _too_large(path, limit)
    end = 0
    for start, size in sorted(extents):
        if start < end:
            raise UserError(f"{path} has overlapping members, a sign of an attack: {_WAY_OUT}")
        end = start + _LOCAL_HEADER + size


def _check_tar_member(member: tarfile.TarInfo, path: Path | str) -> None:
    kinds = {
        "a symbolic link": member.issym(),
        "a hard link": member.islnk(),
        "a device or a pipe": member.isdev(),
        "a sparse file": member.issparse(),
        "of an unknown type": not member.isreg(),
    }
    for kind, applies in kinds.items():
        if applies:
            raise _no_plain_file(path, member.name, kind)


def _safe_name(raw: str, path: Path | str) -> str:
    """A member's name as a relative path; UserError if it may lead outside."""
    parts = raw.split("/")
    if raw.startswith("/") or ".." in parts or re.search(r"[\\\0]|^[A-Za-z]:", raw):
        raise UserError(
            f"{path} contains {raw!r}, a path that may lead outside (some Windows programs write "
            "backslashes into names): pack it with another program, or give another archive in "
            "config.yaml under `sources`."
        )
    return _readable("/".join(part for part in parts if part not in ("", ".")))


def _readable(name: str) -> str:
    """The name for messages: bytes that are not UTF-8, and control characters, are escaped."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _ignored(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _check_new(name: str, seen: set[str], path: Path | str) -> None:
    if name in seen:
        raise UserError(f"{path} contains {name!r} twice: {_WAY_OUT}")
    seen.add(name)
    if len(seen) > _MOST_MEMBERS:
        raise UserError(f"{path} contains more than {_MOST_MEMBERS} files: split it up.")


def _check_size(name: str, size: int, limit: int, path: Path | str | None) -> None:
    if size > limit:
        raise UserError(
            f"{path}: {name!r} has {size} bytes, more than the limit of {limit} for such a file: "
            f"{_WAY_OUT}"
        )


def _nature(path: Path | str) -> str | None:
    """What a file is, judged by its first bytes."""
    with _open(path) as file:
        start = file.read(512)
    if not start:
        return "an empty file"
    if _WEB_PAGE.match(start):
        return "a web page"
    if start.startswith(_ZIP_MAGIC):
        return "a zip archive"
    for magic, nature in _COMPRESSED.items():
        if start.startswith(magic):
            return nature
    return "a tar archive" if start[257:262] == b"ustar" else None


def _expect(path: Path | str, kind: str, *natures: str) -> None:
    nature = _nature(path)
    if nature is not None and nature not in natures:
        raise UserError(f"{path} is {nature}, not a {kind}: {_WAY_OUT}")


def _open(path: Path | str) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except OSError as error:
        raise _closed(path, error) from error


def _closed(path: Path | str, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be read ({error.strerror}): check that it exists and that you may read it."
    )


def _unreadable(path: Path | str, kind: str, error: Exception) -> UserError:
    return UserError(
        f"{path} cannot be read as a {kind} ({error}); it may be truncated, or a web page saved "
        f"instead of the file: {_WAY_OUT}"
    )


def _too_large(path: Path | str, limit: int) -> UserError:
    return UserError(
        f"{path} unpacks to more than {limit} bytes, the limit for this data set: {_WAY_OUT}"
    )


def _without_files(path: Path | str) -> UserError:
    return UserError(f"{path} contains no files: {_WAY_OUT}")


def _no_plain_file(path: Path | str, name: str, kind: str) -> UserError:
    return UserError(
        f"{path}: {name!r} is {kind}; only regular files and folders are read: {_WAY_OUT}"
    )
