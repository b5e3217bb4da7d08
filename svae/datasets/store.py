"""The images of one data set in one HDF5 file: what every later stage reads.

`train`, `valid` and `test` are uint8 (n, height, width, channel). The file's attributes say where
the images come from; `checksum` identifies the images themselves.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from svae.errors import UserError
from svae.files import replacing

SPLITS = ("train", "valid", "test")
# A chunk is what one random access reads: 10 images of 32x32x3. Left uncompressed, because
# photographs shrink little and reading is then as fast as the disk.
_CHUNK_BYTES = 32 << 10
_BLOCK = 1024


def write(
    path: Path | str, splits: Mapping[str, Iterable[np.ndarray]], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Write a store, whole or not at all.

    Args:
        path: the file; one that is there is replaced.
        splits: for each of `SPLITS` the images, each uint8 (height, width, channel), all of one
            shape: an array (n, height, width, channel), or anything that yields them one by one,
            so that a data set need not fit into memory.
        attributes: texts, numbers, truth values, None, or dicts of these; `dataset` (name) and
            `padding` (pixels) must be among them.

    Returns:
        The attributes as written: those given, `counts` (images a split) and `checksum` (SHA256
        in hexadecimal over every split's name, pixels in C order, and shape).

    Raises:
        UserError: a split without images.
    """
    digest = hashlib.sha256()
    counts = {}
    with replacing(path) as temporary, h5py.File(temporary, "w") as file:
        for split in SPLITS:
            shape = _append(file, split, splits[split], digest)
            if shape is None:
                raise UserError(
                    f"the source of {attributes['dataset']} leaves no image for the split "
                    f"`{split}`: give a larger one in config.yaml under "
                    f"`sources.{attributes['dataset']}`."
                )
            counts[split] = shape[0]
        written = {**attributes, "counts": counts, "checksum": digest.hexdigest()}
        for name, value in written.items():
            file.attrs[name] = _encode(value)
    return written


class Store:
    """A store opened for reading, to be used as a context manager.

    Attributes:
        attributes: everything the file says about itself; see `write`.
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

    def images(self, split: str) -> np.ndarray:
        """The images of `split`: uint8 (n, height, width, channel)."""
        return self._file[split][:]

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


def _append(
    file: h5py.File, split: str, images: Iterable[np.ndarray], digest: Any
) -> tuple[int, ...] | None:
    """Write one split block by block; its shape, or None if there were no images."""
    digest.update(split.encode())
    dataset = None
    iterator = iter(images)
    while block := list(itertools.islice(iterator, _BLOCK)):
        block = np.stack(block)
        if block.dtype != np.uint8:
            raise TypeError(f"images must be uint8, not {block.dtype}")
        if dataset is None:
            image = block.shape[1:]
            dataset = file.create_dataset(
                split,
                shape=(0, *image),
                maxshape=(None, *image),
                chunks=(max(1, _CHUNK_BYTES // block[0].nbytes), *image),
                dtype=np.uint8,
            )
        start = dataset.shape[0]
        dataset.resize(start + len(block), axis=0)
        dataset[start:] = block
        digest.update(block.tobytes())
    if dataset is None:
        return None
    digest.update(str(dataset.shape).encode())
    return dataset.shape


def _image_shape(dataset: h5py.Dataset | h5py.Group) -> tuple[int, ...]:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.uint8 or dataset.ndim != 4:
        raise ValueError(f"{dataset.name} is not uint8 (n, height, width, channel)")
    return dataset.shape[1:]


def _encode(value: Any) -> Any:
    """HDF5 attributes know neither None nor dicts: empty, and JSON text."""
    if value is None:
        return h5py.Empty("i8")
    return json.dumps(value) if isinstance(value, dict) else value


def _decode(value: Any) -> Any:
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, str) and value.startswith("{"):
        return json.loads(value)
    return value.item() if isinstance(value, np.generic) else value
