"""Memorisation: nearest images against scikit-learn, shares on sets with a known answer."""

import json
import math

import h5py
import numpy as np
import pytest
from scipy import ndimage
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
    @pytest.mark.parametrize("blocks", [(2000, 1000), (7, 10)])
    def test_is_that_of_scikit_learn(self, shape, blocks, monkeypatch):
        monkeypatch.setattr(search, "_QUERIES", blocks[0])
        monkeypatch.setattr(search, "_REFERENCES", blocks[1])
        images, references = pictures(23, 1, shape), pictures(61, 2, shape)
        numbers, distances = nearest(images, references)
        finder = NearestNeighbors(n_neighbors=1, algorithm="brute")
        finder.fit((references / 127.5 - 1).reshape(61, -1))
        expected, places = finder.kneighbors((images / 127.5 - 1).reshape(23, -1))
        np.testing.assert_array_equal(numbers, places[:, 0])
        np.testing.assert_allclose(distances, expected[:, 0], rtol=1e-6)

    def test_copies_are_at_no_distance(self, monkeypatch):
        monkeypatch.setattr(search, "_REFERENCES", 10)
        references = pictures(40, 1)
        order = np.random.default_rng(2).permutation(40)
        for equals in (references[order], scale(references)[order]):
            numbers, distances = nearest(equals, references)
            np.testing.assert_array_equal(numbers, order)
            np.testing.assert_array_equal(distances, 0)

    def test_a_near_copy_is_found_at_its_distance(self):
        """In float32 alone, 1e-3 would be lost beside a squared length of about 1,000."""
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


class TestShares:
    def test_copies_lie_closer_to_their_originals(self):
        train, held_out, test = pictures(300, 1), pictures(300, 2), pictures(200, 3)
        found = shares(train[:100], test, train, held_out, seed=4)
        assert found["share_of_samples"] == 1
        assert shares(held_out[:100], test, train, held_out, seed=4)["share_of_samples"] == 0
        assert found["share_if_all_were_copies"] == 1
        # a tenth of copies, noisy ones, among samples that are none
        noise = np.random.default_rng(5).normal(0, 0.05, (60, *SHAPE)).astype(np.float32)
        samples = np.concatenate([scale(train[:60]) + noise, scale(pictures(540, 6))])
        found = shares(samples, test, train, held_out, seed=4)
        error = found["share_of_samples_standard_error"]
        assert 0.5 + 2 * error < found["share_of_samples"] < 0.65

    def test_images_of_one_distribution_lie_on_either_side(self):
        """Over many sets, since which references are drawn moves a share as well."""
        found = [
            shares(*(pictures(200, 10 * seed + part) for part in range(4)), seed=seed)
            for seed in range(16)
        ]
        for name in ("samples", "test_images"):
            values = [each[f"share_of_{name}"] for each in found]
            assert abs(np.mean(values) - 0.5) < 4 * np.std(values) / math.sqrt(len(values))
            assert 0.02 < np.std(values) < 0.12
            each = found[0][f"share_of_{name}_standard_error"]
            assert each == pytest.approx(math.sqrt(values[0] * (1 - values[0]) / 200))

    def test_blur_is_not_copying(self):
        """Blurred images are nearer to the training set, and no more its copies than before."""
        test, train, held_out = (pictures(600, seed) for seed in (1, 2, 3))
        blurred = blur(test)
        assert (nearest(blurred, train)[1] < nearest(test, train)[1]).all()
        found = shares(blurred, test, train, held_out, seed=4)
        error = found["share_of_test_images_standard_error"]
        assert abs(found["share_of_samples"] - found["share_of_test_images"]) < 3 * error
        assert abs(found["share_of_samples"] - 0.5) < 0.15
        # blurred copies are still copies
        assert shares(blur(train), test, train, held_out, seed=4)["share_of_samples"] > 0.9

    def test_of_a_large_training_set_a_part_of_the_copies_is_found(self):
        train, held_out, test = pictures(1600, 1), pictures(400, 2), pictures(20, 3)
        found = shares(train, test, train, held_out, seed=4)
        assert (found["n_train"], found["n_reference"]) == (1600, 400)
        assert found["share_if_all_were_copies"] == 0.625
        assert abs(found["share_of_samples"] - 0.625) < 0.05

    def test_what_is_in_both_sets_counts_as_a_half(self):
        train, held_out = pictures(50, 1), pictures(50, 2)
        held_out[7:13] = train[20:26]
        samples = train[20:30]
        found = shares(samples, pictures(10, 3), train, held_out, seed=4)
        assert found["share_of_samples"] == pytest.approx((6 * 0.5 + 4) / 10)

    def test_as_many_references_of_each_are_taken(self, monkeypatch):
        monkeypatch.setattr(copies, "MOST_REFERENCE", 40)
        samples, test, train = pictures(8, 1), pictures(9, 2), pictures(70, 3)
        seen = []
        true_nearest = nearest

        def noting(images, references, threads):
            seen.append(references)
            return true_nearest(images, references, threads)

        monkeypatch.setattr(copies, "nearest", noting)
        for n_held_out, expected in ((25, 25), (60, 40)):
            seen.clear()
            found = shares(samples, test, train, pictures(n_held_out, 4), seed=5)
            assert found["n_reference"] == expected
            assert [len(references) for references in seen] == 4 * [expected]
        assert (found["n_samples"], found["n_test"]) == (8, 9)
        assert json.loads(json.dumps(found)) == found
        assert shares(samples, test, train, pictures(60, 4), seed=5) == found


def test_a_subset_is_random_and_of_each_at_most_once(tmp_path):
    images = np.arange(50, dtype=np.uint8).reshape(50, 1, 1, 1)
    found = subset(images, 20, np.random.default_rng(1)).ravel()
    assert (np.diff(found) > 0).all() and len(found) == 20 and found.max() > 25
    with h5py.File(tmp_path / "images.h5", "w") as file:
        stored = file.create_dataset("train", data=images)
        again = subset(stored, 20, np.random.default_rng(1))
        np.testing.assert_array_equal(again.ravel(), found)
        np.testing.assert_array_equal(subset(stored, 50, np.random.default_rng(1)), images)
