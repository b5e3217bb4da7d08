"""Reading archives that nobody vouches for: nothing is extracted to disk."""

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
from typing import BinaryIO

from svae.datasets.readers import BrokenImage
from svae.errors import UserError

MEMBER_LIMIT = 64 << 20  # bytes; no image file of sensible size comes near

_WAY_OUT = "replace it by a whole copy, or name another one in config.yaml under `sources`."
# What tarfile, zipfile and the decompressors raise on damaged input, beside some OSErrors.
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
# What zipfile raises while it reads the members of an archive that opened well.
_ZIP_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, NotImplementedError)
_ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_GZIP, _BZIP2, _XZ = "compressed by gzip", "compressed by bzip2", "compressed by xz"
_COMPRESSED = {b"\x1f\x8b": _GZIP, b"BZh": _BZIP2, b"\xfd7zXZ\x00": _XZ}
_WEB_PAGE = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype|html|head|body|\?xml|!--)", re.IGNORECASE)
_ENCRYPTED = 0x1 | 0x40 | 0x2000  # flag bits of a zip member
_LOCAL_HEADER = 30  # bytes before a zip member's name
_HEADER_LIMIT = 1 << 20  # bytes of a tar member's extended header, which hold little but its name
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB
_CHUNK = 1 << 20
_MOST_MEMBERS = 4_000_000  # each costs memory, whatever its size


@contextmanager
def damaged(path: Path | str, kind: str) -> Iterator[None]:
    """Turn what the libraries raise on damaged input into a UserError.

    Errors of the system (no space, no permission, a failing disk) pass as they are.

    Args:
        path: the file that is being read.
        kind: what it should be, such as "tar archive".
    """
    try:
        yield
    except _DAMAGE as error:
        raise _unreadable(path, kind, error) from error
    except OSError as error:
        # gzip and bz2 raise bare OSErrors; a seek to nowhere is EINVAL.
        if error.errno not in (None, errno.EINVAL):
            raise
        raise _unreadable(path, kind, error) from error


