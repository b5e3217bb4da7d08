"""The sliced Wasserstein distance compared with known results, scipy and slow formulas."""

import json
import math

import h5py
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.special import gamma

from svae.errors import UserError
from svae.pixels import scale
from svae.scores import wasserstein
from svae.scores.wasserstein import (
    compare,
    directions,
    distance,
    down,
    level_sides,
    neighbourhoods,
    normalised,
    pyramid,
    up,
)
from svae.streams import Stream, generator


def axes(size, count=300, seed=0):
    return directions(size, count, np.random.default_rng(seed))


def sliced_wasserstein(a, b, axes, threads=1):
    """Of one set from another."""
    (found,) = wasserstein.sliced_wasserstein(a, b, directions=axes, threads=threads)
    return found


def points(n, size, seed):
    return np.random.default_rng(seed).standard_normal((n, size)).astype(np.float32)


def textures(n, seed, side=32, channels=3):
    """uint8 images of large shapes with fine detail, independent of each other."""
    rng = np.random.default_rng(seed)
    noise = rng.standard_normal((2, n, side, side, channels))
    shapes, details = (
        ndimage.gaussian_filter(part, (0, width, width, 0))
        for part, width in zip(noise, (5, 1), strict=True)
    )
    images = shapes / shapes.std() + details / details.std()
    return np.clip(127.5 + 40 * images, 0, 255).round().astype(np.uint8)


@pytest.fixture
def few(monkeypatch):
    """Small clouds and few directions."""
    monkeypatch.setattr(wasserstein, "PER_IMAGE", 20)
    monkeypatch.setattr(wasserstein, "DIRECTIONS", 50)


class TestSlicedWasserstein:
    @pytest.mark.parametrize("size", [1, 2, 10, 147])
    def test_of_a_shift(self, size):
        """E |m w| = |m| Gamma(p/2) / (sqrt(pi) Gamma((p+1)/2)) for w uniform on the sphere."""
        shift = np.random.default_rng(1).uniform(-1, 1, size)
        a, w = points(300, size, seed=2), axes(size, count=4096)
        b = (a + shift)[::-1].astype(np.float32)
        found = sliced_wasserstein(a, b, w)
        projected = np.abs(shift @ w.astype(np.float64))
        assert found == pytest.approx(projected.mean(), rel=1e-4)
        ratio = gamma(size / 2) / (math.sqrt(math.pi) * gamma((size + 1) / 2))
        error = projected.std() / math.sqrt(projected.size)
        assert abs(found - np.linalg.norm(shift) * ratio) < 4 * error + 1e-4

    @pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
    @pytest.mark.parametrize("size", [1, 6])
    def test_of_a_scaling(self, scale, size):
        """N(0, 1) to N(0, s^2) is |s - 1| E |z| = |s - 1| sqrt(2 / pi) in every direction."""
        n = 40_000
        found = sliced_wasserstein(points(n, size, 3), scale * points(n, size, 4), axes(size, 20))
        expected = abs(scale - 1) * math.sqrt(2 / math.pi)
        assert found == pytest.approx(expected, abs=4 * (1 + scale) / math.sqrt(n))

    def test_equals_scipy_along_each_direction(self):
        a, b, w = points(200, 5, 5), 2 * points(200, 5, 6) + 1, axes(5, 40)
        each = [stats.wasserstein_distance(a @ axis, b @ axis) for axis in w.T]
        assert sliced_wasserstein(a, b, w) == pytest.approx(np.mean(each), rel=1e-5)

    def test_is_a_distance_of_sets(self):
        a, b, w = points(100, 5, 7), points(100, 5, 8), axes(5)
        found = sliced_wasserstein(a, b, w)
        assert sliced_wasserstein(a, a, w) == 0 < found
        assert sliced_wasserstein(b, a, w) == found
        shuffled = np.random.default_rng(9).permutation(a)
        assert sliced_wasserstein(shuffled, a, w) == pytest.approx(0, abs=1e-7)
        assert sliced_wasserstein(shuffled, b, w) == pytest.approx(found, rel=1e-5)
        assert sliced_wasserstein(a, b, w, threads=3) == found

    def test_of_several_sets_from_one(self):
        a, b, c, w = points(100, 5, 7), points(100, 5, 8), 2 * points(100, 5, 9), axes(5)
        found = wasserstein.sliced_wasserstein(a, b, c, directions=w)
        assert found == [sliced_wasserstein(a, b, w), sliced_wasserstein(a, c, w)]

    def test_of_unequal_numbers_is_refused(self):
        with pytest.raises(UserError, match="the same number of each"):
            sliced_wasserstein(points(10, 5, 0), points(11, 5, 0), axes(5))

    @pytest.mark.parametrize("size", [2, 49])
    def test_directions_are_uniform(self, size):
        w = axes(size, 5000).astype(np.float64)
        np.testing.assert_allclose(np.linalg.norm(w, axis=0), 1, rtol=1e-6)
        assert np.abs(w @ w.T / 5000 - np.eye(size) / size).max() < 4 / size / math.sqrt(5000) * 2
        assert np.abs(w.mean(axis=1)).max() < 4.5 / math.sqrt(5000 * size)


