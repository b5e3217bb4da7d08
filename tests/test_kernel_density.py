"""Kernel densities against slow references, closed forms and scikit-learn."""

import h5py
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
import tensorflow as tf
from helpers.densities import brute_force, log_mean_kernel, replaced
from sklearn.datasets import load_sample_images
from sklearn.neighbors import KernelDensity

from svae.errors import UserError
from svae.pixels import scale
from svae.scores import kernel_density
from svae.scores.kernel_density import log_likelihoods
from svae.scores.parzen_window import sigma_grid
from svae.scores.squared_distances import Samples, by_products

TOLERANCE = 0.01  # nats per image
SIGMAS = sigma_grid()


def float32_expansion(images, samples, sigmas):
    """What `log_likelihoods` would be with a plain single-precision matrix product."""
    x, s = images.reshape(len(images), -1), samples.reshape(len(samples), -1)
    d2 = (x**2).sum(1)[:, None] + (s**2).sum(1) - 2 * (x @ s.T)
    assert d2.dtype == np.float32
    return np.array([log_mean_kernel(np.float64(row), sigmas, x.shape[1]) for row in d2]).T


@pytest.fixture(scope="module")
def images():
    """200 photographic patches and 2,000 samples, some of them (nearly) those patches."""
    patches = np.array(
        [
            photograph[top : top + 32, left : left + 32]
            for photograph in load_sample_images().images
            for top in range(0, 427 - 32, 12)
            for left in range(0, 640 - 32, 15)
        ]
    )
    rng = np.random.default_rng(0)
    patches = (rng.permutation(patches)[:2200] / 127.5 - 1).astype(np.float32)
    images, samples = patches[:200], patches[200:].copy()
    assert len(samples) == 2000 and samples[0].size == 3072
    samples[1000:1060] = images[:60] + rng.normal(0, 1e-3, images[:60].shape)
    samples[1060:1100] = images[60:100]
    samples[1990:] = images[60:70]
    return images, samples


@pytest.fixture(scope="module")
def exact(images):
    return brute_force(*images, SIGMAS)


@pytest.fixture
def small():
    rng = np.random.default_rng(1)
    return rng.uniform(-1, 1, (37, 4, 4, 3)), rng.uniform(-1, 1, (53, 4, 4, 3))


class SliceOnly:
    """Rows that can be read as `[a:b]` only, a few at a time."""

    def __init__(self, array, most):
        self.array, self.most = array, most
        self.shape, self.dtype = array.shape, array.dtype
        self.tensor_float = set()

    def __getitem__(self, rows):
        assert isinstance(rows, slice) and rows.step is None
        assert rows.stop - rows.start <= self.most
        self.tensor_float.add(tf.config.experimental.tensor_float_32_execution_enabled())
        return self.array[rows]


