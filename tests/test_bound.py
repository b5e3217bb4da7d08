"""The importance-weighted bound against closed forms and slow formulas."""

import json
import math

import h5py
import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import make_images
from scipy import stats
from scipy.special import logsumexp

from svae.errors import UserError
from svae.model.posteriors import Naive, Posterior
from svae.model.priors import StandardNormal
from svae.scores.bound import (
    Bound,
    Dequantised,
    effective_sample_size,
    estimate,
    importance_weighted_bound,
    log_mean_exp,
    nested_log_means,
    summary,
)

LATENTS, PIXELS, VARIANCE = 3, 8, 0.25
LOG_VARIANCE = math.log(VARIANCE)


class LinearGaussian:
    """x = W z + b + noise, z ~ N(0, I): all that a bound estimates is known.

    The columns of W are orthogonal, so that the posterior is diagonal. The proposal is the
    posterior with its means moved by `shift` standard deviations and its variances times `spread`.
    The entries of z are maps of d = 1.
    """

    def __init__(self, shift=0.0, spread=1.0):
        rng = np.random.default_rng(0)
        columns = np.linalg.qr(rng.standard_normal((PIXELS, LATENTS)))[0]
        self.w = columns * [1.5, 0.7, 0.3]
        self.b = rng.uniform(-0.5, 0.5, PIXELS)
        self.shift, self.spread = shift, spread
        self.variances = 1 / (1 + np.square(self.w).sum(axis=0) / VARIANCE)

    def sample(self, n, seed=1):
        rng = np.random.default_rng(seed)
        z, noise = rng.standard_normal((n, LATENTS)), rng.standard_normal((n, PIXELS))
        return self.decode(z) + math.sqrt(VARIANCE) * noise

    def decode(self, z):
        return z.reshape(-1, LATENTS) @ self.w.T + self.b

    def encode(self, x):
        loc = (x - self.b) @ self.w * self.variances / VARIANCE
        loc = loc + self.shift * np.sqrt(self.variances)
        log_var = np.broadcast_to(np.log(self.spread * self.variances), loc.shape)
        return Naive(tf.constant(np.stack([loc, log_var], axis=1)), 1)

    def log_density(self, x):
        covariance = self.w @ self.w.T + VARIANCE * np.eye(PIXELS)
        return stats.multivariate_normal(self.b, covariance).logpdf(x)

    def kl(self):
        """KL(proposal || posterior), the same for every x."""
        per_entry = self.spread + self.shift**2 - 1 - math.log(self.spread)
        return 0.5 * LATENTS * per_entry

    def bound(self, x, k, seed=5, batch=64):
        prior = StandardNormal()
        return estimate(self.encode, self.decode, prior, x, k, LOG_VARIANCE, seed, batch)


@pytest.mark.parametrize("k", [1, 7, 64])
def test_the_exact_posterior_gives_log_p_by_every_weight(k):
    model = LinearGaussian()
    x = model.sample(50)
    bound = model.bound(x, k)
    for found in (bound.per_image, bound.elbo):
        np.testing.assert_allclose(found, model.log_density(x), rtol=0, atol=1e-10)
    np.testing.assert_allclose(bound.effective_sample_size, k, rtol=1e-10)
    if k == 64:
        expected = model.log_density(x).mean()
        np.testing.assert_allclose(bound.by_k, [expected] * 7, rtol=0, atol=1e-10)


class Correlated(Posterior):
    """z ~ N(mean, root root^T), one map of the single entry after the other, which are not
    independent: `log_density` and `kl` put all into the first map."""

    def __init__(self, mean, root):
        self._mean, self.root = mean, root  # (n, LATENTS), (LATENTS, LATENTS)

    outputs_per_map = None

    @property
    def mean(self):
        return tf.constant(self._mean[:, None, None])

    @property
    def variance(self):
        return tf.zeros_like(self.mean) + np.square(self.root).sum(axis=1)

    def sample(self, noise):
        return self.mean + tf.constant(noise.numpy() @ self.root.T)

    def kl(self):
        raise AssertionError("the bound is of samples and densities only")

    def log_density(self, z):
        away = z.numpy()[..., 0, 0, :] - self._mean
        densities = stats.multivariate_normal(cov=self.root @ self.root.T).logpdf(away)
        return tf.constant(densities[..., None] * np.eye(LATENTS)[0])


