"""Memorisation: nearest images compared with scikit-learn, shares on sets with known results."""

import json
import math

import h5py
import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import KDTree
from sklearn.neighbors import NearestNeighbors

from svae.datasets.subset import subset
from svae.errors import UserError
from svae.pixels import scale
from svae.sampling import nearest as search
from svae.sampling.nearest import nearest
from svae.scores import copies
from svae.scores.copies import shares

SHAPE = (12, 12, 1)


def pictures(n, seed, shape=SHAPE):
    """uint8 images of large shapes with fine detail, all of one distribution."""
    noise = np.random.default_rng(seed).standard_normal((2, n, *shape))
    shapes = ndimage.gaussian_filter(noise[0], (0, 3, 3, 0))
    images = shapes / shapes.std() + 0.6 * noise[1]
    return np.clip(127.5 + 45 * images, 0, 255).round().astype(np.uint8)


def blur(images):
    return ndimage.gaussian_filter(scale(images), (0, 1, 1, 0))


class TestNearest:
    @pytest.mark.parametrize("shape", [(4, 4, 1), (32, 32, 3)])
    @pytest.mark.parametrize("blocks", [(2000, 1000, 1 << 28), (7, 10, 1 << 28), (7, 10, 50_000)])
    def test_equals_scikit_learn(self, shape, blocks, monkeypatch):
        for name, value in zip(("_QUERIES", "_REFERENCES", "_BYTES"), blocks, strict=True):
            monkeypatch.setattr(search, name, value)
        images, references = pictures(23, 1, shape), pictures(61, 2, shape)
        numbers, distances = nearest(images, references)
        finder = NearestNeighbors(n_neighbors=1, algorithm="brute")
        finder.fit((references / 127.5 - 1).reshape(61, -1))
        expected, places = finder.kneighbors((images / 127.5 - 1).reshape(23, -1))
        np.testing.assert_array_equal(numbers, places[:, 0])
        np.testing.assert_allclose(distances, expected[:, 0], rtol=1e-6)

    def test_copies_have_distance_0(self, monkeypatch):
        monkeypatch.setattr(search, "_REFERENCES", 10)
        references = pictures(40, 1)
        order = np.random.default_rng(2).permutation(40)
        for equals in (references[order], scale(references)[order]):
            numbers, distances = nearest(equals, references)
            np.testing.assert_array_equal(numbers, order)
            np.testing.assert_array_equal(distances, 0)

    def test_a_near_copy_is_found_at_its_distance(self):
        """In float32 only, 1e-3 would be lost in a squared length of about 1,000."""
        references = scale(pictures(50, 1, (32, 32, 3)))
        images = references[:5].copy()
        images[:, 0, 0, 0] += 1e-3
        numbers, distances = nearest(images, references)
        np.testing.assert_array_equal(numbers, range(5))
        np.testing.assert_allclose(distances, 1e-3, rtol=1e-3)

    def test_open_datasets_are_read(self, tmp_path):
        images, references = pictures(9, 1), pictures(30, 2)
        with h5py.File(tmp_path / "images.h5", "w") as file:
            stored = (
                file.create_dataset("samples", data=scale(images)),
                file.create_dataset("train", data=references),
            )
            for found, expected in zip(nearest(*stored), nearest(images, references), strict=True):
                np.testing.assert_allclose(found, expected, rtol=1e-6)

    def test_wrong_sets_are_refused(self):
        images = pictures(5, 1)
        for pair in ((images[:0], images), (images, images[:0])):
            with pytest.raises(UserError, match="at least one"):
                nearest(*pair)
        with pytest.raises(UserError, match="cannot be compared"):
            nearest(images, pictures(5, 1, (14, 14, 1)))
        broken = scale(images)
        broken[3, 0, 0, 0] = np.nan
        for pair in ((broken, images), (images, broken)):
            with pytest.raises(UserError, match="image 3"):
                nearest(*pair)


def points(n, rng, spread=1.0, dimension=4):
    """Images of a few pixels, normally distributed."""
    return (spread * rng.standard_normal((n, 1, 1, dimension))).astype(np.float32)