class TestLogLikelihoods:
    @pytest.mark.slow
    @pytest.mark.parametrize("block", [1000, 128])
    def test_agrees_with_brute_force_on_images(self, images, exact, block):
        result = log_likelihoods(*images, SIGMAS, block=block)
        assert result.dtype == np.float64 and result.shape == (10, 200)
        error = np.abs(result - exact).max(axis=1)
        assert (error < TOLERANCE).all(), dict(zip(SIGMAS, error, strict=True))

    def test_single_precision_would_miss_the_tolerance(self, images, exact):
        error = np.abs(float32_expansion(*images, SIGMAS) - exact).max(axis=1)
        assert error[0] > TOLERANCE

    @pytest.mark.parametrize("sigma", [0.1, 0.36, 1.0, 5.0])
    def test_agrees_with_scikit_learn(self, small, sigma):
        images, samples = (array.reshape(len(array), -1) for array in small)
        density = KernelDensity(bandwidth=sigma, kernel="gaussian").fit(samples)
        result = log_likelihoods(*small, [sigma])[0]
        np.testing.assert_allclose(result, density.score_samples(images), atol=1e-9, rtol=0)

    @pytest.mark.parametrize("offset", [0.0, 0.5, 50.0])
    def test_one_sample_is_a_normal_distribution(self, offset):
        """Also where every kernel underflows: 50 is 500 standard deviations away."""
        x = np.random.default_rng(2).uniform(-1, 1, (5, 784))
        result = log_likelihoods(x, np.full((1, 784), offset), [0.1, 1.0])
        for row, sigma in zip(result, [0.1, 1.0], strict=True):
            expected = scipy.stats.norm.logpdf(x, offset, sigma).sum(axis=1)
            np.testing.assert_allclose(row, expected, rtol=1e-12)

    @pytest.mark.parametrize("sigma", [0.1, 1.0])
    def test_density_integrates_to_one(self, sigma):
        samples = np.random.default_rng(3).uniform(-1, 1, (7, 1))
        x = np.linspace(-12, 12, 20001)
        density = np.exp(log_likelihoods(x[:, None], samples, [sigma])[0])
        assert scipy.integrate.simpson(density, x=x) == pytest.approx(1, abs=1e-10)

    def test_far_samples_first(self):
        """The nearest sample comes last, in a block of its own, and all others underflow."""
        samples = np.array([[900.0], [30.0], [0.5]])
        result = log_likelihoods(np.zeros((1, 1)), samples, [0.1], block=1)
        expected = scipy.stats.norm.logpdf(0.5, scale=0.1) - np.log(3)
        assert result[0, 0] == pytest.approx(expected, rel=1e-12)

    def test_a_shift_of_all_data_changes_nothing(self, small):
        images, samples = small
        shifted = log_likelihoods(images + 1000, samples + 1000, SIGMAS)
        np.testing.assert_allclose(shifted, log_likelihoods(*small, SIGMAS), atol=1e-6, rtol=0)

    def test_order_of_the_samples_changes_nothing(self, small):
        images, samples = small
        permuted = np.random.default_rng(4).permutation(samples)
        result = log_likelihoods(images, permuted, SIGMAS, block=10)
        np.testing.assert_allclose(
            result, log_likelihoods(*small, SIGMAS, block=10), atol=1e-9, rtol=0
        )

    def test_images_are_scored_one_by_one(self, small):
        images, samples = small
        order = np.random.default_rng(5).permutation(len(images))
        result = log_likelihoods(images[order], samples, SIGMAS, block=10)
        expected = log_likelihoods(*small, SIGMAS, block=10)[:, order]
        np.testing.assert_allclose(result, expected, atol=1e-9, rtol=0)

    @pytest.mark.parametrize("block", [1, 7, 37, 53, 10_000])
    def test_block_size_changes_nothing(self, small, block):
        images, samples = small[0][:9], small[1]
        result = log_likelihoods(images, samples, SIGMAS, block=block)
        expected = brute_force(images, samples, SIGMAS)
        np.testing.assert_allclose(result, expected, atol=1e-9, rtol=0)

    def test_reads_blocks_without_tensor_float(self, small):
        images, samples = (SliceOnly(array, most=8) for array in small)
        before = tf.config.experimental.tensor_float_32_execution_enabled()
        result = log_likelihoods(images, samples, SIGMAS, block=8)
        np.testing.assert_allclose(result, brute_force(*small, SIGMAS), atol=1e-9, rtol=0)
        assert images.tensor_float == samples.tensor_float == {False}
        assert tf.config.experimental.tensor_float_32_execution_enabled() is before is True

    @pytest.mark.slow
    def test_large_images_are_held_in_smaller_blocks(self, small, monkeypatch):
        """Images of 48 values, of which a block has at most 8."""
        monkeypatch.setattr(kernel_density, "BLOCK_BYTES", 8 * 48 * 4 + 100)
        images, samples = (SliceOnly(array, most=8) for array in small)
        result = log_likelihoods(images, samples, SIGMAS)
        np.testing.assert_allclose(result, brute_force(*small, SIGMAS), atol=1e-9, rtol=0)
        monkeypatch.setattr(kernel_density, "BLOCK_BYTES", 1)
        result = log_likelihoods(images, samples, SIGMAS)
        np.testing.assert_allclose(result, brute_force(*small, SIGMAS), atol=1e-9, rtol=0)

    @pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
    def test_h5_dataset_gives_the_same_as_an_array(self, small, tmp_path, dtype):
        images, samples = (array.astype(dtype) for array in small)
        with h5py.File(tmp_path / "samples.h5", "w") as file:
            stored = file.create_dataset("samples", data=samples, chunks=(9, 4, 4, 3))
            result = log_likelihoods(images, stored, SIGMAS, block=16, tolerance=1e-12)
        expected = log_likelihoods(images, samples, SIGMAS, block=16, tolerance=1e-12)
        assert np.array_equal(result, expected)
        np.testing.assert_allclose(result, brute_force(images, samples, SIGMAS), atol=1e-9, rtol=0)

    def test_rounding_never_exceeds_the_peak_of_the_kernel(self, images):
        """A duplicate's squared distance is zero, not the -1e-12 that expansion can give."""
        images, sigma = images[0][:60], 1e-8
        peak = scipy.stats.norm.logpdf(0, scale=sigma) * images[0].size
        assert (log_likelihoods(images, images, [sigma]) <= peak).all()

    def test_bytes_are_scaled_as_in_training(self, images):
        rng = np.random.default_rng(7)
        pixels = rng.integers(0, 256, (30, 32, 32, 3), np.uint8)
        result = log_likelihoods(pixels, images[1][:50], SIGMAS)
        assert np.array_equal(result, log_likelihoods(scale(pixels), images[1][:50], SIGMAS))

    @pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, bool])
    def test_refuses_other_integers(self, small, dtype):
        images, samples = small
        with pytest.raises(UserError, match=r"images: pixels of type .* 127\.5"):
            log_likelihoods(np.ones(images.shape, dtype), samples, SIGMAS)

    @pytest.mark.parametrize("tolerance", [1e-2, 1e-6, 1e-9])
    def test_keeps_to_any_tolerance(self, images, exact, tolerance):
        result = log_likelihoods(images[0][:40], images[1], SIGMAS, tolerance=tolerance)
        np.testing.assert_allclose(result, exact[:, :40], atol=tolerance, rtol=0)

    @pytest.mark.parametrize("block", [10, 1000])
    def test_names_the_sample_that_is_not_finite(self, small, block):
        images, samples = small
        with pytest.raises(UserError, match="samples: number 31 "):
            log_likelihoods(images, replaced(samples, 31, np.nan), SIGMAS, block=block)

    @pytest.mark.parametrize("sigmas", [[], [0.1, 0.0], [-1.0], [np.nan], [np.inf], 0.1])
    def test_refuses_sigmas(self, small, sigmas):
        with pytest.raises(UserError, match="sigmas"):
            log_likelihoods(*small, sigmas)


