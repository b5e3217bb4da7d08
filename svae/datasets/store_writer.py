"""Writing a store; separate from reading it, so that an edit here retrains nothing."""

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from svae.datasets import SPLITS
from svae.datasets.origins import LABELS, NAMES
from svae.datasets.store import encode
from svae.errors import readable
from svae.jobs.files import replacing
from svae.jobs.hdf5 import CHUNK_BYTES, new_hdf5

_LONGEST = 4096  # characters of a name or label, as of a path


class Writer:
    """A store being written; a context manager whose block ends with a call of `finish`.

    The file appears complete or not at all, and replaces an existing one at the end. The splits may
    be written in any order and block by block, so that a data set need not fit into memory.

    Attributes:
        counts: number of images so far, by split.
        shape: (height, width, channel) of one image; None before the first one.

    Raises:
        UserError: if the disk is full.
    """

    def __init__(self, path: Path | str) -> None:
        self.counts = dict.fromkeys(SPLITS, 0)
        self.shape: tuple[int, ...] | Any = None  # Any for None: `finish` follows an `append`
        self._path = path
        self._datasets: dict[str, h5py.Dataset] = {}
        self._digests: dict[str, Any] = {split: hashlib.sha256() for split in SPLITS}
        self._texts: set[tuple[str, str]] = set()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            self._file = stack.enter_context(new_hdf5(temporary))
            self._stack = stack.pop_all()
        return self

    def append(
        self,
        split: str,
        images: np.ndarray,
        names: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        """Append images, uint8 (n, height, width, channel), to a split; all must have one shape.

        names, labels: one of each image; an empty text stands for none.
        """
        if images.dtype != np.uint8 or images.ndim != 4:
            raise TypeError(f"images must be uint8 and 4-dimensional, not {images.dtype}")
        if self.shape is None:
            self._create(images.shape[1:])
        if images.shape[1:] != self.shape:
            raise ValueError(f"images of {images.shape[1:]} follow images of {self.shape}")
        start = self.counts[split]
        self.counts[split] += len(images)
        self._datasets[split].resize(self.counts[split], axis=0)
        self._datasets[split][start:] = images
        for kind, texts in ((NAMES, names), (LABELS, labels)):
            if any(texts):
                self._write_texts(kind, split, start, texts)
        self._file.check()
        self._digests[split].update(np.ascontiguousarray(images))

    def finish(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Write the attributes of the file.

        Args:
            attributes: strings, numbers, booleans, None, or lists and dicts of these; `padding`
                (pixels) must be among them.

        Returns:
            The attributes as written: those given, `counts` (images per split) and `checksum`
            (SHA256 in hexadecimal over every split's name, shape and SHA256 of its pixels in C
            order).
        """
        for kind in {kind for kind, _ in self._texts}:
            for split in SPLITS:  # the same length as the images, whichever lack a text
                self._write_texts(kind, split, self.counts[split], ())
        digest = hashlib.sha256()
        for split in SPLITS:
            digest.update(f"{split} {(self.counts[split], *self.shape)} ".encode())
            digest.update(self._digests[split].digest())
        written = {**attributes, "counts": self.counts, "checksum": digest.hexdigest()}
        for name, value in written.items():
            self._file.attrs[name] = encode(value)
        return written

    def _create(self, shape: tuple[int, ...]) -> None:
        self.shape = shape
        for split in SPLITS:
            self._datasets[split] = self._file.add(
                split,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(_chunk(math.prod(shape)), *shape),
                dtype=np.uint8,
            )

    def _write_texts(self, kind: str, split: str, start: int, texts: Sequence[str]) -> None:
        """From row `start` on; earlier rows that were never written are empty."""
        if (kind, split) not in self._texts:
            self._texts.add((kind, split))
            self._file.add_texts(f"{kind}/{split}")
        self._file.write_texts(f"{kind}/{split}", start, [_storable(text) for text in texts])

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _storable(text: str) -> str:
    """The text with what HDF5 cannot store, or a terminal would obey, escaped: names are those of a
    stranger's files."""
    escaped = readable(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return escaped[:_LONGEST]


def _chunk(image_bytes: int) -> int:
    """Images per chunk: a power of two, so that blocks of images end where chunks do. Uncompressed,
    because photographs shrink little, and reading is then as fast as the disk."""
    return 1 << max(0, (CHUNK_BYTES // image_bytes).bit_length() - 1)