def members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes | BrokenImage]]:
    """Yield (name, content) of the wanted files of a folder, a zip or a tar archive, one by one.

    Of a file in a folder that cannot be read, or is too large, comes the reason for its content.

    A name is the path inside the folder or archive, with `/` and without `./`; bytes that are no
    UTF-8, and control characters, appear as `\\xfc`. Hidden files and what macOS packs as
    `__MACOSX` are left out. A folder and a zip archive come sorted by name, a tar archive in its
    own order. In a folder links are followed, and each folder is entered once, by its real place
    if that is inside.

    Args:
        path: a folder, a zip archive, or a tar archive, plain or compressed by gzip, bzip2 or xz.
        wanted: tells by its name whether a file is to be read.
        limit: the most bytes that an archive may unpack to, unwanted members included.
        member_limit: the most bytes of one wanted file.

    Raises:
        UserError: damaged, truncated, too large, without any file, or with a member that no
            harmless archive has; the exception names it.
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
    """As `members`, of a tar archive only; it is read once, from beginning to end."""
    _expect(path, "tar archive", "a tar archive", *_COMPRESSED.values())
    seen = set()
    with damaged(path, "tar archive"), _open(path) as file:
        stream = _TarStream(path, file, limit)
        with tarfile.TarFile(fileobj=stream, encoding="utf-8", errors="surrogateescape") as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile would keep every member it has met
                if member.size < 0:  # older ones of Python pass that on
                    raise tarfile.ReadError("a member of negative size")
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
    """As `members`, of a zip archive only."""
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
    """Open a zip archive whose members are all harmless: plain files and folders inside it.

    Args:
        path: a zip archive, its members stored or deflated.
        limit: the most bytes that they may unpack to together.

    Raises:
        UserError: no zip archive, a damaged one, or a member that is encrypted, a link or a
            device, leads outside, is there twice or overlaps another; here or when one is read in
            the `with` block.
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
    """The content of one member, of at most `limit` bytes and exactly as long as it declares.

    Raises:
        UserError: another size.
        zipfile.BadZipFile, zlib.error, EOFError: damaged; a UserError inside `checked_zip`.
    """
    _check_size(info.filename, info.file_size, limit, archive.filename)
    # zipfile stops at the declared size in silence; told a larger one, it shows what follows.
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
            f"{archive.filename}: {info.filename!r} unpacks to {relation} than the "
            f"{declared} bytes that it declares: {_WAY_OUT}"
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
    """Name to path of all files below, each folder entered once."""
    files, entered = {}, set()
    folders, links = [""], []
    while folders or links:
        # Links come last, so that a link to a folder that is inside anyway renames nothing.
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
    """A file of the user's own folder, or what is wrong with this one."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return BrokenImage("no plain file")
        if status.st_size > limit:
            return BrokenImage(f"a file of {status.st_size} bytes, more than the {limit} read")
        return path.read_bytes()
    except OSError as error:
        return BrokenImage(f"cannot be read ({error.strerror})")


class _TarStream:
    """The unpacked bytes of a tar archive, forwards once, as the file object that tarfile reads.

    It counts them against the limit, and notices what tarfile overlooks: to tarfile an archive
    that breaks off, or turns into something else, between two members has simply ended.
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
            raise tarfile.ReadError("a member before its own header")
        while self.position < position and self._take(min(position - self.position, _CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """Called by tarfile, for headers alone."""
        if not 0 <= size <= _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {size} bytes")
        self.header = self._take(size)
        return self.header

    def content(self, member: tarfile.TarInfo) -> bytes:
        """The content of the member that `next` has just given."""
        self.seek(member.offset_data)
        content = self._take(member.size)
        if len(content) < member.size:
            raise tarfile.ReadError("unexpected end of data")
        return content

    def finish(self) -> None:
        """Read on to the end, where the compressed formats have their checksums."""
        if len(self.header) < tarfile.BLOCKSIZE or any(self.header):
            raise tarfile.ReadError("no mark of its end")
        while self._take(_CHUNK):
            pass

    def _take(self, size: int) -> bytes:
        """At most `size` bytes, a number of 0 or above."""
        content = self.file.read(size)
        self.position += len(content)
        if self.position > self.limit:
            raise _too_large(self.path, self.limit)
        return content


class _Xz(io.RawIOBase):
    """An xz stream unpacked in bounded memory, for which lzma's own file object has no setting."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:
        content = b""
        while not content and not self.stream.eof:
            packed = self.file.read(_CHUNK) if self.stream.needs_input else b""
            if not packed and self.stream.needs_input:
                raise EOFError("the compressed data break off")
            content = self.stream.decompress(packed, len(buffer))
        buffer[: len(content)] = content
        return len(content)


def _decompressed(file: BinaryIO, nature: str | None) -> BinaryIO:
    if nature == _GZIP:
        return gzip.GzipFile(fileobj=file)
    if nature == _BZIP2:
        return bz2.BZ2File(file)
    return io.BufferedReader(_Xz(file), _CHUNK) if nature == _XZ else file


def _check_zip(archive: zipfile.ZipFile, path: Path | str, limit: int) -> None:
    seen, total, extents = set(), 0, []
    for info in archive.infolist():
        name = _safe_name(info.orig_filename, path)
        if info.flag_bits & _ENCRYPTED:
            raise UserError(f"{path}: {name!r} is encrypted: give an archive without a password.")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _no_plain_file(path, name, "a link or a device")
        # The other methods unpack without a bound on memory in Python.
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UserError(
                f"{path}: {name!r} is compressed by a method other than deflate: pack it anew."
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
            raise UserError(f"{path} holds members that overlap, as no honest one does: {_WAY_OUT}")
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
    """A member's name as a relative path; a UserError if it is none."""
    parts = raw.split("/")
    if raw.startswith("/") or ".." in parts or re.search(r"[\\\0]|^[A-Za-z]:", raw):
        raise UserError(
            f"{path} holds {raw!r}, which may lead outside (some programs on Windows write such "
            "names, with backslashes): pack it with another one, or name another archive in "
            "config.yaml under `sources`."
        )
    return _readable("/".join(part for part in parts if part not in ("", ".")))


def _readable(name: str) -> str:
    """Fit for messages: bytes that are no UTF-8, and control characters, are written out."""
    if name.isprintable():
        return name
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\x{ord(match[0]):02x}", text)


def _ignored(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _check_new(name: str, seen: set[str], path: Path | str) -> None:
    if name in seen:
        raise UserError(f"{path} holds {name!r} twice: {_WAY_OUT}")
    seen.add(name)
    if len(seen) > _MOST_MEMBERS:
        raise UserError(f"{path} holds more than {_MOST_MEMBERS} files: split it up.")


def _check_size(name: str, size: int, limit: int, path: Path | str) -> None:
    if size > limit:
        raise UserError(
            f"{path}: {name!r} has {size} bytes, more than the {limit} that such a file may have: "
            f"{_WAY_OUT}"
        )


def _nature(path: Path | str) -> str | None:
    """What a file is by its beginning."""
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
        f"{path} cannot be read as a {kind} ({error}); it may be truncated, or a web page saved in "
        f"place of the file: {_WAY_OUT}"
    )


def _too_large(path: Path | str, limit: int) -> UserError:
    return UserError(
        f"{path} unpacks to more than {limit} bytes, which is more than this data set can have: "
        f"{_WAY_OUT}"
    )


def _without_files(path: Path | str) -> UserError:
    return UserError(f"{path} holds no file at all: {_WAY_OUT}")


def _no_plain_file(path: Path | str, name: str, kind: str) -> UserError:
    return UserError(
        f"{path}: {name!r} is {kind}; only plain files and folders are read: {_WAY_OUT}"
    )
