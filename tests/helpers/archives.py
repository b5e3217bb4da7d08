"""Small archives: CIFAR-10 in the official layouts, and unusual zip files."""

import io
import pickle
import struct
import tarfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def numbered_images(count: int, first: int = 0) -> np.ndarray:
    """uint8 (count, 32, 32, 3): noise whose first pixel is the image's number."""
    images = np.random.default_rng(first).integers(0, 256, (count, 32, 32, 3), np.uint8)
    numbers = np.arange(first, first + count)
    images[:, 0, 0] = np.stack([numbers & 255, numbers >> 8, numbers * 0], axis=-1)
    return images


def numbers_of(images: np.ndarray) -> list[int]:
    """The number that `numbered_images` put into each image."""
    return [int(image[0, 0, 0]) + 256 * int(image[0, 0, 1]) for image in images]


def planes(images: np.ndarray) -> list[bytes]:
    """For each image the red, green and blue planes, row by row."""
    return [b"".join(image[..., colour].tobytes() for colour in range(3)) for image in images]


def binary_batch(images: np.ndarray) -> bytes:
    return b"".join(bytes([i % 10]) + pixels for i, pixels in enumerate(planes(images)))


def python3_batch(images: np.ndarray) -> bytes:
    """As written by NumPy 2 and Python 3: bytes as latin1 text, `numpy._core`."""
    data = np.frombuffer(b"".join(planes(images)), np.uint8).reshape(-1, 3072)
    batch = {b"data": data, b"labels": [i % 10 for i in range(len(images))]}
    return pickle.dumps(batch, protocol=2)


def numpy1_batch(images: np.ndarray) -> bytes:
    """The same with the module name of numpy 1."""
    return python3_batch(images).replace(b"numpy._core.", b"numpy.core.")


def python2_batch(images: np.ndarray) -> bytes:
    """As in the official archive, written by Python 2: protocol 2, byte strings, `numpy.core`."""
    content = b"".join(planes(images))
    return (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + b"J" + struct.pack("<i", len(images)) + b"M\x00\x0c\x86"
        b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89T" + struct.pack("<i", len(content)) + content + b"tb"
        b"U\x0bbatch_labelU\x15training batch 1 of 5u."
    )


def write_tar(path: Path, members: Mapping[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


@dataclass
class ZipMember:
    """A member of a zip archive; None stands for the true value."""

    name: str | bytes
    content: bytes = b""
    deflated: bool = False
    size: int | None = None
    crc: int | None = None
    method: int | None = None
    flags: int = 0x800  # the name is UTF-8
    mode: int = 0  # of Unix: type and permissions
    offset: int | None = None


def zip_bytes(members: Iterable[ZipMember]) -> bytes:
    """A zip archive, each member's false statements in both of its headers."""
    local, central = [], []
    position = 0
    for member in members:
        name = member.name.encode() if isinstance(member.name, str) else member.name
        packed = zlib.compress(member.content, wbits=-15) if member.deflated else member.content
        method = (8 if member.deflated else 0) if member.method is None else member.method
        size = len(member.content) if member.size is None else member.size
        crc = zlib.crc32(member.content) if member.crc is None else member.crc
        common = struct.pack(
            "<5H3I2H", 20, member.flags, method, 0, 33, crc, len(packed), size, len(name), 0
        )
        offset = position if member.offset is None else member.offset
        tail = struct.pack("<3H2I", 0, 0, 0, member.mode << 16, offset)
        local += [b"PK\x03\x04", common, name, packed]
        central.append(b"PK\x01\x02" + struct.pack("<H", 0x0314) + common + tail + name)
        position += 4 + len(common) + len(name) + len(packed)
    count, size = min(len(central), 0xFFFF), sum(map(len, central))
    end = struct.pack("<4H2IH", 0, 0, count, count, size, position, 0)
    return b"".join([*local, *central, b"PK\x05\x06", end])


def write_zip(path: Path, members: Mapping[str, bytes], deflated: bool = False) -> Path:
    entries = (ZipMember(name, content, deflated) for name, content in members.items())
    path.write_bytes(zip_bytes(entries))
    return path


TAR_MODES = {"tar": "w", "tar.gz": "w:gz", "tar.bz2": "w:bz2", "tar.xz": "w:xz"}
KINDS = ("folder", "zip", "deflated", *TAR_MODES)


def pack(path: Path, contents: Mapping[str, bytes], kind: str) -> Path:
    """Write `contents` as a folder or as an archive of one of KINDS."""
    if kind in TAR_MODES:
        return write_tar(path, contents, TAR_MODES[kind])
    if kind != "folder":
        return write_zip(path, contents, deflated=kind == "deflated")
    path.mkdir()
    for name, content in contents.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def cifar_members(
    training: np.ndarray, test: np.ndarray, batch=binary_batch, folder: str = "cifar-10"
) -> dict[str, bytes]:
    """The six batches of an archive, `batch` being one of the functions above."""
    suffix = ".bin" if batch is binary_batch else ""
    parts = [*np.array_split(training, len(BATCHES)), test]
    return {
        f"{folder}/{name}{suffix}": batch(part)
        for name, part in zip((*BATCHES, "test_batch"), parts, strict=True)
    }
