"""The store: all images of one data set in one HDF5 file, which every later stage reads.

`train`, `valid` and `test` are uint8 (n, height, width, channel). The file's attributes record
where the images come from; the attribute `checksum` identifies the images themselves.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import h5py
import numpy as np

from svae.datasets import SPLITS
from svae.errors import Damaged, UserError
from svae.jobs.hdf5 import File

_JSON_STARTS = ("{", "[", '"')


class Store:
    """A store opened for reading; a context manager.

    Attributes:
        attributes: all attributes of the file; see `store_writer.Writer.finish`.
        shape: (height, width, channel) of one image, in pixels.
        padding: black pixels that the networks add on each side.
        checksum: SHA256 of the images.

    Raises:
        UserError: if the file does not exist, cannot be read, is damaged or is not a store. Images
            are checked when they are read.
    """

    def __init__(self, path: Path | str) -> None:
        self._file = File(path, _REMAKE)
        try:
            self.attributes = {
                name: _decode(value) for name, value in self._file.attributes().items()
            }
            self.padding: int = self.attributes["padding"]
            self.checksum: str = self.attributes["checksum"]
            shapes = {_image_shape(self._file[split]) for split in SPLITS}
            if len(shapes) > 1:
                raise ValueError(f"its splits differ in shape: {shapes}")
            (self.shape,) = shapes
        except (LookupError, ValueError, RecursionError) as error:
            self._file.close()
            if isinstance(error, Damaged):
                raise
            raise UserError(f"{path} is not a store of images ({error}); {_REMAKE}") from error

    def count(self, split: str) -> int:
        """Return the number of images in `split`."""
        return self._file[split].shape[0]

    def split(self, split: str) -> h5py.Dataset:
        """Return the images of `split`, uint8 (n, height, width, channel), read when sliced."""
        return self._file[split]

    def images(self, split: str, stop: int | None = None) -> np.ndarray:
        """Read the first `stop` images of `split`, or all: uint8 (n, height, width, channel)."""
        return self._file[split][:stop]

    def texts(self, name: str, rows: Sequence[int] | None = None) -> list[str] | None:
        """Texts of these rows, or all, such as `names/test` (svae.datasets.origins); None if the
        store has none."""
        if name not in self._file:
            return None
        return self._file.texts(name, self.count(name.rpartition("/")[2]), rows)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


_REMAKE = "delete it and run the pipeline again, which converts the data set again"


def part_in_words(attributes: Mapping[str, Any]) -> str:
    """How many images of a data set were taken, if `max_images` limited their number."""
    most, found = attributes["max_images"], attributes["images_in_source"]
    return f"{min(most, found):,} of {found:,} images"


def unread_in_words(unread: Mapping[str, int]) -> str:
    """Numbers of files that were not read, by suffix: those of the most frequent suffixes first."""
    ordered = sorted(unread.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count:,} {suffix or 'without a usual suffix'}" for suffix, count in ordered[:8]]
    if rest := sum(count for _, count in ordered[8:]):
        shown.append(f"{rest:,} others")
    return ", ".join(shown)


def _image_shape(dataset: h5py.Dataset | h5py.Group) -> tuple[int, int, int]:
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype != np.uint8 or dataset.ndim != 4:
        raise ValueError(f"{dataset.name} is not uint8 (n, height, width, channel)")
    return dataset.shape[1:]


def encode(value: Any) -> Any:
    """Return a value as an HDF5 attribute: None as an empty one; lists, dicts and unusual strings
    as JSON."""
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