SIDE = 64
DIMENSION = SIDE * SIDE * 3


def smooth(n, seed):
    """n pictures of low spatial frequency, float32 (n, 64, 64, 3)."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(-1, 1, (n, 4, 4, 3)).astype(np.float32)
    return coarse.repeat(SIDE // 4, axis=1).repeat(SIDE // 4, axis=2)


def noisy(pictures, noise, seed=8):
    rng = np.random.default_rng(seed)
    return pictures + np.float32(noise) * rng.standard_normal(pictures.shape, np.float32)


def flat(low, high, n):
    """n pictures, each of one value in all pixels: rounding errors of their products add up."""
    values = np.linspace(low, high, n, dtype=np.float32)
    return np.broadcast_to(values[:, None, None, None], (n, SIDE, SIDE, 3)).copy()


def two_clusters(noise, order=slice(None)):
    pair = smooth(2, 11)
    images = np.concatenate([noisy(pair, 0.05), pair, pair.mean(axis=0)[None], smooth(3, 12)])
    return images, noisy(pair[np.arange(300) % 2][order], noise)


def equal(noise):
    return np.concatenate([smooth(1, 13), noisy(smooth(1, 13), 0.1), smooth(3, 14)]), noisy(
        smooth(1, 13)[np.zeros(300, int)], noise
    )


def beside(noise):
    images, samples = noisy(smooth(6, 15), 0.1), smooth(300, 16)
    samples[50:56] = noisy(images, noise)
    samples[290:293] = noisy(images[:3], noise, seed=9)
    return images, samples


SORTED = np.argsort(np.arange(300) % 2, kind="stable")
ADVERSARIES = {
    "all samples equal": lambda: equal(0),
    "all samples alike": lambda: equal(1e-3),
    "samples around one": lambda: equal(0.1),
    "two points": lambda: two_clusters(0),
    "two tight clusters": lambda: two_clusters(1e-3),
    "two loose clusters": lambda: two_clusters(0.03),
    "two clusters one after the other": lambda: two_clusters(1e-3, SORTED),
    "a sample is a test image": lambda: beside(0),
    "a sample beside a test image": lambda: beside(1e-6),
    "a sample near a test image": lambda: beside(1e-3),
    "a sample not far from a test image": lambda: beside(0.03),
    "flat": lambda: (flat(-1, 1, 9), flat(-0.97, 0.93, 300)),
    "nearly flat": lambda: (noisy(flat(-1, 1, 9), 0.01), flat(-0.01, 0.01, 300)),
    "black and white": lambda: (np.sign(smooth(6, 17)), np.sign(smooth(300, 18))),
}


class TestAdversaries:
    """Data for which a plain float32 product is off, or few near samples do not decide."""

    @pytest.mark.parametrize("block", [5000, 64])
    @pytest.mark.parametrize("case", ADVERSARIES)
    def test_agrees_with_brute_force_for_every_sigma(self, case, block):
        images, samples = ADVERSARIES[case]()
        error = log_likelihoods(images, samples, SIGMAS, block=block)
        error -= brute_force(images, samples, SIGMAS)
        assert np.abs(error).max() < TOLERANCE, np.abs(error).max(axis=1)

    @pytest.mark.parametrize("case", ADVERSARIES)
    @pytest.mark.parametrize("dtype", [tf.float32, tf.float64])
    def test_rounding_stays_within_its_bound(self, case, dtype):
        images, samples = ADVERSARIES[case]()
        images, samples = images.reshape(-1, DIMENSION), samples.reshape(-1, DIMENSION)
        held = Samples(samples)
        closeness, x2, bound = by_products(images, held, dtype)
        d2 = x2[:, None] - closeness.numpy()
        wide = samples.astype(np.float64)
        expected = [np.square(wide - image).sum(axis=1) for image in images]
        assert (np.abs(d2 - expected).max(axis=1) <= bound).all()

    @pytest.mark.parametrize("photographs", [False, True])
    def test_ordinary_rounding_is_far_within_its_bound(self, images, photographs):
        if not photographs:
            images = np.random.default_rng(10).uniform(-1, 1, (2, 300, 3072)).astype(np.float32)
        x, s = (array[:300].reshape(-1, 3072) for array in images)
        closeness, x2, bound = by_products(x, Samples(s), tf.float32)
        d2 = x2[:, None] - closeness.numpy()
        closeness, x2, _ = by_products(x, Samples(s), tf.float64)
        exact = x2[:, None] - closeness.numpy()
        assert (np.abs(d2 - exact).max(axis=1) < bound / 5).all()

    def test_images_are_computed_as_exactly_as_they_need(self, monkeypatch):
        """In a cloud of equal kernels all are computed again in float64, elsewhere none."""
        kinds = []

        def watched(x, samples, dtype):
            kinds.append((dtype, len(x)))
            return by_products(x, samples, dtype)

        monkeypatch.setattr(kernel_density, "by_products", watched)
        at_once = log_likelihoods(*two_clusters(0), [0.1])
        assert kinds == [(tf.float32, 8), (tf.float64, 8)]
        kinds.clear()
        monkeypatch.setattr(kernel_density, "AGAIN", 3)
        np.testing.assert_allclose(log_likelihoods(*two_clusters(0), [0.1]), at_once, rtol=1e-12)
        assert kinds == [(tf.float32, 8), *((tf.float64, n) for n in (3, 3, 2))]
        kinds.clear()
        log_likelihoods(*two_clusters(0), [10.0])
        log_likelihoods(*beside(1e-3), [0.1])
        assert kinds == [(tf.float32, 8), (tf.float32, 6)]

    def test_at_a_tiny_sigma_no_product_is_exact_enough(self):
        images, samples = (array.reshape(-1, DIMENSION) for array in two_clusters(0))
        sigma = 1e-6
        error = log_likelihoods(images, samples, [sigma]) - brute_force(images, samples, [sigma])
        assert np.abs(error).max() < 1e-14 * DIMENSION / sigma**2

    def test_products_worse_than_the_bound_are_found_out(self, images, exact, monkeypatch):
        """As TensorFloat-32 would be, if it could not be switched off."""
        product = tf.matmul

        def rough(a, b, **options):
            if a.dtype == tf.float32:
                a, b = (tf.cast(tf.cast(c, tf.bfloat16), tf.float32) for c in (a, b))
            return product(a, b, **options)

        monkeypatch.setattr(tf, "matmul", rough)
        result = log_likelihoods(images[0][:40], images[1], SIGMAS)
        assert np.abs(result - exact[:, :40]).max() < TOLERANCE