def test_a_posterior_whose_entries_depend_on_each_other_gives_log_p():
    """W with columns that are not orthogonal: no diagonal posterior is exact."""
    model = LinearGaussian()
    model.w = model.w @ np.array([[1.0, 0.9, -0.5], [0.0, 1.0, 0.8], [0.0, 0.0, 1.0]])
    precision = np.eye(LATENTS) + model.w.T @ model.w / VARIANCE
    covariance = np.linalg.inv(precision)
    assert abs(covariance[0, 1]) > 0.1 * math.sqrt(covariance[0, 0] * covariance[1, 1])

    def encode(x):
        return Correlated(
            (x - model.b) @ model.w @ covariance / VARIANCE, np.linalg.cholesky(covariance)
        )

    x = model.sample(20)
    bound = estimate(encode, model.decode, StandardNormal(), x, 4, LOG_VARIANCE, 5, 64)
    np.testing.assert_allclose(bound.elbo, model.log_density(x), rtol=0, atol=1e-10)
    np.testing.assert_allclose(bound.effective_sample_size, 4, rtol=1e-10)


PROPOSALS = [(0.5, 1.0), (0.0, 1.7), (0.0, 0.4), (-1.0, 0.6), (0.3, 2.5)]


@pytest.mark.parametrize(("shift", "spread"), PROPOSALS)
@pytest.mark.parametrize("k", [1, 5, 50])
def test_the_bound_does_not_exceed_log_p(shift, spread, k):
    model = LinearGaussian(shift, spread)
    above = []
    for seed in range(4):
        x = model.sample(500, seed=10 + seed)
        above.append(model.bound(x, k, seed=seed, batch=1000).per_image - model.log_density(x))
    above = np.concatenate(above)
    error = above.std(ddof=1) / math.sqrt(above.size)
    assert above.mean() <= 3 * error
    if k == 1:  # by how much it falls short is known
        assert abs(above.mean() + model.kl()) < 4 * error


@pytest.mark.parametrize(("shift", "spread"), [(0.5, 1.3), (0.0, 1.7), (0.3, 2.5)])
def test_many_weights_give_log_p_within_their_monte_carlo_error(shift, spread):
    model = LinearGaussian(shift, spread)
    x, k = model.sample(200), 2000
    bound = model.bound(x, k, batch=1000)
    assert (bound.effective_sample_size > k / 5).all()
    # relative variance of the mean of k weights
    error = np.sqrt(1 / bound.effective_sample_size - 1 / k)
    scores = (bound.per_image - model.log_density(x)) / error
    assert np.abs(scores).max() < 5
    assert abs(scores.mean()) < 4 / math.sqrt(scores.size)


def test_all_estimates_are_of_the_same_weights():
    model = LinearGaussian(0.4, 1.5)
    x = model.sample(20)
    one, two = model.bound(x, 1), model.bound(x, 2)
    first = one.per_image
    np.testing.assert_array_equal(one.elbo, first)
    second = 2 * two.elbo - first
    expected = logsumexp([first, second], axis=0) - math.log(2)
    np.testing.assert_allclose(two.per_image, expected, rtol=1e-12)
    assert not np.any(np.abs(first - second) < 1e-9)
    np.testing.assert_allclose(two.by_k, [two.elbo.mean(), two.per_image.mean()], rtol=1e-12)
    assert model.bound(x, 6).by_k is None


@pytest.mark.parametrize("batch", [1, 3, 8, 20, 1000])
@pytest.mark.parametrize("k", [5, 8])
def test_the_batch_decides_nothing(k, batch):
    model = LinearGaussian(0.4, 1.5)
    x = model.sample(11)
    most = []

    def decode(z):
        most.append(len(z))
        return model.decode(z)

    found = estimate(model.encode, decode, StandardNormal(), x, k, LOG_VARIANCE, 5, batch)
    assert max(most) <= batch and sum(most) == 11 * k
    expected = model.bound(x, k, batch=7)
    fewer = model.bound(x[:4], k)
    for name in ("per_image", "elbo", "effective_sample_size"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-11)
        np.testing.assert_allclose(getattr(found, name)[:4], getattr(fewer, name), rtol=1e-11)
    assert found.k == k
    other = model.bound(x, k, seed=6)
    assert not np.any(np.abs(other.elbo - found.elbo) < 1e-9)


def slow_nested(log_w):
    """The definition: the average over groups of the log of a group's mean weight."""
    k = len(log_w)
    sizes = [2**j for j in range(k.bit_length())]
    return [
        np.mean([logsumexp(log_w[a : a + size]) - math.log(size) for a in range(0, k, size)])
        for size in sizes
    ]


