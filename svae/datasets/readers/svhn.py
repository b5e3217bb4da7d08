"""SVHN: street view house numbers, from the MATLAB files of 32x32 images ("format 2").

Source: Y. Netzer et al., "Reading Digits in Natural Images with Unsupervised Feature Learning",
2011; http://ufldl.stanford.edu/housenumbers/.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from svae.datasets.formats.mat_file import UINT8, UINT8_ARRAY, Array, arrays
from svae.datasets.formats.untrusted import damaged
from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import SEED, shuffled
from svae.errors import UserError

SPLIT_RULE = (
    f"test: the official test images; the training images in a fixed shuffle (seed {SEED}): the "
    "last tenth valid, the others train; the extra images, if given: train"
)

_ROLES = ("train", "extra", "test")
_SHAPE = (32, 32, 3)
_PIXELS = 32 * 32 * 3
_BLOCK = 1000
_KIND = "MATLAB file of version 5"


def read(raw: Raw) -> Iterator[Picture]:
    """Yield every image, uint8 (32, 32, 3), RGB, from the files train, extra and test in turn.

    Its label is its digit, if the file has a variable y of as many bytes; there 10 stands for 0.

    Args:
        raw: files `train`, `test` and optionally `extra`: MATLAB files of version 5 whose variable
            X is uint8 (32, 32, 3, n).

    Raises:
        UserError: if a file is not such a file, is damaged, or has more bytes than its limit.
    """
    roles = [role for role in _ROLES if role in raw.files]
    with contextlib.ExitStack() as stack:
        # All headers are checked before any image is read, so that a wrong file is found early.
        found = {
            role: _checked(stack.enter_context(raw.files[role].open("rb")), raw, role)
            for role in roles
        }
        digits = {role: digits for role, (_, digits) in found.items()}
        for role, (array, _) in found.items():
            path = raw.files[role]
            splits = _splits(role, array.shape[-1])
            with damaged(path, _KIND):
                for number, image in enumerate(_images(array)):
                    label = str(digits[role][number] % 10) if digits[role] else ""
                    yield Picture(splits[number], f"{path.name}, image {number}", image, label)


def _splits(role: str, count: int) -> list[str]:
    """The split of every image of a file."""
    if role == "test":
        return ["test"] * count
    splits = ["train"] * count
    if role == "train":
        for number in shuffled(count)[-max(1, count // 10) :]:
            splits[number] = "valid"
    return splits


def _checked(file: BinaryIO, raw: Raw, role: str) -> tuple[Array, bytes]:
    """The array X of a file, and its digits, of which there may be none.

    The next byte of the array's content is the first pixel.
    """
    path, limit = raw.files[role], raw.limits[role]
    with damaged(path, _KIND):
        # Go through all arrays, so that a truncated file is found before hours of work.
        found = {array.name: array for array in arrays(file)}
        array = found.get("X")
        if array is None:
            raise _other(path, role, "it has no variable X")
        if array.kind != UINT8_ARRAY or array.shape[:-1] != _SHAPE or array.shape[-1] < 1:
            raise _other(path, role, f"its X is of class {array.kind} and shape {array.shape}")
        size = array.shape[-1] * _PIXELS
        if size > limit:
            raise _other(path, role, f"its X has {size} bytes; it may have at most {limit}")
        if array.content.tag() != (UINT8, size):
            raise ValueError("the number of pixels of X differs from its shape")
        return array, _digits(found.get("y"), array.shape[-1])


def _digits(array: Array | None, count: int) -> bytes:
    """The digits y of `count` images, one byte each; empty if there is no such array."""
    if array is None or array.kind != UINT8_ARRAY or array.shape not in ((count, 1), (1, count)):
        return b""
    digits = array.content.element(count)
    return digits if len(digits) == count else b""


def _other(path: Path, role: str, problem: str) -> UserError:
    return UserError(
        f"{path} is not an official SVHN file: {problem}. Such a file has a variable X of class "
        f"{UINT8_ARRAY} (uint8) and shape (32, 32, 3, images). Delete it and download it again, or "
        f"give another copy in config.yaml under `sources.svhn.{role}`."
    )


def _images(array: Array) -> Iterator[np.ndarray]:
    """Yield the images, each uint8 (32, 32, 3). In the file the last dimension varies slowest."""
    count = array.shape[-1]
    for start in range(0, count, _BLOCK):
        block = array.content.exactly(min(_BLOCK, count - start) * _PIXELS)
        planes = np.frombuffer(block, np.uint8).reshape(-1, *_SHAPE[::-1])
        yield from np.ascontiguousarray(planes.transpose(0, 3, 2, 1))
    # Reading past the end also makes zlib verify its checksum.
    if array.content.read(1):
        raise ValueError("X has more pixels than its shape")