class TestPyramid:
    @pytest.mark.parametrize(
        ("side", "expected"),
        [
            (28, [28, 14]),
            (32, [32, 16]),
            (64, [64, 32, 16]),
            (128, [128, 64, 32, 16]),
            (18, [18]),
            (31, [31, 16]),
        ],
    )
    def test_levels(self, side, expected):
        assert level_sides(side) == expected
        levels = pyramid(np.zeros((2, side, side, 1), np.float32))
        assert [level.shape for level in levels] == [(2, s, s, 1) for s in expected]

    @pytest.mark.parametrize("shape", [(28, 28, 1), (64, 64, 3), (31, 45, 2)])
    def test_equals_the_published_code(self, shape):
        """As in the code published with the paper, with two-dimensional convolutions."""
        kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256

        def smooth(image, weights):
            return ndimage.convolve(image, weights[:, :, None], mode="mirror")

        image = np.random.default_rng(1).uniform(-1, 1, shape)
        found = [level[0] for level in pyramid(image[None].astype(np.float32))]
        for level in found[:-1]:
            smaller = smooth(image, kernel)[::2, ::2]
            spread = np.zeros_like(image)
            spread[::2, ::2] = smaller
            assert level.dtype == np.float32
            np.testing.assert_allclose(level, image - smooth(spread, 4 * kernel), atol=1e-6)
            image = smaller
        np.testing.assert_allclose(found[-1], image, atol=1e-6)

    @pytest.mark.parametrize("side", [28, 31, 64])
    def test_restores_the_images(self, side):
        images = np.random.default_rng(2).uniform(-1, 1, (3, side, side, 3)).astype(np.float32)
        *levels, restored = pyramid(images)
        for level in reversed(levels):
            restored = level + up(restored, level.shape[1:3])
        np.testing.assert_allclose(restored, images, atol=1e-6)

    def test_a_blank_image_has_no_detail(self):
        images = np.full((1, 64, 64, 3), 0.7, np.float32)
        *details, last = pyramid(images)
        for level in details:
            np.testing.assert_allclose(level, 0, atol=1e-6)
        np.testing.assert_allclose(last, 0.7, rtol=1e-6)
        np.testing.assert_allclose(down(images), 0.7, rtol=1e-6)


def test_neighbourhoods_are_the_pixels_at_their_places():
    images = points(3, 10 * 12 * 2, 1).reshape(3, 10, 12, 2)
    rng = np.random.default_rng(2)
    tops, lefts = rng.integers(0, 4, (3, 5)), rng.integers(0, 6, (3, 5))
    found = neighbourhoods(images, tops, lefts)
    assert found.shape == (3, 5, 2, 7, 7)
    for i, j, c in np.ndindex(3, 5, 2):
        top, left = tops[i, j], lefts[i, j]
        np.testing.assert_array_equal(found[i, j, c], images[i, top : top + 7, left : left + 7, c])


def test_each_channel_is_normalised_by_itself():
    cloud = points(6 * 4, 3 * 49, 1).reshape(6, 4, 3, 7, 7)
    cloud *= np.array([0.01, 1, 5], np.float32)[:, None, None]
    cloud += np.array([-1, 0, 3], np.float32)[:, None, None]
    found = normalised(cloud.copy())
    for channel in range(3):
        expected = stats.zscore(cloud[:, :, channel].astype(np.float64), axis=None)
        np.testing.assert_allclose(found[:, :, channel], expected, atol=1e-4)
    cloud[:, :, 1] = 0.25
    np.testing.assert_array_equal(normalised(cloud)[:, :, 1], 0)


