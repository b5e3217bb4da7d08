"""The arrays of MATLAB files of version 5, read as streams.

scipy.io.loadmat would hold a whole array in memory (1.6 GB for SVHN's `extra`), and gigabytes for a
small malicious file whose array is longer than its shape.

Source: MathWorks, "MAT-File Format", version 5.
"""

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

_HEADER_BYTES = 128
_BYTE_ORDERS = {b"IM": "<", b"MI": ">"}
UINT8, _MATRIX, _COMPRESSED = 2, 14, 15  # types of elements
UINT8_ARRAY = 9  # a class of arrays; two of the higher bits mark complex and logical arrays
_KIND_BITS = 0x0AFF
# The most bytes of an array's flags, dimensions (32 of them) and name.
_FLAGS_LIMIT, _SHAPE_LIMIT, _NAME_LIMIT = 8, 128, 64


class Content:
    """The content of an element as a stream, unpacked if it is compressed by zlib."""

    def __init__(self, file: BinaryIO, start: int, size: int, order: str) -> None:
        self._file, self._position, self._end = file, start, start + size
        self._order = order
        self._zlib: zlib._Decompress | None = None

    def inflate(self) -> None:
        """Decompress everything that follows."""
        self._zlib = zlib.decompressobj()

    def read(self, size: int) -> bytes:
        """Return the next `size` bytes, or fewer at the end."""
        if self._zlib is None:
            return self._stored(size)
        content = bytearray()
        while len(content) < size and not self._zlib.eof:
            packed = self._zlib.unconsumed_tail or self._stored(1 << 16)
            if not packed:
                raise EOFError("a compressed array ends early")
            content += self._zlib.decompress(packed, size - len(content))
        return bytes(content)

    def exactly(self, size: int) -> bytes:
        content = self.read(size)
        if len(content) < size:
            raise EOFError(f"an array ends {size - len(content)} bytes early")
        return content

    def tag(self) -> tuple[int, int]:
        """Return type and size in bytes of the element that follows."""
        return struct.unpack(f"{self._order}2I", self.exactly(8))

    def element(self, limit: int) -> bytes:
        """Return the element that follows; ValueError if it has more than `limit` bytes."""
        tag = self.exactly(8)
        kind, size = struct.unpack(f"{self._order}2I", tag)
        if kind >> 16:  # a small element: its size, its type and its content in 8 bytes
            size = kind >> 16
            return tag[4 : 4 + size]
        if size > limit:
            raise ValueError(f"the header of an array has an element of {size} bytes")
        return self.exactly(size + -size % 8)[:size]

    def _stored(self, size: int) -> bytes:
        size = min(size, self._end - self._position)
        content = os.pread(self._file.fileno(), size, self._position)
        self._position += len(content)
        return content


class Array(NamedTuple):
    """An array; its content is positioned after the header."""

    name: str
    kind: int
    shape: tuple[int, ...]
    content: Content


def arrays(file: BinaryIO) -> Iterator[Array]:
    """Yield every array of a file.

    ValueError, EOFError: the file is of another format, or truncated.
    """
    header = file.read(_HEADER_BYTES)
    order = _BYTE_ORDERS.get(header[126:128], "<")
    if header.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise ValueError("it has version 7.3; MATLAB's `save` with '-v7' writes version 5")
    if header[124:128] != struct.pack(f"{order}2H", 0x0100, 0x4D49):
        raise ValueError("its header is not that of version 5")
    position, end = _HEADER_BYTES, os.fstat(file.fileno()).st_size
    while position < end:
        kind, size = Content(file, position, end - position, order).tag()
        position += 8
        if position + size > end:
            raise EOFError(f"it ends {position + size - end} bytes early")
        yield _array(Content(file, position, size, order), kind, order)
        position += size


def _array(content: Content, kind: int, order: str) -> Array:
    if kind == _COMPRESSED:
        content.inflate()
        kind, _ = content.tag()
    if kind != _MATRIX:
        raise ValueError(f"it has an element of type {kind} instead of an array")
    flags = content.element(_FLAGS_LIMIT)
    shape = content.element(_SHAPE_LIMIT)
    name = content.element(_NAME_LIMIT)
    return Array(
        name.decode("latin1"),
        struct.unpack(f"{order}2I", flags)[0] & _KIND_BITS,
        struct.unpack(f"{order}{len(shape) // 4}i", shape),
        content,
    )
