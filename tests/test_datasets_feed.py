"""The feed: its order compared with a plain permutation and with statistics, and its memory."""

import threading
import tracemalloc

import h5py
import numpy as np
import pytest

from svae.datasets.feed import RUN, Feed
from svae.streams import Stream, generator

N, BATCH = 1020, 25
# Bytes, of images of 4 bytes: all of them; three windows; windows of one image more than a batch;
# smaller than a batch, so that the remainder of 20 takes more than one window; one image.
FITS = 4 * N
MEMORY = {"fits": FITS, "windows": FITS - 1, "small": 2 * 4 * 26, "tiny": 2 * 4 * 7, "least": 1}
windowed = pytest.mark.parametrize("memory", list(MEMORY.values())[1:], ids=list(MEMORY)[1:])
every = pytest.mark.parametrize("memory", MEMORY.values(), ids=MEMORY)


def numbered(n):
    """Images whose 4 bytes are their position in the file: uint8 (n, 1, 1, 4)."""
    return np.arange(n, dtype="<u4").view(np.uint8).reshape(n, 1, 1, 4)


def places(batches):
    """int (batches, batch): the positions of `numbered` images in the file."""
    found = list(batches)
    assert {batch.dtype for batch in found} <= {np.dtype(np.uint8)}
    return np.array([batch.view("<u4").ravel() for batch in found], int)


def order(memory, epochs, first=0, seed=0):
    return places(Feed(numbered(N), BATCH, seed, memory).batches(epochs, first))


class Reads:
    """Images that count the reads, signal when there were `enough`, and may fail."""

    def __init__(self, images, broken=None, enough=None):
        self.images, self.broken = images, broken
        self.shape, self.starts, self.counts = images.shape, [], []
        self.enough, self.read_enough = enough, threading.Event()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, rows):
        if self.broken is not None and rows.start <= self.broken < rows.stop:
            raise OSError("unreadable")
        self.starts.append(rows.start)
        self.counts.append(len(self.images[rows]))
        if sum(self.counts) == self.enough:
            self.read_enough.set()
        return self.images[rows]


def test_images_that_fit_are_permuted_as_a_whole():
    found = order(FITS, range(2, 5), seed=7)
    expected = []
    for epoch in (2, 3, 4):
        whole = generator(7, Stream.EPOCH_ORDER, epoch).permutation(N)
        expected += [np.sort(whole[k : k + BATCH]) for k in range(0, N - BATCH + 1, BATCH)]
    np.testing.assert_array_equal(found, expected)


