"""Shuffled training batches from a split of any size, in bounded memory.

A split that fits into the bound is loaded once and permuted anew in every epoch. A larger one is
cut into runs of consecutive images, each one read of the file. An epoch permutes the runs, reads
them window by window, and permutes the images of each window; while one window is consumed a thread
reads the next, and both together fill the bound.

How well that shuffles shows in a file sorted by class: with r runs a window, a class's share of a
batch of B images has about 1 + (B - 1) / r times the variance that a full shuffle gives it. Hence
many short runs.
"""

import collections
import itertools
import math
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np

from svae.streams import Stream, generator

RUN = 16  # images at most; longer runs are read hardly faster
RUNS = 1024  # in a window that the bound makes small, before runs get shorter for it


class Feed:
    """Batches of one split, in an order that seed, epoch and memory bound decide.

    images: uint8 (n, height, width, channel), an array or an open h5py dataset, of which at least
    two images are held whatever the bound.
    memory_bytes: bound on the images that the feed holds, beside the batches that it hands out.
    `steps`: whole batches in an epoch; every image is in at most one of them.
    `batch_shape`: (batch, height, width, channel).
    """

    def __init__(
        self, images: np.ndarray | h5py.Dataset, batch_size: int, seed: int, memory_bytes: int
    ):
        self.steps = len(images) // batch_size
        self.batch_shape = (batch_size, *images.shape[1:])
        self._images = images
        self._batch_size = batch_size
        self._seed = seed
        image_bytes = math.prod(images.shape[1:])
        most = max(1, memory_bytes // 2 // image_bytes)  # images in a window
        self._run = min(RUN, max(1, most // RUNS))
        self._runs = -(-len(images) // self._run)
        self._windows = -(-self._runs // (most // self._run))
        self._loaded = None
        if len(images) * image_bytes <= memory_bytes:
            self._loaded = self._read(np.arange(self._runs), np.empty(images.shape, np.uint8))

    def batches(self, epochs: Iterable[int], first: int = 0) -> Iterator[np.ndarray]:
        """The batches of these epochs, one after the other: uint8 (batch, height, width, channel).

        `first` (0 .. steps): batches of the first of these epochs to pass over; no window before
        that place is read.
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

    # Both give (pixels, order): images, and which of their rows come next. An epoch's orders add
    # up to whole batches; `skip` images of the first epoch are left out.

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
        ahead = collections.deque()
        with ThreadPoolExecutor(1) as reader:
            for runs, order in self._plan(epochs, skip):
                ahead.append((reader.submit(self._read, runs, next(buffers)), order))
                if len(ahead) == 2:
                    read, order = ahead.popleft()
                    yield read.result(), order
            for read, order in ahead:
                yield read.result(), order

    def _plan(self, epochs: Iterable[int], skip: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Each window's runs, ascending, and the order of its images that way."""
        whole = self.steps * self._batch_size
        for epoch in epochs:
            runs = generator(self._seed, Stream.EPOCH_ORDER, epoch).permutation(self._runs)
            start = 0
            for number, window in enumerate(np.array_split(runs, self._windows)):
                left = len(self._images) - window * self._run  # from each run's first image on
                count = int(np.minimum(left, self._run).sum())
                if skip < start + count and start < whole:
                    # One generator per window, so that none depends on windows passed over.
                    rng = generator(self._seed, Stream.WINDOW_ORDER, epoch, number)
                    order = rng.permutation(count)[max(0, skip - start) : whole - start]
                    yield np.sort(window), order
                start += count
            skip = 0

    def _read(self, runs: np.ndarray, buffer: np.ndarray) -> np.ndarray:
        """The images of these runs, in the first rows of the buffer.

        Run by run: h5py takes 15 KB of memory for every chunk that one read touches.
        """
        end = 0
        for start in (runs * self._run).tolist():
            block = self._images[start : start + self._run]
            buffer[end : end + len(block)] = block
            end += len(block)
        return buffer[:end]
