"""The posteriors against scipy's matrix normal and multivariate normal."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import gaussian_kl
from scipy.stats import matrix_normal, multivariate_normal

from svae.model.posteriors import (
    POSTERIORS,
    Options,
    kl,
    limited,
    log_density,
    output_count,
    parameters,
    sample,
)

SPATIAL = ["naive", "mvn", "low_rank"]
MATRIX = ["mvn", "low_rank"]
CASES = [("vanilla", 1), *((name, d) for name in SPATIAL for d in (1, 2, 3, 5))]
BATCHES = [(1, 1), (3, 2)]  # images, latent maps N
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


class Truth:
    """Parameters drawn in numpy, the encoder outputs that state them, and scipy's distributions.

    Means and log variances along rows and along columns come from disjoint ranges, so that no
    exchange of rows and columns goes unseen.
    """

    def __init__(self, name, d, images=3, maps=2, dtype="float64", seed=0):
        rng = np.random.default_rng(seed)
        self.name, self.d, self.images, self.maps, self.dtype = name, d, images, maps, dtype

        def draw(low, high, *sides):
            return rng.uniform(low, high, (images, *sides, maps))

        def rounded(array):  # to what the encoder's dtype can say
            return array.astype(dtype).astype(np.float64)

        mu, nu = rounded(draw(0.5, 2.0, d)), rounded(draw(-1.5, -0.1, d))
        log_omega, log_psi = rounded(draw(-0.5, 1.5, d)), rounded(draw(-3.0, -1.0, d))
        self.omega, self.psi = np.exp(log_omega), np.exp(log_psi)
        full = rounded(draw(-2.0, 2.0, d, d))
        entries = rounded(draw(-3.0, 1.0, d, d))
        self.mean = np.einsum("bin,bjn->bijn", mu, nu) if name == "low_rank" else full
        self.var = np.einsum("bin,bjn->bijn", self.omega, self.psi)
        if name in ("vanilla", "naive"):
            self.var = np.exp(entries)
        flat = (images, d * d, maps)
        parts = {
            "vanilla": [full.reshape(flat), entries.reshape(flat)],
            "naive": [full.reshape(flat), entries.reshape(flat)],
            "mvn": [full.reshape(flat), log_omega, log_psi],
            "low_rank": [mu, nu, log_omega, log_psi],
        }[name]
        self.outputs = tf.constant(np.concatenate(parts, axis=1).reshape(images, -1), dtype)

    def parameters(self):
        return parameters(self.name, self.outputs, self.d, self.maps)

    def each_map(self):
        return [(b, n) for b in range(self.images) for n in range(self.maps)]

    def vector_normal(self, b, n):
        """The distribution of vec(F^T), that is of F row by row."""
        if self.name in MATRIX:  # Omega (x) Psi
            cov = np.kron(np.diag(self.omega[b, :, n]), np.diag(self.psi[b, :, n]))
        else:
            cov = np.diag(self.var[b, :, :, n].ravel())
        return multivariate_normal(self.mean[b, :, :, n].ravel(), cov)

    def matrix_normal(self, b, n):
        return matrix_normal(
            self.mean[b, :, :, n], np.diag(self.omega[b, :, n]), np.diag(self.psi[b, :, n])
        )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("images", "maps"), BATCHES)
@pytest.mark.parametrize(("name", "d"), CASES)
def test_log_density_and_kl_are_those_of_scipy(name, d, images, maps, dtype):
    truth = Truth(name, d, images, maps, dtype)
    loc, log_var = truth.parameters()
    z = truth.mean + np.random.default_rng(1).normal(size=truth.mean.shape)
    densities = log_density(tf.constant(z, dtype), loc, log_var)
    divergences = kl(loc, log_var)
    for value in (loc, log_var, densities, divergences):
        assert value.shape == (images, d, d, maps)
        assert value.dtype == dtype
    for b, n in truth.each_map():
        oracle = truth.vector_normal(b, n)
        z_map = z[b, :, :, n]
        expected = oracle.logpdf(z_map.ravel())
        found = float(tf.reduce_sum(densities[b, :, :, n]))
        assert found == pytest.approx(expected, rel=TOLERANCE[dtype], abs=TOLERANCE[dtype] * 10)
        if name in MATRIX:
            assert truth.matrix_normal(b, n).logpdf(z_map) == pytest.approx(expected)
        divergence = float(tf.reduce_sum(divergences[b, :, :, n]))
        expected = gaussian_kl(oracle.mean, oracle.cov)
        assert divergence == pytest.approx(expected, rel=TOLERANCE[dtype])


@pytest.mark.parametrize(("name", "d"), [("vanilla", 1), ("naive", 2), ("mvn", 3), ("low_rank", 5)])
def test_kl_is_that_of_monte_carlo(name, d):
    truth = Truth(name, d, images=1, maps=1)
    oracle = truth.vector_normal(0, 0)
    draws = oracle.rvs(20_000, random_state=2).reshape(20_000, d * d)
    prior = multivariate_normal(np.zeros(d * d), np.eye(d * d))
    differences = oracle.logpdf(draws) - prior.logpdf(draws)
    error = differences.std() / np.sqrt(len(differences))
    divergence = float(tf.reduce_sum(kl(*truth.parameters())))
    assert error < 0.02 * divergence
    assert abs(differences.mean() - divergence) < 4 * error


def test_kl_of_the_prior_is_zero():
    zeros = tf.zeros((2, 3, 3, 4))
    np.testing.assert_array_equal(kl(zeros, zeros), zeros)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("images", "maps"), BATCHES)
@pytest.mark.parametrize(("name", "d"), CASES)
def test_sample_of_a_given_noise(name, d, images, maps, dtype):
    truth = Truth(name, d, images, maps, dtype)
    noise = np.random.default_rng(3).normal(size=truth.mean.shape)
    z = sample(*truth.parameters(), tf.constant(noise, dtype)).numpy()
    assert z.dtype == dtype
    for b, n in truth.each_map():
        scale = np.sqrt(truth.var[b, :, :, n])
        if name in MATRIX:  # sqrt(omega) sqrt(psi)^T
            scale = np.sqrt(truth.omega[b, :, n])[:, None] @ np.sqrt(truth.psi[b, :, n])[None, :]
        expected = truth.mean[b, :, :, n] + scale * noise[b, :, :, n]
        tolerance = TOLERANCE[dtype]
        np.testing.assert_allclose(z[b, :, :, n], expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "d"), [("vanilla", 1), ("naive", 2), ("mvn", 3), ("low_rank", 3)])
def test_samples_have_the_mean_and_covariance_of_scipy(name, d):
    count, maps = 20_000, 2
    truth = Truth(name, d, 1, maps)
    noise = tf.random.stateless_normal((count, d, d, maps), [4, 5], dtype=tf.float64)
    z = sample(*truth.parameters(), noise).numpy()
    for n in range(maps):
        oracle = truth.vector_normal(0, n)
        draws = z[..., n].reshape(count, d * d)
        variances = np.diag(oracle.cov)
        assert np.all(abs(draws.mean(0) - oracle.mean) < 5 * np.sqrt(variances / count))
        empirical = np.cov(draws, rowvar=False).reshape(d * d, d * d)
        error = np.sqrt((np.outer(variances, variances) + oracle.cov**2) / count)
        assert np.all(abs(empirical - oracle.cov) < 5 * error)
        if name in MATRIX:
            swapped = np.kron(np.diag(truth.psi[0, :, n]), np.diag(truth.omega[0, :, n]))
            assert np.any(abs(empirical - swapped) > 10 * error)


@pytest.mark.parametrize(
    ("name", "d", "count"),
    [("vanilla", 1, 128), ("naive", 3, 1152), ("mvn", 3, 960), ("low_rank", 3, 768)],
)
def test_output_counts_at_64_maps(name, d, count):
    assert output_count(name, d, 64) == count


@pytest.mark.parametrize("maps", [1, 7])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_output_counts(d, maps):
    assert output_count("vanilla", 1, maps) == 2 * maps
    assert output_count("naive", d, maps) == 2 * d**2 * maps
    assert output_count("mvn", d, maps) == (d**2 + 2 * d) * maps
    assert output_count("low_rank", d, maps) == 4 * d * maps


def test_vanilla_has_no_other_latent_size_than_1():
    with pytest.raises(ValueError, match="latent_size 1"):
        POSTERIORS["vanilla"].split(tf.zeros((1, 2, 1)), 3)


@pytest.mark.parametrize("what", ["kl", "sample"])
@pytest.mark.parametrize(("name", "d"), [("vanilla", 1), ("naive", 3), ("mvn", 3), ("low_rank", 3)])
def test_gradients_are_finite_differences(name, d, what):
    maps, h = 2, 1e-5
    truth = Truth(name, d, 1, maps)
    shape = (1, d, d, maps)
    rng = np.random.default_rng(6)
    noise, weights = (tf.constant(rng.normal(size=shape)) for _ in range(2))

    def function(outputs):  # (n, count) -> (n,)
        loc, log_var = parameters(name, outputs, d, maps)
        values = kl(loc, log_var) if what == "kl" else sample(loc, log_var, noise)
        return tf.reduce_sum(weights * values, axis=[1, 2, 3])

    with tf.GradientTape() as tape:
        tape.watch(truth.outputs)
        value = function(truth.outputs)
    gradient = tape.gradient(value, truth.outputs).numpy()[0]
    steps = h * np.eye(len(gradient))
    differences = (function(truth.outputs + steps) - function(truth.outputs - steps)) / (2 * h)
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("d", [1, 2, 3, 5])
def test_low_rank_is_an_mvn_and_mvn_a_naive(d):
    maps = 2
    truth = Truth("low_rank", d, 3, maps)
    expected = truth.parameters()
    mu, nu, log_omega, log_psi = np.split(truth.outputs.numpy().reshape(3, 4 * d, maps), 4, axis=1)
    mean = np.einsum("bin,bjn->bijn", mu, nu).reshape(3, d * d, maps)
    log_var = (log_omega[:, :, None] + log_psi[:, None]).reshape(3, d * d, maps)
    for name, parts in {"mvn": [mean, log_omega, log_psi], "naive": [mean, log_var]}.items():
        outputs = tf.constant(np.concatenate(parts, axis=1).reshape(3, -1))
        for value, wanted in zip(parameters(name, outputs, d, maps), expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-14)


def test_low_rank_means_have_rank_one_and_those_of_mvn_do_not():
    for name, rank in (("low_rank", 1), ("mvn", 3)):
        loc = Truth(name, 3).parameters()[0].numpy()
        assert np.all(np.linalg.matrix_rank(loc.transpose(0, 3, 1, 2)) == rank)


def test_low_rank_is_stationary_where_both_factors_vanish():
    """Of any function of loc; one factor that differs from zero ends it."""
    d, maps = 3, 2
    weights = tf.constant(np.random.default_rng(7).normal(size=(1, d, d, maps)))

    def gradient(raw):
        outputs = tf.constant(raw.reshape(1, -1))
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loc, _ = parameters("low_rank", outputs, d, maps)
            value = tf.reduce_sum(weights * tf.sin(loc + 0.3))
        return tape.gradient(value, outputs).numpy().reshape(4 * d, maps)[: 2 * d]

    raw = np.random.default_rng(8).normal(size=(4 * d, maps))
    raw[: 2 * d] = 0
    assert np.all(gradient(raw) == 0)
    raw[d : 2 * d] = 0.1
    assert np.all(gradient(raw)[:d] != 0)


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_a_limited_log_variance_is_itself_below_and_grows_slowly_and_smoothly_above(limit):
    log_var = tf.constant([-90.0, -1.0, 0.0, limit, limit + 1e-6, limit + 1, 14.0, 1e6], tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(log_var)
        found = limited(log_var, limit)
    slope = tape.gradient(found, log_var).numpy()
    above = np.maximum(log_var.numpy() - limit, 0)
    np.testing.assert_allclose(found, np.minimum(log_var, limit) + np.log1p(above), rtol=1e-14)
    assert np.all(slope[:2] == 1) and slope[4] == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(slope[5:], 1 / (1 + above[5:]), rtol=1e-12)
    assert limited(log_var, None) is log_var


@pytest.mark.parametrize(("name", "d"), CASES)
def test_a_limit_changes_nothing_below_it_and_keeps_factors_factors(name, d):
    truth = Truth(name, d)  # no log variance above 1.5, nor a factor's
    published = truth.parameters()
    limits = Options(log_var_limit=3.0)
    for a, b in zip(published, parameters(name, truth.outputs, d, truth.maps, limits), strict=True):
        np.testing.assert_array_equal(a, b)
    wild = 10 * truth.outputs
    _, log_var = parameters(name, wild, d, truth.maps, Options(log_var_limit=1.0))
    _, unlimited = parameters(name, wild, d, truth.maps)
    assert np.max(log_var) < 6
    assert np.max(log_var) < np.max(unlimited) or np.max(unlimited) <= 1
    if name in MATRIX:
        rows = log_var[:, :, :1] + log_var[:, :1, :] - log_var[:, :1, :1]
        np.testing.assert_allclose(log_var, rows, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_low_rank_that_starts_at_ones_is_the_published_one_with_nu_shifted(d):
    truth = Truth("low_rank", d)
    ones = Options(low_rank_start="ones")
    raw = truth.outputs.numpy().reshape(3, 4 * d, -1)
    shifted = raw.copy()
    shifted[:, d : 2 * d] -= 1
    found = parameters("low_rank", tf.constant(shifted.reshape(3, -1)), d, truth.maps, ones)
    for a, b in zip(found, truth.parameters(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    zeros = tf.zeros((1, 4 * d * 2), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        loc, _ = parameters("low_rank", zeros, d, 2, ones)
        value = tf.reduce_sum(tf.sin(loc + 0.3))
    assert np.all(loc == 0)
    assert np.all(tape.gradient(value, zeros).numpy().reshape(4 * d, 2)[:d] != 0)