@pytest.mark.parametrize("power", [0, 1, 6])
@pytest.mark.parametrize("scale", [0.0, 0.1, 3.0, 500.0])
def test_nested_means_never_decrease(power, scale):
    log_w = np.random.default_rng(2).standard_normal((30, 2**power)) * scale - 5000.0
    found = nested_log_means(log_w)
    assert found.shape == (30, power + 1)
    np.testing.assert_allclose(found, [slow_nested(row) for row in log_w], rtol=1e-12)
    np.testing.assert_allclose(found[:, 0], log_w.mean(axis=1), rtol=1e-14)
    np.testing.assert_allclose(found[:, -1], log_mean_exp(log_w), rtol=1e-14)
    assert (np.diff(found, axis=1) >= -1e-12 * np.abs(log_w).max()).all()


def test_the_mean_weight_and_the_effective_sample_size_are_those_of_their_formulas():
    log_w = np.random.default_rng(3).standard_normal((40, 9)) * 4
    w = np.exp(log_w)
    for shift in (0.0, -9e4, 9e4):  # whose exponentials no float64 holds
        np.testing.assert_allclose(
            log_mean_exp(log_w + shift), np.log(w.mean(axis=1)) + shift, rtol=1e-9
        )
        found = effective_sample_size(log_w + shift)
        np.testing.assert_allclose(found, w.sum(axis=1) ** 2 / (w**2).sum(axis=1), rtol=1e-9)
    assert effective_sample_size(np.full((1, 9), -7e3)) == 9
    assert effective_sample_size(np.array([[-7e3, -8e3, -9e3]])) == 1


class TestDequantised:
    def test_values_fill_the_steps_between_bytes(self):
        images = make_images(60)
        x = Dequantised(images, seed=1)
        assert x.shape == images.shape
        values = x[0:60]
        assert values.dtype == np.float32
        noise = (values.astype(np.float64) + 1) * 127.5 - images
        assert np.abs(noise).max() < 0.5001
        assert stats.kstest(noise.ravel(), "uniform", (-0.5, 1)).pvalue > 0.01
        assert np.abs(np.corrcoef(noise.reshape(60, -1)) - np.eye(60)).max() < 0.1

    def test_noise_is_decided_by_seed_and_number(self, tmp_path):
        images = make_images(7)
        whole = Dequantised(images, seed=1)[0:7]
        with h5py.File(tmp_path / "images.h5", "w") as file:
            x = Dequantised(file.create_dataset("test", data=images), seed=1)
            parts = np.concatenate([x[0:2], x[2:3], x[3:9]])
        np.testing.assert_array_equal(parts, whole)
        np.testing.assert_array_equal(Dequantised(images[:3], seed=1)[0:3], whole[:3])
        assert not np.array_equal(Dequantised(images, seed=2)[0:7], whole)


def test_the_summary_is_of_the_images_and_fits_into_json():
    per_image = np.array([-10.0, -12.0, -17.0])
    bound = Bound(per_image, per_image - 1, np.array([1.5, 2.0, 4.0]), 4, (-14.0, -13.5, -13.0))
    found = summary(bound, 12, 0.3, "training", 7)
    assert json.loads(json.dumps(found)) == found
    assert found["log_likelihood"] == -13.0 and found["elbo"] == -14.0
    assert found["standard_error"] == pytest.approx(stats.sem(per_image))
    assert found["bits_per_dim"] == pytest.approx(13 / (12 * np.log(2)) + np.log2(127.5))
    assert found["effective_sample_size"] == 2.5
    assert found["effective_sample_size_smallest"] == 1.5
    assert found["bound_by_k"] == {"k": [1, 2, 4], "log_likelihood": [-14.0, -13.5, -13.0]}
    rest = ("k", "n_images", "decoder_variance", "variance_from", "noise_seed")
    assert [found[key] for key in rest] == [4, 3, 0.3, "training", 7]
    assert (
        summary(Bound(per_image, per_image, per_image, 6, None), 12, 1, "", 7)["bound_by_k"] is None
    )


@pytest.mark.parametrize(("k", "batch", "word"), [(0, 4, "k is 0"), (4, 0, "batch is 0")])
def test_counts_below_one_are_refused(k, batch, word):
    model = LinearGaussian()
    with pytest.raises(UserError, match=word):
        model.bound(model.sample(3), k, batch=batch)


def test_a_single_image_is_refused():
    with pytest.raises(UserError, match="at least 2"):
        importance_weighted_bound(None, make_images(1), 4, 0.0, 1, 4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(value):
    model = LinearGaussian()
    x = model.sample(5)
    x[3, 2] = value
    with pytest.raises(UserError, match="weights of image 3"), np.errstate(invalid="ignore"):
        model.bound(x, 2)
