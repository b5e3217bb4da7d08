"""MNIST: 70,000 digits, from the two official files of images, and on request those of labels.

Source: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits"; their page
describes the IDX format: four big-endian 32-bit numbers (2051, images, rows, columns), then the
pixels row by row, where 255 is ink. Files of labels have two (2049, labels), then a byte for each.
"""

import contextlib
import gzip
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from svae.datasets.formats.untrusted import damaged
from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import SEED, shuffled
from svae.errors import UserError

SPLIT_RULE = (
    f"test: the official test images; the training images in a fixed shuffle (seed {SEED}): the "
    "last tenth valid, the others train"
)

_SIDE = 28
_PIXELS = _SIDE * _SIDE
_HEADER = struct.Struct(">4I")
_IMAGES = 2051
_LABELS_HEADER = struct.Struct(">2I")
_LABELS = 2049
_GZIP = b"\x1f\x8b"


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every digit, uint8 (28, 28, 1): train, valid, test.

    Args:
        raw: files `train_images` and `test_images`, and optionally `train_labels` and
            `test_labels`, plain or compressed by gzip.

    Raises:
        UserError: if a file is not such a file, is damaged, or unpacks to more than its limit.
    """
    training, test = (_images(raw, role) for role in ("train_images", "test_images"))
    labels = {
        role: _labels(raw, f"{role}_labels", len(images))
        for role, images in (("train", training), ("test", test))
    }
    order = shuffled(len(training))
    valid = max(1, len(training) // 10)
    for split, role, images, numbers in (
        ("train", "train", training, order[:-valid]),
        ("valid", "train", training, order[-valid:]),
        ("test", "test", test, range(len(test))),
    ):
        name = raw.files[f"{role}_images"].name
        for number in numbers:
            yield Picture(split, f"{name}, image {number}", images[number], labels[role][number])


def _images(raw: Raw, role: str) -> np.ndarray:
    """The images of one file: uint8 (n, 28, 28, 1)."""
    path = raw.files[role]
    with _unpacked(path) as content:
        pixels, problem = _pixels(content, raw.limits[role])
    if problem:
        raise _other(path, role, "images", problem)
    return np.frombuffer(pixels, np.uint8).reshape(-1, _SIDE, _SIDE, 1)


def _labels(raw: Raw, role: str, count: int) -> list[str]:
    """The digits of `count` images, or texts without content if there is no file of them."""
    if role not in raw.files:
        return [""] * count
    path = raw.files[role]
    with _unpacked(path) as content:
        header, labels = content.read(_LABELS_HEADER.size), content.read(count + 1)
    if header != _LABELS_HEADER.pack(_LABELS, count) or len(labels) != count:
        raise _other(path, role, "labels", f"it does not have one label for each of {count} images")
    return list(map(str, labels))


@contextlib.contextmanager
def _unpacked(path: Path) -> Iterator[BinaryIO | gzip.GzipFile]:
    """A file, unpacked if it is compressed by gzip."""
    with damaged(path, "MNIST file"), path.open("rb") as file:
        compressed = file.read(len(_GZIP)) == _GZIP
        file.seek(0)
        with gzip.open(file) if compressed else contextlib.nullcontext(file) as content:
            yield content


def _other(path: Path, role: str, what: str, problem: str) -> UserError:
    return UserError(
        f"{path} is not an official file of MNIST {what}: {problem}. Delete it and download it "
        f"again, or give another copy in config.yaml under `sources.mnist.{role}`."
    )


def _pixels(content: BinaryIO | gzip.GzipFile, limit: int) -> tuple[bytes, str]:
    """The pixels and the problem with them, which may be empty; reads at most `limit` pixels."""
    header = content.read(_HEADER.size)
    if len(header) < _HEADER.size:
        return b"", f"it has {len(header)} bytes, fewer than a header"
    kind, count, height, width = _HEADER.unpack(header)
    if kind != _IMAGES:
        return b"", f"it begins with the number {kind} instead of {_IMAGES}"
    if (height, width) != (_SIDE, _SIDE):
        return b"", f"its images have {height}x{width} pixels instead of {_SIDE}x{_SIDE}"
    size = count * _PIXELS
    if not 0 < size <= limit:
        return b"", f"its header declares {count} images; 1 to {limit // _PIXELS} are allowed"
    pixels = content.read(size)
    if len(pixels) < size:
        return b"", f"its header declares {count} images, but it contains {len(pixels) // _PIXELS}"
    # Reading past the end also makes gzip verify its checksum.
    if content.read(1):
        return b"", f"its header declares {count} images, but it contains more"
    return pixels, ""