@every
def test_an_epoch_is_full_batches_of_different_images_in_its_own_order(memory):
    epochs = order(memory, range(3)).reshape(3, -1)
    assert epochs.shape == (3, N // BATCH * BATCH)
    assert Feed(numbered(N), BATCH, 0, memory).steps == N // BATCH
    for epoch in epochs:
        assert len(set(epoch)) == len(epoch) and set(epoch) <= set(range(N))
    assert len({tuple(epoch) for epoch in epochs}) == 3
    left_out = [set(range(N)) - set(epoch) for epoch in epochs]
    assert left_out[0] != left_out[1]


@every
def test_the_order_depends_on_seed_and_epoch_not_on_earlier_epochs(memory):
    epochs = order(memory, range(3))
    np.testing.assert_array_equal(order(memory, [2]), epochs[-(N // BATCH) :])
    assert not np.array_equal(order(memory, range(3), seed=1), epochs)


@every
def test_the_same_from_a_file(memory, tmp_path):
    with h5py.File(tmp_path / "images.h5", "w") as file:
        images = file.create_dataset("train", data=numbered(N), chunks=(10, 1, 1, 4))
        found = places(Feed(images, BATCH, 0, memory).batches(range(2)))
    np.testing.assert_array_equal(found, order(memory, range(2)))


@every
def test_an_epoch_can_start_at_any_batch(memory):
    whole = order(memory, [1, 2])
    for first in (0, 1, 13, N // BATCH - 1, N // BATCH):
        np.testing.assert_array_equal(order(memory, [1, 2], first), whole[first:])


@windowed
def test_nothing_before_the_first_batch_is_read(memory):
    for first in (0, 1, 20, N // BATCH - 1):
        images = Reads(numbered(N))
        list(Feed(images, BATCH, 0, memory).batches([0], first))
        wanted = N - first * BATCH
        window = max(1, memory // 8)
        assert wanted - BATCH <= sum(images.counts) <= wanted + window


@every
def test_every_read_is_short(memory):
    """HDF5 needs memory for every chunk that one read touches."""
    images = Reads(numbered(N))
    list(Feed(images, BATCH, 0, memory).batches([0]))
    assert max(images.counts) <= RUN


def test_a_window_is_read_while_the_previous_one_is_consumed():
    images = Reads(numbered(N), enough=N * 2 / 3)
    batches = Feed(images, BATCH, 0, FITS - 1).batches([0])
    assert not images.starts
    next(batches)
    assert images.read_enough.wait(300)
    assert sum(images.counts) == N * 2 / 3  # two windows of three, each read from front to back
    first, second = np.split(np.array(images.starts), 2)
    assert np.all(np.diff(first) > 0) and np.all(np.diff(second) > 0)


def test_every_window_has_its_own_order():
    windows = places(Feed(numbered(N), 1, 0, FITS - 1).batches(range(2))).reshape(6, N // 3)
    assert len({tuple(np.argsort(window)) for window in windows}) == 6


@windowed
def test_a_failed_read_is_an_error_and_leaves_no_thread(memory):
    before = threading.active_count()
    images = Reads(numbered(N), broken=500)
    with pytest.raises(OSError, match="unreadable"):
        list(Feed(images, BATCH, 0, memory).batches([0]))
    batches = Feed(numbered(N), BATCH, 0, memory).batches([0])
    next(batches)
    batches.close()
    assert threading.active_count() == before


@pytest.mark.parametrize("share", [0.1, 0.5, 1])
def test_memory_stays_within_the_bound(share, tmp_path):
    n, batch = 4000, 20
    with h5py.File(tmp_path / "images.h5", "w") as file:
        images = file.create_dataset("train", (n, 32, 32, 1), np.uint8, chunks=(32, 32, 32, 1))
        image, memory = 1024, int(share * n * 1024)
        tracemalloc.start()
        for _ in Feed(images, batch, 0, memory).batches(range(2)):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    # Four batches, the numbers of the images, and Python's own overhead.
    assert 0.8 * memory < peak < memory + 4 * batch * image + 24 * n + 60_000


@pytest.mark.parametrize("window", [2048, 16_384], ids=["runs of 2", "runs of 16"])
def test_a_file_sorted_by_class_gives_batches_like_a_shuffled_one(window):
    """Ten classes one after the other, windows of a tenth of the file."""
    n, batch, memory = 10 * window, 100, 4 * 2 * window
    epochs = [places(Feed(numbered(n), batch, 0, memory).batches([epoch])) for epoch in (0, 1)]
    for epoch in epochs:
        classes = epoch // (n // 10)
        counts = np.array([np.sum(classes == c, axis=1) for c in range(10)])
        hypergeometric = batch * 0.1 * 0.9 * (n - batch) / (n - 1)
        assert 0.95 < np.mean((counts - batch / 10) ** 2) / hypergeometric < 1.15
        # Together as often as by chance within a window.
        batch_of = np.full(n, -1)
        batch_of[epoch] = np.arange(len(epoch))[:, None]
        together = np.mean(np.diff(batch_of) == 0)
        assert together < 1.2 * batch / window
    # The position in an epoch depends neither on that in the previous one nor on that in the file.
    ranks = [np.argsort(np.append(epoch, np.setdiff1d(np.arange(n), epoch))) for epoch in epochs]
    correlations = np.corrcoef([np.arange(n), *ranks])[np.triu_indices(3, 1)]
    assert np.all(np.abs(correlations) < 4 * np.sqrt(RUN / n))
