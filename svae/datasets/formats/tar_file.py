"""Safe reading of tar archives, plain or compressed; nothing is extracted to disk."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from svae.datasets.formats.untrusted import (
    BZIP2,
    CHUNK,
    COMPRESSED,
    GZIP,
    MEMBER_LIMIT,
    XZ,
    check_new,
    check_size,
    damaged,
    expect,
    nature_of,
    not_a_plain_file,
    open_file,
    safe_name,
    too_large,
    without_files,
)
from svae.jobs.folders import is_hidden

_HEADER_LIMIT = 1 << 20  # bytes of all headers of a tar member, mostly its name
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB


def tar_members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the wanted files of a tar archive, read once from start to end.

    See svae.datasets.formats.archives.members for the arguments, names and errors.
    """
    expect(path, "tar archive", "a tar archive", *COMPRESSED.values())
    seen: set[str] = set()
    tar: Any  # the types of the standard library do not know `members`
    member: tarfile.TarInfo | None
    with damaged(path, "tar archive"), open_file(path) as file:
        stream = _TarStream(path, file, limit)
        with _Tar(
            fileobj=stream,  # type: ignore[arg-type]  # without `write`, as it is only read
            encoding="utf-8",
            errors="surrogateescape",
        ) as tar:
            while (member := tar.next()) is not None:
                tar.members.clear()  # tarfile would keep every member it has met
                stream.headers = 0
                if member.size < 0:  # older versions of Python do not check this
                    raise tarfile.ReadError("a member has a negative size")
                name = safe_name(member.name, path)
                if member.isdir():
                    continue
                _check_tar_member(member, path)
                check_new(name, seen, path)
                if not is_hidden(name) and wanted(name):
                    check_size(name, member.size, member_limit, path)
                    yield name, stream.content(member)
            stream.finish()
    if not seen:
        raise without_files(path)


class _Tar(tarfile.TarFile):
    def next(self) -> tarfile.TarInfo | None:
        try:
            return super().next()
        except (LookupError, TypeError, AttributeError) as error:  # a cut map of a sparse file
            raise tarfile.ReadError(str(error)) from error


class _TarStream:
    """The unpacked bytes of a tar archive, read forwards once, as a file object for tarfile.

    It counts the bytes against the limit, and detects what tarfile overlooks: tarfile takes an
    archive that is truncated or corrupt between two members for one that ends there.
    """

    def __init__(self, path: Path | str, file: BinaryIO, limit: int) -> None:
        self.path, self.limit = path, limit
        self.file = _decompressed(file, nature_of(path))
        self.position = 0
        self.header = b""
        self.headers = 0  # bytes of headers since the last member

    def tell(self) -> int:
        return self.position

    def seek(self, position: int) -> None:
        if position < self.position:
            raise tarfile.ReadError("a member precedes its own header")
        while self.position < position and self._take(min(position - self.position, CHUNK)):
            pass

    def read(self, size: int) -> bytes:
        """Called by tarfile, for headers only."""
        self.headers += max(0, size)
        if size < 0 or self.headers > _HEADER_LIMIT:
            raise tarfile.ReadError(f"a header of {self.headers} bytes")
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
        while self._take(CHUNK):
            pass

    def _take(self, size: int) -> bytes:
        """Read at most `size` bytes, 0 or more."""
        content = self.file.read(size)
        self.position += len(content)
        if self.position > self.limit:
            raise too_large(self.path, self.limit)
        return content


class _Xz(io.RawIOBase):
    """xz streams unpacked in bounded memory; lzma's file object has no memory limit."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.stream = self._new()
        self.rest = b""  # what was read after the end of a stream

    def _new(self) -> lzma.LZMADecompressor:
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        content = b""
        while not content:
            if self.stream.eof:
                packed = self.rest or self.file.read(CHUNK)
                if not packed:
                    break
                self.rest, packed = b"", packed.lstrip(b"\0")  # zeros may stand between streams
                if not packed:
                    continue
                self.stream = self._new()
            else:
                packed = self.file.read(CHUNK) if self.stream.needs_input else b""
                if not packed and self.stream.needs_input:
                    raise EOFError("the compressed data are truncated")
            content = self.stream.decompress(packed, len(buffer))
            self.rest = self.stream.unused_data
        buffer[: len(content)] = content
        return len(content)


def _decompressed(file: BinaryIO, nature: str | None) -> BinaryIO | io.BufferedIOBase:
    if nature == GZIP:
        return gzip.GzipFile(fileobj=file)
    if nature == BZIP2:
        return bz2.BZ2File(file)
    return io.BufferedReader(_Xz(file), CHUNK) if nature == XZ else file


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
            raise not_a_plain_file(path, member.name, kind)