def slow_distance(x, y, seed, per_image, count):
    """Neighbourhood by neighbourhood, direction by direction, in float64."""
    found = []
    for level in range(len(pyramid(x))):
        rng = generator(seed, Stream.WASSERSTEIN_PLACES, level)
        side = pyramid(x)[level].shape[1]
        tops, lefts = (rng.integers(0, side - 6, (len(x), per_image)) for _ in range(2))
        clouds = []
        for images in (x, y):
            details = pyramid(images)[level].astype(np.float64)
            cloud = np.array(
                [
                    details[i, tops[i, j] : tops[i, j] + 7, lefts[i, j] : lefts[i, j] + 7]
                    for i in range(len(x))
                    for j in range(per_image)
                ]
            )
            cloud = (cloud - cloud.mean(axis=(0, 1, 2))) / cloud.std(axis=(0, 1, 2))
            clouds.append(np.moveaxis(cloud, -1, 1).reshape(len(cloud), -1))
        rng = generator(seed, Stream.WASSERSTEIN_DIRECTIONS, level)
        w = directions(clouds[0].shape[1], count, rng)
        each = [stats.wasserstein_distance(*(cloud @ axis for cloud in clouds)) for axis in w.T]
        found.append(1000 * np.mean(each))
    return found


@pytest.mark.usefixtures("few")
class TestDistance:
    @pytest.mark.parametrize(("side", "channels"), [(28, 1), (32, 3)])
    def test_equals_a_slow_loop(self, side, channels, monkeypatch):
        monkeypatch.setattr(wasserstein, "_BLOCK", 4)
        x, y = (scale(textures(6, seed, side, channels)) for seed in (1, 2))
        found = distance(x, y, seed=3)
        assert found == pytest.approx(slow_distance(x, y, 3, 20, 50), rel=1e-4)

    def test_is_a_distance(self):
        x, y = textures(30, 1), textures(30, 2)
        found = distance(x, y, seed=3)
        assert len(found) == 2 and min(found) > 0
        assert distance(x, x, seed=3) == [0, 0]
        assert distance(y, x, seed=3) == found == distance(x, y, seed=3, threads=2)
        assert distance(x, y, seed=4) != found

    def test_bytes_floats_and_open_datasets_are_the_same_images(self, tmp_path):
        x, y = textures(10, 1), textures(10, 2)
        found = distance(x, y, seed=3)
        assert distance(scale(x), y, seed=3) == pytest.approx(found, rel=1e-5)
        with h5py.File(tmp_path / "images.h5", "w") as file:
            assert distance(file.create_dataset("test", data=x), y, seed=3) == found

    @pytest.mark.parametrize("side", [28, 64])
    def test_altered_images_are_farther_than_real_ones(self, side, monkeypatch):
        monkeypatch.setattr(wasserstein, "PER_IMAGE", 100)
        test, train, other = (textures(100, seed, side) for seed in (1, 2, 3))
        blurred = ndimage.gaussian_filter(scale(other), (0, 1, 1, 0))
        noise = np.random.default_rng(4).normal(0, 0.2, other.shape)
        floor = distance(test, train, seed=5)
        for altered in (blurred, scale(other) + noise.astype(np.float32)):
            found = distance(test, altered, seed=5)
            assert found[0] > 1.5 * floor[0]
            # For seeds 0 to 5: 1.11 to 1.37 times the floor, and 0.92 to 1.00 if not altered.
            assert np.mean(found) > 1.05 * np.mean(floor)
        more = ndimage.gaussian_filter(scale(other), (0, 2, 2, 0))
        assert distance(test, more, seed=5)[0] > distance(test, blurred, seed=5)[0]

    def test_contrast_alone_is_not_seen(self):
        x, y = textures(20, 1), scale(textures(20, 2))
        assert distance(x, 0.3 * y + 0.1, seed=3) == pytest.approx(distance(x, y, 3), rel=1e-3)

    def test_blank_images_have_a_distance(self):
        x = textures(5, 1)
        found = distance(x, np.full(x.shape, 0.7, np.float32), seed=3)
        assert np.isfinite(found).all() and min(found) > 10

    def test_many_images_have_fewer_neighbourhoods(self, monkeypatch):
        monkeypatch.setattr(wasserstein, "MOST_NEIGHBOURHOODS", 60)
        sizes = []

        def stand_in(a, b, directions, threads):
            sizes.append(len(a))
            return [0.0]

        monkeypatch.setattr(wasserstein, "sliced_wasserstein", stand_in)
        for n in (2, 7, 61):
            distance(textures(n, 1), textures(n, 2), seed=3)
        assert sizes[::2] == [40, 56, 61]

    def test_compare(self):
        samples, test, train = (textures(20, seed) for seed in (1, 2, 3))
        found = compare(samples, test, train, seed=6)
        assert json.loads(json.dumps(found)) == found
        assert found["levels"] == [32, 16]
        assert found["distance"] == distance(test, samples, seed=6)
        assert found["floor"] == distance(test, train, seed=6)
        assert found["distance_mean"] == pytest.approx(np.mean(found["distance"]))
        assert found["floor_mean"] == pytest.approx(np.mean(found["floor"]))
        assert (found["n_images"], found["neighbourhoods_per_image"]) == (20, 20)
        assert found["directions"] == 50 and "1000" in found["unit"]

    def test_standard_errors_are_of_the_distances_of_disjoint_parts(self, monkeypatch):
        """A part has the neighbourhoods of its images, normalised by its own mean and deviation."""
        monkeypatch.setattr(wasserstein, "PARTS", 3)

        def own(cloud):
            cloud = cloud.reshape(120, 3, 49)
            cloud = cloud - cloud.mean(axis=(0, 2), keepdims=True)
            return (cloud / cloud.std(axis=(0, 2), keepdims=True)).reshape(120, 147)

        sets = [textures(20, seed) for seed in (1, 2, 3)]
        found = compare(*sets, seed=6)
        order = generator(6, Stream.WASSERSTEIN_PARTS).permutation(20)
        parts = [set(order[start : start + 6]) for start in (0, 6, 12)]
        samples, test, train = (
            [wasserstein._points(images, level, 6).reshape(20, 20, -1) for level in (0, 1)]
            for images in sets
        )
        for name, other in (("distance", samples), ("floor", train)):
            by_part = np.empty((2, 3))
            for level, place in np.ndindex(2, 3):
                rng = generator(6, Stream.WASSERSTEIN_DIRECTIONS, level)
                axes = directions(147, 50, rng)
                numbers = sorted(parts[place])
                a, b = (own(cloud[level][numbers]) @ axes for cloud in (test, other))
                each = [stats.wasserstein_distance(a[:, k], b[:, k]) for k in range(50)]
                by_part[level, place] = 1000 * np.mean(each)
            expected = stats.sem(by_part, axis=1)
            assert found[f"{name}_standard_error"] == pytest.approx(expected, rel=1e-3)
            of_mean = stats.sem(by_part.mean(axis=0))
            assert found[f"{name}_mean_standard_error"] == pytest.approx(of_mean, rel=1e-3)
        assert found["n_parts"] == 3

    @pytest.mark.slow
    def test_the_standard_error_is_the_spread_over_other_images(self):
        """Of samples that differ from the images, and of the floor, which does not."""
        results = [
            compare(
                ndimage.gaussian_filter(scale(textures(48, seed)), (0, 0.7, 0.7, 0)),
                textures(48, 1000 + seed),
                textures(48, 2000 + seed),
                seed=6,
            )
            for seed in range(40)
        ]
        for name in ("distance_mean", "floor_mean"):
            spread = np.std([result[name] for result in results], ddof=1)
            errors = [result[f"{name}_standard_error"] for result in results]
            assert 0.7 < np.sqrt(np.mean(np.square(errors))) / spread < 1.4

    @pytest.mark.parametrize(("n", "parts"), [(1, 1), (2, 2), (9, 8)])
    def test_few_images_make_fewer_parts(self, n, parts):
        found = compare(*(textures(n, seed) for seed in (1, 2, 3)), seed=6)
        assert found["n_parts"] == parts
        assert (found["distance_mean_standard_error"] is None) is (n == 1)
        assert (found["floor_standard_error"] == [None, None]) is (n == 1)


class TestRefusals:
    @pytest.mark.parametrize(
        "other", [textures(4, 1), textures(5, 1, side=28), textures(5, 1, channels=1)]
    )
    def test_sets_of_unequal_shape(self, other):
        x = textures(5, 1)
        with pytest.raises(UserError, match="same number"):
            distance(x, other, seed=1)
        with pytest.raises(UserError, match=r"training images \("):
            compare(x, x, other, seed=1)

    @pytest.mark.parametrize("shape", [(0, 32, 32, 3), (4, 6, 32, 3)])
    def test_nothing_to_compare(self, shape):
        x = np.zeros(shape, np.uint8)
        with pytest.raises(UserError, match="at least 7"):
            distance(x, x, seed=1)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_pixels_that_are_not_finite(self, value, monkeypatch):
        monkeypatch.setattr(wasserstein, "_BLOCK", 2)
        x = scale(textures(5, 1))
        broken = x.copy()
        broken[3, 1, 0, 0] = value
        with pytest.raises(UserError, match="image 3"):
            distance(x, broken, seed=1)
