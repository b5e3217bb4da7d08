"""LMDB databases as written by 64-bit little-endian machines, read from start to end.

The LMDB library is not used: it maps the file into memory and trusts it, so that a damaged or
truncated file can kill the process (SIGBUS, SIGABRT) instead of raising an error. Reading the
entries in order takes little code and runs in constant memory.

Source: the structures in mdb.c of https://github.com/LMDB/lmdb (format 1).
"""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

# A B+ tree of pages of equal size: branch pages point to leaf pages, whose nodes hold keys and
# values; a large value has its own consecutive pages. The first two pages hold the root of the tree
# as of the last write and the one before.

_PAGE = struct.Struct("<Q2xHHH")  # page number, flags, end of the node pointers, start of the nodes
# Magic, version, page size; of the main tree: flags, levels, entries, root; time of the write.
_META = struct.Struct("<II16xI48xHH24xQQ8xQ")
_NODE = struct.Struct("<HHHH")  # low and high half of a size or page number, flags, size of the key
_MAGIC, _VERSION = 0xBEEFC0DE, 1
_BRANCH, _LEAF, _OVERFLOW, _META_PAGE = 0x01, 0x02, 0x04, 0x08
_KIND_BITS = 0x6F  # without the mark of a page that was being written
_LARGE = 0x01  # flag of a node whose value has its own pages
_PAGE_SIZES = tuple(1 << power for power in range(8, 17))
_MOST_LEVELS = 32
_VALUE_LIMIT = 64 << 20  # bytes of one image


class _Tree(NamedTuple):
    file: int  # descriptor
    page_size: int
    root: int
    levels: int
    entries: int


def entries(file: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield every (key, value) of an LMDB file in the order of the keys.

    Raises:
        ValueError, EOFError, struct.error, OverflowError, OSError (EINVAL): if the file is damaged,
            which is detected at the last entry at the latest.
    """
    tree = _tree(file)
    count, last, left = 0, b"", os.fstat(file).st_size
    for key, value in _walk(tree, tree.root, tree.levels) if tree.entries else ():
        left -= len(value)
        # Each of these checks also stops at a cycle in a damaged tree.
        if key <= last:
            raise ValueError("its keys are not in order")
        if left < 0:
            raise ValueError("its values have more bytes than the file")
        yield key, value
        count, last = count + 1, key
    if not count or count != tree.entries:
        raise ValueError(f"it contains {count} images, but its header declares {tree.entries}")


def _tree(file: int) -> _Tree:
    trees, page_size = {}, 0
    for number in (0, 1):
        page = _read(file, number * page_size, _PAGE.size + _META.size)
        _, page_flags, _, _ = _PAGE.unpack_from(page)
        fields = _META.unpack_from(page, _PAGE.size)
        magic, version, page_size, flags, levels, entries, root, time = fields
        if page_flags & _KIND_BITS != _META_PAGE or (magic, version) != (_MAGIC, _VERSION):
            raise ValueError("its header is not that of an LMDB file of format 1")
        if page_size not in _PAGE_SIZES or levels > _MOST_LEVELS or flags:
            raise ValueError(f"page size {page_size}, {levels} levels, flags {flags:#x}")
        trees[time] = _Tree(file, page_size, root, levels, entries)
    return trees[max(trees)]


def _walk(tree: _Tree, number: int, levels: int) -> Iterator[tuple[bytes, bytes]]:
    """The entries below page `number`, which is `levels` - 1 levels above the leaves."""
    page = _read(tree.file, number * tree.page_size, tree.page_size)
    kind = _BRANCH if levels > 1 else _LEAF
    for low, high, flags, key, rest in _nodes(page, number, kind):
        if kind == _BRANCH:
            yield from _walk(tree, low | high << 16 | flags << 32, levels - 1)
        else:
            yield key, _value(tree, low | high << 16, flags, rest)


def _nodes(page: bytes, number: int, kind: int) -> Iterator[tuple[int, int, int, bytes, bytes]]:
    """Yield for every node: size or page number (two halves), flags, key, bytes after the key."""
    itself, flags, end, _ = _PAGE.unpack_from(page)
    # A cycle through an empty page would never end.
    if itself != number or flags & _KIND_BITS != kind or not _PAGE.size < end <= len(page):
        raise ValueError(f"page {number} is damaged")
    for place in range(_PAGE.size, end - 1, 2):
        start = int.from_bytes(page[place : place + 2], "little")
        low, high, flags, key_size = _NODE.unpack_from(page, start)
        key, rest = start + _NODE.size, start + _NODE.size + key_size
        yield low, high, flags, page[key:rest], page[rest:]


def _value(tree: _Tree, size: int, flags: int, rest: bytes) -> bytes:
    if size > _VALUE_LIMIT:
        raise ValueError(f"an image has {size} bytes, more than the limit of {_VALUE_LIMIT}")
    if flags == 0 and size <= len(rest):
        return rest[:size]
    if flags != _LARGE:
        raise ValueError("an entry is damaged")
    start = int.from_bytes(rest[:8], "little") * tree.page_size
    content = _read(tree.file, start, _PAGE.size + size)
    itself, flags, _, _ = _PAGE.unpack_from(content)
    if itself * tree.page_size != start or flags & _KIND_BITS != _OVERFLOW:
        raise ValueError("the pages of an image are damaged")
    return content[_PAGE.size :]


def _read(file: int, start: int, size: int) -> bytes:
    content = os.pread(file, size, start)
    if len(content) < size:
        raise EOFError("it is truncated")
    return content
