"""Writing a store; separate from reading it, so that an edit here retrains nothing."""

import contextlib
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import h5py
import numpy as np

from svae.datasets.formats.untrusted import readable
from svae.datasets.origins import LABELS, NAMES
from svae.datasets.store import SPLITS, encode
from svae.jobs.disk import LateErrors
from svae.jobs.files import replacing

# A chunk is what one random access reads: at most this many bytes, which is 16 images of 64x64x3.
# Uncompressed, because photographs shrink little, and reading is then as fast as the disk.
_CHUNK_BYTES = 256 << 10
_TEXTS = 1024  # names or labels per chunk
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
        self._texts: dict[tuple[str, str], h5py.Dataset] = {}

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            temporary = stack.enter_context(replacing(self._path))
            self._disk = stack.enter_context(LateErrors(temporary))
            self._file = stack.enter_context(h5py.File(self._disk, "w"))
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
        self._disk.check()
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
                self._texts_of(kind, split).resize(self.counts[split], axis=0)
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
            self._datasets[split] = self._file.create_dataset(
                split,
                shape=(0, *shape),
                maxshape=(None, *shape),
                chunks=(_chunk(math.prod(shape)), *shape),
                dtype=np.uint8,
            )

    def _write_texts(self, kind: str, split: str, start: int, texts: Sequence[str]) -> None:
        stored = self._texts_of(kind, split)
        stored.resize(start + len(texts), axis=0)
        stored[start:] = [_storable(text) for text in texts]

    def _texts_of(self, kind: str, split: str) -> h5py.Dataset:
        """The texts of a split, which are empty until they are written."""
        if (kind, split) not in self._texts:
            self._texts[kind, split] = self._file.create_dataset(
                f"{kind}/{split}",
                shape=(0,),
                maxshape=(None,),
                chunks=(_TEXTS,),
                dtype=h5py.string_dtype(),
            )
        return self._texts[kind, split]

    def __exit__(self, *exception: Any) -> None:
        self._stack.__exit__(*exception)


def _storable(text: str) -> str:
    """The text with what HDF5 cannot store, or a terminal would obey, escaped: names are those of a
    stranger's files."""
    escaped = readable(text).encode("utf-8", "backslashreplace").decode("utf-8")
    return escaped[:_LONGEST]


def _chunk(image_bytes: int) -> int:
    """Images per chunk: a power of two, so that blocks of images end where chunks do."""
    return 1 << max(0, (_CHUNK_BYTES // image_bytes).bit_length() - 1)
