"""Shuffled training batches from a split of any size, in bounded memory.

A split that fits into the memory bound is loaded once and permuted again in every epoch. A larger
one is divided into runs of consecutive images, each of which is one read of the file. An epoch
permutes the runs, reads them window by window, and permutes the images of each window. While one
window is consumed, a thread reads the next; the two windows together fill the bound.

A file sorted by class shows how well this shuffles: with r runs per window, the variance of a
class's share of a batch of B images is about 1 + (B - 1) / r times that of a full shuffle. Hence
many short runs.
"""

import collections
import itertools
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np

from svae.streams import Stream, generator

RUN = 16  # images at most; longer runs are hardly read any faster
RUNS = 1024  # in a small window; if they do not fit, runs get shorter rather than fewer


class Feed:
    """Batches of one split, in an order determined by seed, epoch and memory bound.

    images: uint8 (n, height, width, channel), an array or an open h5py dataset.
    memory_bytes: bound on the images that the feed holds (at least two), in addition to the batches
    that it yields.
    `steps`: full batches per epoch; every image is in at most one of them.
    """

    def __init__(
        self, images: np.ndarray | h5py.Dataset, batch_size: int, seed: int, memory_bytes: int
    ):
        self.steps = len(images) // batch_size
        self._images = images
        self._batch_size = batch_size
        self._seed = seed
        image_bytes = math.prod(images.shape[1:])
        most = max(1, memory_bytes // 2 // image_bytes)  # images in a window
        self._run = min(RUN, max(1, most // RUNS))
        self._runs = -(-len(images) // self._run)
        self._windows = -(-self._runs // (most // self._run))
        self._loaded: np.ndarray | Any = None  # Any for None: `batches` asks first
        if len(images) * image_bytes <= memory_bytes:
            self._loaded = self._read(np.arange(self._runs), np.empty(images.shape, np.uint8))

    def batches(self, epochs: Iterable[int], first: int = 0) -> Iterator[np.ndarray]:
        """Yield the batches of these epochs in order: uint8 (batch, height, width, channel).

        `first` (0 .. steps): number of batches of the first epoch to skip; windows that contain
        only skipped images are not read.
        """
        parts, missing = [], self._batch_size
        pieces = self._windowed if self._loaded is None else self._permuted
        for pixels, order in pieces(epochs, first * self._batch_size):
            while len(order):
                rows, order = order[:missing], order[missing:]
                parts.append(pixels[np.sort(rows)])
                missing -= len(rows)
                if not missing:
                    yield parts[0] if len(parts) == 1 else np.concatenate(parts)
                    parts, missing = [], self._batch_size

    # Both yield (pixels, order): images, and the order in which their rows are used. The orders of
    # an epoch add up to full batches; the first `skip` images of the first epoch are left out.

    def _permuted(
        self, epochs: Iterable[int], skip: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for epoch in epochs:
            rng = generator(self._seed, Stream.EPOCH_ORDER, epoch)
            order = rng.permutation(len(self._images))
            yield self._loaded, order[skip : self.steps * self._batch_size]
            skip = 0

    def _windowed(
        self, epochs: Iterable[int], skip: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        largest = -(-self._runs // self._windows) * self._run
        buffers = itertools.cycle(np.empty((2, largest, *self._images.shape[1:]), np.uint8))
        ahead: collections.deque[tuple[Any, np.ndarray]] = collections.deque()  # a read, an order
        with ThreadPoolExecutor(1) as reader:
            for runs, order in self._plan(epochs, skip):
                ahead.append((reader.submit(self._read, runs, next(buffers)), order))
                if len(ahead) == 2:
                    read, order = ahead.popleft()
                    yield read.result(), order
            for read, order in ahead:
                yield read.result(), order

    def _plan(self, epochs: Iterable[int], skip: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each window's runs, ascending, and the order in which the images of these are used."""
        whole = self.steps * self._batch_size
        for epoch in epochs:
            runs = generator(self._seed, Stream.EPOCH_ORDER, epoch).permutation(self._runs)
            start = 0
            for number, window in enumerate(np.array_split(runs, self._windows)):
                left = len(self._images) - window * self._run  # images from the start of each run
                count = int(np.minimum(left, self._run).sum())
                if skip < start + count and start < whole:
                    # One generator per window, so that none depends on the windows skipped.
                    rng = generator(self._seed, Stream.WINDOW_ORDER, epoch, number)
                    order = rng.permutation(count)[max(0, skip - start) : whole - start]
                    yield np.sort(window), order
                start += count
            skip = 0

    def _read(self, runs: np.ndarray, buffer: np.ndarray) -> np.ndarray:
        """Read the images of these runs into the first rows of the buffer; return these rows.

        One read per run, because h5py takes 15 KB of memory for every chunk that a read touches.
        """
        end = 0
        for start in (runs * self._run).tolist():
            block = self._images[start : start + self._run]
            buffer[end : end + len(block)] = block
            end += len(block)
        return buffer[:end]