def by_tree(images, references, threads):
    """Like `nearest`, but fast for images of few pixels."""
    distances, numbers = KDTree(references[:].reshape(len(references), -1)).query(
        images[:].reshape(len(images), -1)
    )
    return numbers, distances


class Generated:
    """A data set of random images that exist where they are sliced; notes the largest slice."""

    def __init__(self, n, seed, dimension=4):
        self.shape, self.dtype = (n, 1, 1, dimension), np.dtype(np.uint8)
        self.seed, self.largest, self.read = seed, 0, 0

    def __getitem__(self, rows):
        rows = range(*rows.indices(self.shape[0]))
        self.largest, self.read = max(self.largest, len(rows)), self.read + len(rows)
        rng = np.random.default_rng([self.seed, rows.start])
        return rng.integers(0, 256, (len(rows), *self.shape[1:]), np.uint8)


class TestShares:
    def test_copies_lie_closer_to_their_originals(self):
        train, held_out, test = pictures(300, 1), pictures(300, 2), pictures(200, 3)
        found = shares(train[:100], test, train, held_out, seed=4)
        assert found["share_of_samples"] == found["share_if_all_were_copies"] == 1
        assert shares(held_out[:100], test, train, held_out, seed=4)["share_of_samples"] == 0

    def test_the_null_share_and_the_numbers(self):
        train, held_out, test = pictures(40, 1), pictures(15, 2), pictures(11, 3)
        found = shares(pictures(7, 4), test, train, held_out, seed=4)
        assert (found["n_train"], found["n_held_out"]) == (40, 15 + 5)
        assert (found["n_samples"], found["n_test"]) == (7, 6)
        assert found["share_if_null"] == 40 / 60
        for name, z in (("samples", "z"), ("test_images", "z_of_test_images")):
            difference = found[f"share_of_{name}"] - 40 / 60
            assert found[z] == difference / found[f"share_of_{name}_standard_error"]
        assert json.loads(json.dumps(found)) == found
        assert shares(pictures(7, 4), test, train, held_out, seed=4) == found

    def test_a_random_half_of_the_test_images_is_held_out(self, monkeypatch):
        train, held_out, test = pictures(5, 1), pictures(4, 2), pictures(9, 3)
        seen = []

        def noting(images, references, threads):
            seen.append((images, references))
            return nearest(images, references, threads)

        monkeypatch.setattr(copies, "nearest", noting)
        shares(pictures(3, 4), test, train, held_out, seed=5)
        (_, half), (control, again) = seen[2], seen[5]
        np.testing.assert_array_equal(half, again)
        assert (len(half), len(control)) == (4, 5)
        rows = {image.tobytes() for image in (*half, *control)}
        assert rows == {image.tobytes() for image in test}
        assert not np.array_equal(half, test[:4])
        # a copy of a test image that is held out is nearer to it than to a training image
        monkeypatch.undo()
        assert shares(half, test, train, held_out, seed=5)["share_of_samples"] == 0
        with pytest.raises(UserError, match="at least 2"):
            shares(half, test[:1], train, held_out, seed=5)

    def test_the_standard_error_counts_references(self):
        """Four samples around one training image, two around one that is held out."""
        train, held_out = np.zeros((2, 1, 1, 2)), np.ones((2, 1, 1, 2))
        train[1] = -1
        held_out[1] = (-1, 1)
        samples = np.concatenate([np.full((4, 1, 1, 2), 0.1), np.full((2, 1, 1, 2), 0.9)])
        test = np.full((2, 1, 1, 2), -5.0)
        found = shares(samples, test, train, held_out, seed=1)
        null = 2 / (2 + 2 + 1)
        assert found["share_of_samples"] == 4 / 6
        expected = math.sqrt(null * (1 - null) * (4**2 + 2**2)) / 6
        assert found["share_of_samples_standard_error"] == pytest.approx(expected, rel=1e-12)

    def test_blur_is_not_copying(self):
        """Blurred images are nearer to the training set, and no more its copies than before."""
        test, train, held_out = pictures(1200, 1), pictures(600, 2), pictures(300, 3)
        blurred = blur(test[:600])
        assert (nearest(blurred, train)[1] < nearest(test[:600], train)[1]).all()
        found = shares(blur(pictures(600, 5)), test, train, held_out, seed=4)
        assert abs(found["z"]) < 3 and abs(found["z_of_test_images"]) < 3
        # blurred copies are still copies
        found = shares(blur(train), test, train, held_out, seed=4)
        assert found["share_of_samples"] > 0.9 and found["z"] > 3

    def test_what_is_in_both_sets_counts_as_the_null_share(self):
        train, held_out = pictures(50, 1), pictures(45, 2)
        held_out[7:13] = train[20:26]
        samples = train[20:30]
        found = shares(samples, pictures(10, 3), train, held_out, seed=4)
        assert found["share_of_samples"] == pytest.approx((6 * 0.5 + 4) / 10)

    def test_the_null_z_has_a_standard_deviation_of_one_with_hubs(self, monkeypatch):
        """Samples are crowded: the few references among them are nearest to most of them."""
        monkeypatch.setattr(copies, "nearest", by_tree)
        by_reference, binomial, largest = [], [], []
        for seed in range(800):
            rng = np.random.default_rng([7, seed])
            samples = points(300, rng, spread=0.3, dimension=3)
            train, held_out, test = (points(n, rng, dimension=3) for n in (200, 60, 80))
            found = shares(samples, test, train, held_out, seed)
            null = found["share_if_null"]
            by_reference.append(found["z"])
            error = math.sqrt(null * (1 - null) / 300)
            binomial.append((found["share_of_samples"] - null) / error)
            numbers = by_tree(samples, train, 1)[0]
            largest.append(np.bincount(numbers).max() / 300)
        assert np.median(largest) > 0.1
        assert abs(np.mean(by_reference)) < 0.15
        assert 0.9 < np.std(by_reference) < 1.1
        assert np.std(binomial) > 2

    def test_a_tenth_of_copies_among_as_many_images_as_cifar10_has(self, monkeypatch):
        monkeypatch.setattr(copies, "nearest", by_tree)
        with_copies, without = [], []
        for seed in range(4):
            rng = np.random.default_rng(seed)
            train, held_out, test = (points(n, rng) for n in (45_000, 5_000, 10_000))
            samples = points(10_000, rng)
            found = shares(samples, test, train, held_out, seed)
            without.append(found["z"])
            assert not found["cannot_tell"]
            samples[:1000] = train[rng.choice(45_000, 1000, replace=False)]
            samples[:1000] += points(1000, rng, spread=0.01)
            with_copies.append(shares(samples, test, train, held_out, seed)["z"])
        assert np.max(np.abs(without)) < 3
        assert np.min(with_copies) > 3

    def test_few_references_that_are_nearest_to_all_cannot_tell(self):
        """All samples alike: whatever is nearest to them says nothing of the others."""
        train, held_out, test = pictures(60, 1), pictures(20, 2), pictures(20, 3)
        alike = np.repeat(pictures(1, 4), 50, axis=0)
        assert shares(alike, test, train, held_out, seed=4)["cannot_tell"] is True
        assert shares(pictures(60, 5), test, train, held_out, seed=4)["cannot_tell"] is False

    def test_memory_does_not_grow_with_the_training_set(self):
        """Every training image is read, a block at a time."""
        for n in (5_000, 202_599):
            train, held_out = Generated(n, 1), Generated(3_000, 2)
            rng = np.random.default_rng(3)
            samples, test = (rng.integers(0, 256, (20, 1, 1, 4), np.uint8) for _ in range(2))
            found = shares(samples, test, train, held_out, seed=4)
            assert found["n_train"] == n
            assert train.largest <= 1000 and held_out.largest <= 1000
            assert train.read >= 2 * n  # for the samples, and for the control


def test_a_subset_is_random_and_of_each_at_most_once(tmp_path):
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    found = subset(images, 20, np.random.default_rng(1)).ravel()
    assert (np.diff(found) > 0).all() and len(found) == 20 and found.max() > 25
    with h5py.File(tmp_path / "images.h5", "w") as file:
        stored = file.create_dataset("train", data=images)
        again = subset(stored, 20, np.random.default_rng(1))
        np.testing.assert_array_equal(again.ravel(), found)
        np.testing.assert_array_equal(subset(stored, 50, np.random.default_rng(1)), images)
