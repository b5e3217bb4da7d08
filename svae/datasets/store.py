"""The images of one data set in one HDF5 file: what every later stage reads.

`train`, `valid` and `test` are uint8 (n, height, width, channel). The file's attributes say where
the images come from; `checksum` identifies the images themselves.
"""

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from svae.errors import UserError
from svae.files import LateErrors, full_disk_explained, replacing

SPLITS = ("train", "valid", "test")
# A chunk is what one random access reads: 10 images of 32x32x3. Left uncompressed, because
# photographs shrink little and reading is then as fast as the disk.
_CHUNK_BYTES = 32 << 10
_JSON_STARTS = ("{", "[", '"')


class Writer:
    """A store being written, whole or not at all, as a context manager that ends with `finish`.

    The splits may come in any order, and block by block, so that a data set need not fit into
    memory. A file that is there already is replaced at the end.

    Attributes:
        counts: images so far, by split.
        shape: (height, width, channel) of one image, once there is one.

    Raises:
        UserError: the disk is full.
    """

    def __init__(self, path: Path | str) -> None:
        self.counts = dict.fromkeys(SPLITS, 0)
        self.shape: tuple[int, ...] | None = None
        self._path = path
        self._digests = {split: hashlib.sha256() for split in SPLITS}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            stack.enter_context(full_disk_explained(self._path))
            self._disk = stack.enter_context(LateErrors(temporary))
            self._file = stack.enter_context(h5py.File(self._disk, "w"))
            self._stack = stack.pop_all()
        return self

    def append(self, split: str, images: np.ndarray) -> None:
        """Add images, uint8 (n, height, width, channel), to a split; all must have one shape."""
        if images.dtype != np.uint8 or images.ndim != 4:
            raise TypeError(f"images must be uint8 and 4-dimensional, not {images.dtype}")
        if self.shape is None:
            self._create(images.shape[1:])
        if images.shape[1:] != self.shape:
            raise ValueError(f"an image of {images.shape[1:]} follows some of {self.shape}")
        start = self.counts[split]
        self.counts[split] += len(images)
        self._file[split].resize(self.counts[split], axis=0)
        self._file[split][start:] = images
        self._disk.check()
        self._digests[split].update(np.ascontiguousarray(images))

    def finish(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Add what the file says about itself.

        Args:
            attributes: texts, numbers, truth values, None, or lists and dicts of these; `padding`
                (pixels) must be among them.

        Returns:
            The attributes as written: those given, `counts` (images a split) and `checksum` (SHA256
            in hexadecimal over every split's name, shape and SHA256 of the pixels in C order).
        """
        digest = hashlib.sha256()
        for split in SPLITS:
            digest.update(f"{split} {self._file[split].shape} ".encode())
            digest.update(self._digests[split].digest())
        written = {**attributes, "counts": self.counts, "checksum": digest.hexdigest()}
        for name, value in written.items():
            self._file.attrs[name] = _encode(value)
        return written

    def _create(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        for split in SPLITS:
            self._file.create_dataset(
                split,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(max(1, _CHUNK_BYTES // math.prod(shape)), *shape),
                dtype=np.uint8,
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)


def write(
    path: Path | str, splits: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a store of images in memory: `splits` has the array of each of `SPLITS`."""
    with Writer(path) as writer:
        for split in SPLITS:
            writer.append(split, splits[split])
        return writer.finish(attributes)


class Store:
    """A store opened for reading, to be used as a context manager.

    Attributes:
        attributes: everything the file says about itself; see `Writer.finish`.
        shape: (height, width, channel) of one image, in pixels.
        padding: pixels of black that the networks add on each side.
        checksum: SHA256 of the images.

    Raises:
        UserError: there is no such file, or it is no store.
    """

    def __init__(self, path: Path | str) -> None:
        try:
            self._file = h5py.File(path, "r")
        except FileNotFoundError as error:
            raise UserError(f"{path} does not exist: {_REMAKE}") from error
        except OSError as error:
            raise UserError(f"{path} cannot be read as HDF5 ({error}): {_REMAKE}") from error
        try:
            self.attributes = {name: _decode(value) for name, value in self._file.attrs.items()}
            self.padding: int = self.attributes["padding"]
            self.checksum: str = self.attributes["checksum"]
            shapes = {_image_shape(self._file[split]) for split in SPLITS}
            if len(shapes) > 1:
                raise ValueError(f"its splits differ in shape: {shapes}")
            (self.shape,) = shapes
        except (KeyError, ValueError) as error:
            self._file.close()
            raise UserError(f"{path} is no store of images ({error}): {_REMAKE}") from error

    def count(self, split: str) -> int:
        """Images in `split`."""
        return self._file[split].shape[0]

    def split(self, split: str) -> h5py.Dataset:
        """The images of `split`, uint8 (n, height, width, channel), read where it is sliced."""
        return self._file[split]

    def images(self, split: str, stop: int | None = None) -> np.ndarray:
        """The first `stop` images of `split`, or all: uint8 (n, height, width, channel)."""
        return self._file[split][:stop]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def scale(images: np.ndarray) -> np.ndarray:
    """The scale of training: uint8 images of any shape to float32 x = image / 127.5 - 1."""
    return images.astype(np.float32) / np.float32(127.5) - np.float32(1)


_REMAKE = "delete it and run the pipeline again, which converts the data set anew."


def _image_shape(dataset: h5py.Dataset | h5py.Group) -> tuple[int, ...]:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.uint8 or dataset.ndim != 4:
        raise ValueError(f"{dataset.name} is not uint8 (n, height, width, channel)")
    return dataset.shape[1:]


def _encode(value: Any) -> Any:
    """HDF5 attributes know neither None, nor lists and dicts, nor all texts: empty, and JSON."""
    if value is None:
        return h5py.Empty("i8")
    if isinstance(value, str) and value.isprintable() and not value.startswith(_JSON_STARTS):
        return value
    return json.dumps(value) if isinstance(value, str | list | dict) else value


def _decode(value: Any) -> Any:
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, str) and value.startswith(_JSON_STARTS):
        return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value
