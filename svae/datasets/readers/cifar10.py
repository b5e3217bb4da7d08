"""CIFAR-10, from the binary or the Python archive.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html describes both layouts.
"""

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from svae.datasets.formats.pickles import unpickle_arrays
from svae.datasets.formats.tar_file import tar_members
from svae.datasets.readers import Picture, Raw
from svae.datasets.splits import SEED, shuffled
from svae.errors import UserError

SPLIT_RULE = (
    f"test: the official test batch; the training batches in a fixed shuffle (seed {SEED}): the "
    "last tenth valid, the others train"
)

_PIXELS = 3 * 32 * 32
_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
# The official batches have 30.7 MB (binary) and 31 MB (Python); rewritten by Python 3, which stores
# bytes as text under protocol 2, they have 45 MB.
_MEMBER_LIMIT = 64 << 20
_PYTHON_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_BINARY_BATCHES = tuple(f"{name}.bin" for name in _PYTHON_BATCHES)


def read(raw: Raw) -> Iterator[Picture]:
    """Yield the images, uint8 (32, 32, 3), RGB, with the names of their classes as labels.

    They are named by their number in the training batches one after another, or the test batch.

    Args:
        raw: `archive`, the binary or the Python archive, recognised by its content.

    Raises:
        UserError: if the file is not such an archive, is damaged or incomplete.
    """
    archive = raw.files["archive"]
    found = {}
    for path, content in tar_members(archive, _is_batch, raw.limits["archive"], _MEMBER_LIMIT):
        name = PurePosixPath(path).name
        if name in found:
            raise UserError(
                f"{archive} contains {name} twice, in different folders: download it again."
            )
        decode = _binary if name in _BINARY_BATCHES else _python
        found[name] = decode(content, f"{archive}: {name}")

    layout = _BINARY_BATCHES if set(found) & set(_BINARY_BATCHES) else _PYTHON_BATCHES
    missing = [name for name in layout if name not in found]
    if missing:
        raise UserError(
            f"{archive} lacks {', '.join(missing)}: it is not a complete CIFAR-10 archive. "
            "Download it again, or give another copy in config.yaml under "
            "`sources.cifar10.archive`."
        )
    *batches, test = (found[name] for name in layout)
    training = _Batch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))
    order = shuffled(len(training.images))
    valid = max(1, len(order) // 10)
    for split, part, batch, numbers in (
        ("train", "training batches", training, order[:-valid]),
        ("valid", "training batches", training, order[-valid:]),
        ("test", "test batch", test, np.arange(len(test.images))),
    ):
        for number in numbers.tolist():
            label = _label(int(batch.labels[number]))
            yield Picture(split, f"{part}, image {number}", batch.images[number], label)


class _Batch(NamedTuple):
    images: np.ndarray  # uint8 (n, 32, 32, 3)
    labels: np.ndarray  # whole numbers (n,); -1: none


def _is_batch(path: str) -> bool:
    return PurePosixPath(path).name in _BINARY_BATCHES + _PYTHON_BATCHES


def _binary(content: bytes, origin: str) -> _Batch:
    """Records of one byte for the label, then the red, green and blue planes."""
    if len(content) % (1 + _PIXELS):
        raise UserError(
            f"{origin} has {len(content)} bytes, not a multiple of the {1 + _PIXELS} of a record; "
            "download the archive again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, 1 + _PIXELS)
    return _Batch(_images(records[:, 1:]), records[:, 0])


def _python(content: bytes, origin: str) -> _Batch:
    """A pickled dict: `data` is uint8 (n, 3072), `labels` a list of n numbers."""
    batch = unpickle_arrays(content, origin)
    data = batch.get(b"data", batch.get("data"))  # Python 2's strings are read as bytes
    if not isinstance(data, np.ndarray) or data.dtype != np.uint8 or data.shape[1:] != (_PIXELS,):
        raise UserError(
            f"{origin} has no entry `data` of type uint8 and shape (n, {_PIXELS}); download the "
            "archive again."
        )
    return _Batch(_images(data), _labels(batch.get(b"labels", batch.get("labels")), len(data)))


def _images(planes: np.ndarray) -> np.ndarray:
    """(n, 3072) colour planes to (n, 32, 32, 3)."""
    return np.ascontiguousarray(planes.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def _labels(labels: Any, count: int) -> np.ndarray:
    """The labels of a Python batch; nothing depends on them, so that others count as none."""
    if not isinstance(labels, list) or len(labels) != count:
        return np.full(count, -1)
    known = [isinstance(label, int) and 0 <= label < 256 for label in labels]
    return np.array(labels) if all(known) else np.full(count, -1)


def _label(number: int) -> str:
    """The name of a class, if it has one."""
    if number < 0:
        return ""
    return _CLASSES[number] if number < len(_CLASSES) else str(number)
