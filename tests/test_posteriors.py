"""Every posterior compared with scipy's matrix normal and multivariate normal.

A new posterior is one more row of `ROWS`. Those that contain others are compared with these in
tests/test_nested_posteriors.py.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import gaussian_kl
from scipy.stats import matrix_normal, multivariate_normal

from svae.config.schema import config_schema
from svae.model.posteriors import (
    POSTERIORS,
    PUBLISHED,
    HigherRank,
    LowRank,
    Options,
    Posterior,
    Vanilla,
    limited,
)
from svae.model.priors import StandardNormal


class Map(NamedTuple):
    """The distribution of one map F, entries row by row, and the encoder outputs that encode it."""

    raw: np.ndarray  # (outputs per map,)
    mean: np.ndarray  # (d, d)
    cov: np.ndarray  # (d^2, d^2)
    factors: tuple[np.ndarray, np.ndarray] | None = None  # Omega, Psi if cov = Omega (x) Psi


class Random:
    """Random encoder outputs, rounded to the precision of their type.

    Means and log variances along rows and along columns come from disjoint ranges, so that no
    exchange of rows and columns goes unseen.
    """

    def __init__(self, seed, dtype):
        self.rng, self.dtype = np.random.default_rng(seed), dtype

    def __call__(self, low, high, *shape):
        return self.rng.uniform(low, high, shape).astype(self.dtype).astype(np.float64)

    def mean(self, d):
        return self(-2.0, 2.0, d, d)

    def log_rows(self, d):
        return self(-0.5, 1.5, d)

    def log_columns(self, d):
        return self(-3.0, -1.0, d)


def naive(random, d):
    mean, log_var = random.mean(d), random(-3.0, 1.0, d, d)
    raw = np.concatenate([mean.ravel(), log_var.ravel()])
    return Map(raw, mean, np.diag(np.exp(log_var).ravel()))


def mvn(random, d):
    mean, rows, columns = random.mean(d), random.log_rows(d), random.log_columns(d)
    factors = np.diag(np.exp(rows)), np.diag(np.exp(columns))
    raw = np.concatenate([mean.ravel(), rows, columns])
    return Map(raw, mean, np.kron(*factors), factors)


def low_rank(random, d):
    mu, nu = random(0.5, 2.0, d), random(-1.5, -0.1, d)
    rows, columns = random.log_rows(d), random.log_columns(d)
    factors = np.diag(np.exp(rows)), np.diag(np.exp(columns))
    raw = np.concatenate([mu, nu, rows, columns])
    return Map(raw, np.outer(mu, nu), np.kron(*factors), factors)


def rank_2(random, d):
    mu, nu = random(0.5, 2.0, 2, d), random(-1.5, -0.1, 2, d)
    rows, columns = random.log_rows(d), random.log_columns(d)
    factors = np.diag(np.exp(rows)), np.diag(np.exp(columns))
    raw = np.concatenate([mu.ravel(), nu.ravel(), rows, columns])
    return Map(raw, mu.T @ nu, np.kron(*factors), factors)


def isotropic(random, d):
    mean, log_var = random.mean(d), random(-3.0, 1.0, 1)
    return Map(np.append(mean, log_var), mean, np.exp(log_var) * np.eye(d * d))


def unit_lower(below, m):
    """The matrix with ones on the diagonal and `below` under it, row by row."""
    matrix = np.eye(m)
    matrix[np.tril_indices(m, -1)] = below
    return matrix


def mvn_dense(random, d):
    mean, rows, columns = random.mean(d), random.log_rows(d), random.log_columns(d)
    rows[0] = 0
    a, b = (random(low, low + 0.6, d * (d - 1) // 2) for low in (0.2, -0.9))
    factors = [
        (root * np.exp(log_var)) @ root.T
        for root, log_var in ((unit_lower(a, d), rows), (unit_lower(b, d), columns))
    ]
    raw = np.concatenate([mean.ravel(), rows[1:], columns, a, b])
    return Map(raw, mean, np.kron(*factors), tuple(factors))


def full_covariance(random, d):
    mean, log_var = random.mean(d), random(-3.0, 1.0, d * d)
    below = random(-0.5, 0.5, d**2 * (d**2 - 1) // 2)
    root = unit_lower(below, d * d)
    raw = np.concatenate([mean.ravel(), log_var, below])
    return Map(raw, mean, (root * np.exp(log_var)) @ root.T)


class Row(NamedTuple):
    outputs_per_map: Callable[[int], int]
    one_map: Callable[[Random, int], Map]
    sizes: tuple[int, ...] = (1, 2, 3, 7)  # d
    made: type[Posterior] | None = None  # instead of the class in POSTERIORS


ROWS = {
    "vanilla": Row(lambda d: 2, naive, sizes=(1,)),
    "naive": Row(lambda d: 2 * d**2, naive),
    "mvn": Row(lambda d: d**2 + 2 * d, mvn),
    "low_rank": Row(lambda d: 4 * d, low_rank),
    "low_rank of rank 2": Row(lambda d: 6 * d, rank_2, (2, 3, 7), HigherRank.of_rank(2)),
    "isotropic": Row(lambda d: d**2 + 1, isotropic),
    "mvn_dense": Row(lambda d: d**2 + d * (d + 1) - 1, mvn_dense),
    "full_covariance": Row(lambda d: d**2 + d**2 * (d**2 + 1) // 2, full_covariance),
}
CLASSES = {name: row.made or POSTERIORS[name] for name, row in ROWS.items()}
CASES = [(name, d) for name, row in ROWS.items() for d in row.sizes]
ONE_SIZE = [(name, row.sizes[-1] if len(row.sizes) == 1 else 3) for name, row in ROWS.items()]
BATCHES = [(1, 1), (3, 2)]  # images, latent maps N
TOLERANCE = {"float32": 3e-5, "float64": 1e-11}

DEPENDENT = ("mvn_dense", "full_covariance")  # entries of a map

of_cases = pytest.mark.parametrize(("name", "d"), CASES)
of_one_size = pytest.mark.parametrize(("name", "d"), ONE_SIZE)
of_batches = pytest.mark.parametrize(("images", "maps"), BATCHES)
of_types = pytest.mark.parametrize("dtype", list(TOLERANCE))


class Truth:
    """A batch of random maps: `maps[b][n]`, and the encoder outputs that encode them."""

    def __init__(self, name, d, images=3, maps=2, dtype="float64", seed=0):
        random = Random(seed, dtype)
        self.name, self.d, self.count = name, d, maps
        self.maps = [[ROWS[name].one_map(random, d) for _ in range(maps)] for _ in range(images)]
        raw = np.array([[each.raw for each in row] for row in self.maps])  # (batch, N, outputs)
        self.outputs = tf.constant(np.moveaxis(raw, 1, 2).reshape(images, -1), dtype)

    def posterior(self, outputs=None, options=PUBLISHED):
        outputs = self.outputs if outputs is None else outputs
        return CLASSES[self.name].from_outputs(outputs, self.d, self.count, options)

    def each_map(self):
        return [(b, n, each) for b, row in enumerate(self.maps) for n, each in enumerate(row)]

    def latents(self, seed):
        """float64 (batch, d, d, N), near the means."""
        mean = np.array([[each.mean for each in row] for row in self.maps])
        z = mean + np.random.default_rng(seed).normal(size=mean.shape)
        return np.moveaxis(z, 1, -1)


def test_every_posterior_has_a_row():
    assert {name for name, row in ROWS.items() if row.made is None} == set(POSTERIORS)


def test_a_variant_may_have_any_posterior():
    variant = config_schema()["properties"]["variants"]["additionalProperties"]
    assert variant["properties"]["posterior"]["enum"] == list(POSTERIORS)


@of_types
@of_batches
@of_cases
def test_log_density_and_kl_equal_scipy(name, d, images, maps, dtype):
    truth = Truth(name, d, images, maps, dtype)
    posterior, z = truth.posterior(), truth.latents(seed=1)
    densities, divergences = posterior.log_density(tf.constant(z, dtype)), posterior.kl()
    for value in (densities, divergences):
        assert value.shape == (images, maps) and value.dtype == dtype
    for b, n, one in truth.each_map():
        z_map = z[b, :, :, n]
        expected = multivariate_normal(one.mean.ravel(), one.cov).logpdf(z_map.ravel())
        tolerance = TOLERANCE[dtype]
        assert float(densities[b, n]) == pytest.approx(expected, rel=tolerance, abs=10 * tolerance)
        if one.factors:
            assert matrix_normal(one.mean, *one.factors).logpdf(z_map) == pytest.approx(expected)
        expected = gaussian_kl(one.mean.ravel(), one.cov)
        assert float(divergences[b, n]) == pytest.approx(expected, rel=tolerance)


@of_types
@of_batches
@of_cases
def test_a_sample_is_the_mean_plus_a_square_root_of_the_covariance_times_the_noise(
    name, d, images, maps, dtype
):
    truth = Truth(name, d, images, maps, dtype)
    posterior, entries = truth.posterior(), d * d
    # noise of 0, and then of 1 in each entry in turn: leading axes are samples
    noise = np.zeros((entries + 1, images, d, d, maps))
    noise[1:] = np.eye(entries).reshape(entries, 1, d, d, 1)
    z = posterior.sample(tf.constant(noise, dtype))
    assert z.shape == noise.shape and z.dtype == dtype
    assert posterior.log_density(z).shape == (entries + 1, images, maps)
    np.testing.assert_array_equal(z[0], posterior.mean)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for b, n, one in truth.each_map():
        found = z.numpy()[:, b, :, :, n].astype(np.float64)
        np.testing.assert_allclose(found[0], one.mean, **close)
        root = (found[1:] - found[0]).reshape(entries, entries).T
        np.testing.assert_allclose(root @ root.T, one.cov, **close)
        variance = posterior.variance.numpy()[b, :, :, n].ravel()
        np.testing.assert_allclose(variance, np.diag(one.cov), **close)
        if np.array_equal(one.cov, np.diag(np.diag(one.cov))):  # each entry has its own noise
            np.testing.assert_allclose(root, np.sqrt(one.cov), **close)


@of_one_size
def test_samples_have_the_mean_and_covariance_of_the_distribution(name, d):
    count, maps = 20_000, 2
    truth = Truth(name, d, 1, maps)
    noise = tf.random.stateless_normal((count, 1, d, d, maps), [4, 5], dtype=tf.float64)
    z = truth.posterior().sample(noise).numpy()
    for _, n, one in truth.each_map():
        samples = z[..., n].reshape(count, d * d)
        variances = np.diag(one.cov)
        assert np.all(abs(samples.mean(0) - one.mean.ravel()) < 5 * np.sqrt(variances / count))
        empirical = np.cov(samples, rowvar=False).reshape(d * d, d * d)
        error = np.sqrt((np.outer(variances, variances) + one.cov**2) / count)
        assert np.all(abs(empirical - one.cov) < 5 * error)
        if one.factors:
            swapped = np.kron(*reversed(one.factors))
            assert np.any(abs(empirical - swapped) > 10 * error)


@of_one_size
def test_kl_equals_a_monte_carlo_estimate(name, d):
    truth = Truth(name, d, images=2, maps=2)
    posterior = truth.posterior()
    noise = tf.random.stateless_normal((20_000, 2, d, d, 2), [2, 3], dtype=tf.float64)
    z = posterior.sample(noise)
    differences = (posterior.log_density(z) - StandardNormal().log_density(z)).numpy()
    error = differences.std(axis=0) / np.sqrt(len(differences))
    divergence = posterior.kl().numpy()
    assert np.all(error < 0.02 * divergence.mean())
    assert np.all(abs(differences.mean(axis=0) - divergence) < 4 * error)


@pytest.mark.parametrize("name", [name for name in POSTERIORS if name != "low_rank"])
def test_outputs_of_zero_give_the_prior(name):
    d = 1 if name == "vanilla" else 3
    posterior = POSTERIORS[name].from_outputs(
        tf.zeros((2, ROWS[name].outputs_per_map(d) * 4)), d, 4
    )
    noise = tf.constant(np.random.default_rng(0).normal(size=(2, d, d, 4)), tf.float32)
    np.testing.assert_array_equal(posterior.kl(), np.zeros((2, 4)))
    np.testing.assert_array_equal(posterior.sample(noise), noise)
    np.testing.assert_array_equal(posterior.log_density(noise), StandardNormal().log_density(noise))


def test_the_prior_equals_scipy():
    prior = StandardNormal()
    noise = tf.constant(np.random.default_rng(0).normal(size=(5, 2, 3, 3, 4)))
    z = prior.sample(noise)
    np.testing.assert_array_equal(z, noise)
    expected = multivariate_normal(np.zeros(9)).logpdf(np.moveaxis(z, -1, 2).reshape(5, 2, 4, 9))
    np.testing.assert_allclose(prior.log_density(z), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "d", "count"),
    [
        ("vanilla", 1, 128),
        ("naive", 3, 1152),
        ("mvn", 3, 960),
        ("low_rank", 3, 768),
        ("low_rank of rank 2", 3, 1152),
        ("isotropic", 3, 640),
        ("mvn_dense", 3, 1280),
        ("full_covariance", 3, 3456),
    ],
)
def test_output_counts_at_64_maps(name, d, count):
    assert CLASSES[name].outputs_per_map(d) * 64 == count


@of_cases
def test_outputs_per_map(name, d):
    assert CLASSES[name].outputs_per_map(d) == ROWS[name].outputs_per_map(d)


def test_vanilla_accepts_only_latent_size_1():
    with pytest.raises(ValueError, match="latent_size 1"):
        Vanilla(tf.zeros((1, 2, 1)), 3)


@pytest.mark.parametrize("what", ["kl", "sample", "log_density"])
@of_one_size
def test_gradients_equal_finite_differences(name, d, what):
    maps, h = 2, 1e-5
    truth = Truth(name, d, 1, maps)
    rng = np.random.default_rng(6)
    entries, weights = (tf.constant(rng.normal(size=(1, d, d, maps))) for _ in range(2))

    def function(outputs):  # (n, count) -> (n,)
        posterior = truth.posterior(outputs)
        if what == "sample":
            return tf.reduce_sum(weights * posterior.sample(entries), axis=[1, 2, 3])
        values = posterior.kl() if what == "kl" else posterior.log_density(entries)
        return tf.reduce_sum(weights[:, 0, 0] * values, axis=1)

    with tf.GradientTape() as tape:
        tape.watch(truth.outputs)
        value = function(truth.outputs)
    gradient = tape.gradient(value, truth.outputs).numpy()[0]
    steps = h * np.eye(len(gradient))
    differences = (function(truth.outputs + steps) - function(truth.outputs - steps)) / (2 * h)
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_low_rank_is_an_mvn_and_mvn_a_naive(d):
    maps = 2
    truth = Truth("low_rank", d, 3, maps)
    expected = truth.posterior()
    mu, nu, rows, columns = np.split(truth.outputs.numpy().reshape(3, 4 * d, maps), 4, axis=1)
    mean = np.einsum("bin,bjn->bijn", mu, nu).reshape(3, d * d, maps)
    log_var = (rows[:, :, None] + columns[:, None]).reshape(3, d * d, maps)
    for name, parts in {"mvn": [mean, rows, columns], "naive": [mean, log_var]}.items():
        outputs = tf.constant(np.concatenate(parts, axis=1).reshape(3, -1))
        found = POSTERIORS[name].from_outputs(outputs, d, maps)
        np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-14)
        np.testing.assert_allclose(found.variance, expected.variance, rtol=1e-14)


def test_low_rank_means_have_rank_one_and_those_of_mvn_do_not():
    for name, rank in (("low_rank", 1), ("mvn", 3)):
        mean = Truth(name, 3).posterior().mean.numpy()
        assert np.all(np.linalg.matrix_rank(mean.transpose(0, 3, 1, 2)) == rank)


def test_low_rank_is_stationary_where_both_factors_vanish():
    """For any function of the mean, unless one of the factors differs from zero."""
    d, maps = 3, 2
    weights = tf.constant(np.random.default_rng(7).normal(size=(1, d, d, maps)))

    def gradient(raw):
        outputs = tf.constant(raw.reshape(1, -1))
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            mean = LowRank.from_outputs(outputs, d, maps).mean
            value = tf.reduce_sum(weights * tf.sin(mean + 0.3))
        return tape.gradient(value, outputs).numpy().reshape(4 * d, maps)[: 2 * d]

    raw = np.random.default_rng(8).normal(size=(4 * d, maps))
    raw[: 2 * d] = 0
    assert np.all(gradient(raw) == 0)
    raw[d : 2 * d] = 0.1
    assert np.all(gradient(raw)[:d] != 0)


@pytest.mark.parametrize("limit", [0.0, 2.0])
def test_a_limited_log_variance_is_unchanged_below_and_grows_slowly_and_smoothly_above(limit):
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


@of_cases
def test_a_limit_changes_nothing_below_it_and_keeps_the_product_structure(name, d):
    truth = Truth(name, d)  # no limited log variance above 1.5, of factors either
    published, limited_high = truth.posterior(), truth.posterior(options=Options(log_var_limit=3.0))
    np.testing.assert_array_equal(published.mean, limited_high.mean)
    np.testing.assert_array_equal(published.variance, limited_high.variance)
    wild = 10 * truth.outputs
    log_var = np.log(truth.posterior(wild, Options(log_var_limit=1.0)).variance)
    unlimited = np.log(truth.posterior(wild).variance)
    assert np.max(log_var) < (16 if name in DEPENDENT else 6)
    assert np.max(log_var) < np.max(unlimited) or np.max(unlimited) <= 1
    if truth.maps[0][0].factors:
        sums = log_var[:, :, :1] + log_var[:, :1, :] - log_var[:, :1, :1]
        np.testing.assert_allclose(log_var, sums, atol=1e-12)


@pytest.mark.parametrize("name", DEPENDENT)
def test_variances_of_dependent_entries_grow_slowly_above_the_limit(name):
    """Polynomially in the outputs, here 1000 times as large, and not exponentially."""
    truth = Truth(name, 3)
    wild = 1000 * truth.outputs
    with_limit = truth.posterior(wild, Options(log_var_limit=2.0))
    assert np.max(with_limit.variance) < 1e20
    assert np.nanmax(truth.posterior(wild).variance) > 1e100  # or infinite, or infinity - infinity


@pytest.mark.parametrize("d", [1, 2, 3])
def test_low_rank_started_at_ones_equals_the_published_one_with_nu_shifted(d):
    truth = Truth("low_rank", d)
    ones = Options(low_rank_start="ones")
    shifted = truth.outputs.numpy().reshape(3, 4 * d, -1)
    shifted[:, d : 2 * d] -= 1
    found, expected = truth.posterior(shifted.reshape(3, -1), ones), truth.posterior()
    np.testing.assert_allclose(found.mean, expected.mean, rtol=1e-12)
    np.testing.assert_array_equal(found.variance, expected.variance)
    zeros = tf.zeros((1, 4 * d * 2), tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(zeros)
        mean = LowRank.from_outputs(zeros, d, 2, ones).mean
        value = tf.reduce_sum(tf.sin(mean + 0.3))
    assert np.all(mean == 0)
    assert np.all(tape.gradient(value, zeros).numpy().reshape(4 * d, 2)[:d] != 0)
