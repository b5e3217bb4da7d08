"""Small CIFAR-10 archives in the official layouts, made of any pictures."""

import io
import pickle
import struct
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

BATCHES = ("data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5")


def numbered_pictures(count: int, first: int = 0) -> np.ndarray:
    """uint8 (count, 32, 32, 3): noise whose first pixel holds the picture's number."""
    pictures = np.random.default_rng(first).integers(0, 256, (count, 32, 32, 3), np.uint8)
    numbers = np.arange(first, first + count)
    pictures[:, 0, 0] = np.stack([numbers & 255, numbers >> 8, numbers * 0], axis=-1)
    return pictures


def numbers_of(pictures: np.ndarray) -> list[int]:
    """What `numbered_pictures` put into each picture."""
    return [int(picture[0, 0, 0]) + 256 * int(picture[0, 0, 1]) for picture in pictures]


def planes(pictures: np.ndarray) -> list[bytes]:
    """For each picture the red, the green and the blue plane, row by row."""
    return [b"".join(picture[..., colour].tobytes() for colour in range(3)) for picture in pictures]


def binary_batch(pictures: np.ndarray) -> bytes:
    return b"".join(bytes([i % 10]) + pixels for i, pixels in enumerate(planes(pictures)))


def python3_batch(pictures: np.ndarray) -> bytes:
    """As numpy 2 and Python 3 write it: bytes as latin1 text, `numpy._core`."""
    data = np.frombuffer(b"".join(planes(pictures)), np.uint8).reshape(-1, 3072)
    batch = {b"data": data, b"labels": [i % 10 for i in range(len(pictures))]}
    return pickle.dumps(batch, protocol=2)


def numpy1_batch(pictures: np.ndarray) -> bytes:
    """The same with the module name of numpy 1."""
    return python3_batch(pictures).replace(b"numpy._core.", b"numpy.core.")


def python2_batch(pictures: np.ndarray) -> bytes:
    """As Python 2 wrote the official archive: protocol 2, byte strings, `numpy.core`."""
    content = b"".join(planes(pictures))
    return (
        b"\x80\x02}(U\x04data"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01" + b"J" + struct.pack("<i", len(pictures)) + b"M\x00\x0c\x86"
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
