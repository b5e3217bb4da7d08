"""Posteriors that contain others: the same distribution from the outputs of either.

isotropic in naive; mvn in mvn_dense; naive and mvn_dense in full_covariance; low_rank of rank r
in rank r + 1, and rank d in mvn
"""

import numpy as np
import pytest
import tensorflow as tf

from svae.model.posteriors import POSTERIORS, HigherRank, LowRank, Options

IMAGES, MAPS = 3, 2
SIZES = pytest.mark.parametrize("d", [1, 2, 3, 7])
TYPES = pytest.mark.parametrize("dtype", ["float32", "float64"])
LIMITS = pytest.mark.parametrize("limit", [None, 0.5])


def random(seed, *shape):
    return np.random.default_rng(seed).uniform(-1.5, 1.5, (IMAGES, *shape, MAPS))


def posterior(name, d, *parts, dtype="float64", options=None):
    """From encoder outputs that consist of these parts, each (batch, ..., N)."""
    cls = POSTERIORS[name] if isinstance(name, str) else name
    raw = np.concatenate([np.reshape(part, (IMAGES, -1, MAPS)) for part in parts], axis=1)
    assert raw.shape[1] == cls.outputs_per_map(d)
    return cls(tf.constant(raw, dtype), d, options or Options())


def results(one, d):
    """Everything that the package computes from a posterior, for the same noise and latents."""
    dtype = one.mean.dtype
    noise = tf.constant(random(8, d, d), dtype)
    z = tf.constant(random(9, d, d), dtype)
    return {
        "mean": one.mean,
        "variance": one.variance,
        "sample": one.sample(noise),
        "kl": one.kl(),
        "log_density": one.log_density(z),
    }


def assert_same(one, other, d, rtol=0.0, atol=0.0):
    expected = results(other, d)
    for name, found in results(one, d).items():
        np.testing.assert_allclose(found, expected[name], rtol=rtol, atol=atol, err_msg=name)


@LIMITS
@TYPES
@SIZES
def test_an_isotropic_posterior_is_naive(d, dtype, limit):
    """Bit for bit without a limit, whose logarithm depends on an entry's place in a vector
    instruction."""
    options = Options(log_var_limit=limit)
    mean, log_var = random(1, d, d), random(2, 1)
    found = posterior("isotropic", d, mean, log_var, dtype=dtype, options=options)
    repeated = np.repeat(log_var, d * d, axis=1)
    expected = posterior("naive", d, mean, repeated, dtype=dtype, options=options)
    tolerance = 0 if limit is None else {"float32": 1e-5, "float64": 1e-13}[dtype]
    assert_same(found, expected, d, rtol=tolerance, atol=tolerance)


@LIMITS
@TYPES
@SIZES
def test_dense_factors_that_are_diagonal_are_mvn_bit_for_bit(d, dtype, limit):
    """Where the first variance of the rows is 1, which fixes the scale of the factors."""
    options = Options(log_var_limit=limit)
    mean, rows, columns = random(1, d, d), random(2, d), random(3, d)
    rows[:, 0] = 0
    zeros = np.zeros((IMAGES, d * (d - 1), MAPS))
    found = posterior(
        "mvn_dense", d, mean, rows[:, 1:], columns, zeros, dtype=dtype, options=options
    )
    assert_same(found, posterior("mvn", d, mean, rows, columns, dtype=dtype, options=options), d)


@SIZES
def test_dense_factors_reach_every_mvn(d):
    """With the first row's variance moved to the columns."""
    mean, rows, columns = random(1, d, d), random(2, d), random(3, d)
    zeros = np.zeros((IMAGES, d * (d - 1), MAPS))
    parts = mean, (rows - rows[:, :1])[:, 1:], columns + rows[:, :1], zeros
    mvn = posterior("mvn", d, mean, rows, columns)
    assert_same(posterior("mvn_dense", d, *parts), mvn, d, rtol=1e-12, atol=1e-12)


@LIMITS
@TYPES
@SIZES
def test_a_full_covariance_that_is_diagonal_is_naive_bit_for_bit(d, dtype, limit):
    options = Options(log_var_limit=limit)
    mean, log_var = random(1, d, d), random(2, d, d)
    zeros = np.zeros((IMAGES, d * d * (d * d - 1) // 2, MAPS))
    found = posterior("full_covariance", d, mean, log_var, zeros, dtype=dtype, options=options)
    assert_same(found, posterior("naive", d, mean, log_var, dtype=dtype, options=options), d)


@SIZES
def test_a_full_covariance_that_is_a_kronecker_product_is_that_of_dense_factors(d):
    """The samples too: the Cholesky factor of the product is the product of Cholesky factors."""
    below = d * (d - 1) // 2
    mean, rows, columns = random(1, d, d), random(2, d), random(3, d)
    rows[:, 0] = 0
    a, b = 0.5 * random(4, below), 0.5 * random(5, below)
    dense = posterior("mvn_dense", d, mean, rows[:, 1:], columns, a, b)
    log_var, root = np.empty((IMAGES, d * d, MAPS)), np.empty((IMAGES, d**4, MAPS))
    for image in range(IMAGES):
        for n in range(MAPS):
            roots = []
            for entries, log_vars in ((a, rows), (b, columns)):
                unit = np.eye(d)
                unit[np.tril_indices(d, -1)] = entries[image, :, n]
                roots.append(unit * np.exp(0.5 * log_vars[image, :, n]))
            cholesky = np.linalg.cholesky(np.kron(*(each @ each.T for each in roots)))
            log_var[image, :, n] = 2 * np.log(np.diag(cholesky))
            root[image, :, n] = (cholesky / np.diag(cholesky)).ravel()
    strict = root[:, np.flatnonzero(np.tril(np.ones((d * d, d * d)), -1))]
    full = posterior("full_covariance", d, mean, log_var, strict)
    assert_same(full, dense, d, rtol=1e-9, atol=1e-9)


@LIMITS
@pytest.mark.parametrize("start", ["published", "ones"])
@TYPES
@SIZES
def test_rank_1_is_low_rank_bit_for_bit(d, dtype, start, limit):
    options = Options(limit, start)
    parts = random(1, 2, d), random(2, 2, d)
    found = posterior(HigherRank.of_rank(1), d, *parts, dtype=dtype, options=options)
    assert_same(found, posterior(LowRank, d, *parts, dtype=dtype, options=options), d)


@pytest.mark.parametrize("d", [2, 3, 7])
def test_a_rank_contains_the_one_below(d):
    for rank in range(1, d):
        mu, nu, logs = random(1, rank, d), random(2, rank, d), random(3, 2, d)
        zeros, others = np.zeros((IMAGES, 1, d, MAPS)), random(4, 1, d)
        smaller = posterior(HigherRank.of_rank(rank), d, mu, nu, logs)
        larger = posterior(HigherRank.of_rank(rank + 1), d, mu, zeros, nu, others, logs)
        assert_same(larger, smaller, d, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("start", ["published", "ones"])
@pytest.mark.parametrize("d", [2, 3, 7])
def test_rank_d_reaches_every_mean_and_a_smaller_one_the_nearest_of_its_rank(d, start):
    """By the singular value decomposition (Eckart and Young 1936)."""
    mean, logs = random(1, d, d), random(2, 2, d)
    u, s, v = np.linalg.svd(np.moveaxis(mean, -1, 1))  # (batch, N, d, d), (batch, N, d)
    for rank in range(1, d + 1):
        mu = np.einsum("bnik,bnk->bkin", u, s)[:, :rank]
        nu = np.einsum("bnkj->bkjn", v)[:, :rank]
        if start == "ones":
            cosines = np.cos(np.pi * np.outer(np.arange(rank), np.arange(d) + 0.5) / d)
            cosines[1:] *= np.sqrt(2)
            nu = nu - cosines[..., None]
        options = Options(low_rank_start=start)
        found = posterior(HigherRank.of_rank(rank), d, mu, nu, logs, options=options)
        away = np.sqrt(np.square(found.mean - mean).sum(axis=(1, 2)))
        expected = np.sqrt(np.square(s[:, :, rank:]).sum(axis=2))
        np.testing.assert_allclose(away, expected, atol=1e-12)
        ranks = np.linalg.matrix_rank(np.moveaxis(found.mean.numpy(), -1, 1))
        assert np.all(ranks == rank)
    assert_same(found, posterior("mvn", d, mean, logs), d, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("d", [2, 3, 7])
def test_a_start_at_ones_gives_gradients_of_full_rank(d):
    """Those of mu_1 .. mu_r are linearly independent where all outputs, and so the mean, are 0."""
    weights = np.random.default_rng(7).normal(size=(1, d, d, 1))
    for rank in range(1, d + 1):
        cls = HigherRank.of_rank(rank)
        raw = tf.zeros((1, cls.outputs_per_map(d), 1), tf.float64)
        gradients = {}
        for start in ("published", "ones"):
            with tf.GradientTape() as tape:
                tape.watch(raw)
                mean = cls(raw, d, Options(low_rank_start=start)).mean
                value = tf.reduce_sum(weights * mean)
            assert np.all(mean == 0)
            gradients[start] = tape.gradient(value, raw).numpy()[0, : rank * d].reshape(rank, d)
        assert np.all(gradients["published"] == 0)
        assert np.linalg.matrix_rank(gradients["ones"]) == rank


def freedom(name, d):
    """The rank of the derivative of mean and covariance with respect to the encoder outputs: how
    many of these the distribution determines."""
    cls = POSTERIORS[name]
    raw = tf.constant(random(1, cls.outputs_per_map(d))[:1, :, :1])
    units = np.eye(d * d).reshape(d * d, 1, d, d, 1)
    with tf.GradientTape() as tape:
        tape.watch(raw)
        one = cls(raw, d)
        root = tf.reshape(one.sample(tf.constant(units)) - one.mean, [d * d, d * d])
        covariance = tf.linalg.matmul(root, root, transpose_a=True)
        both = tf.concat([tf.reshape(one.mean, [-1]), tf.reshape(covariance, [-1])], axis=0)
    jacobian = tape.jacobian(both, raw).numpy().reshape(both.shape[0], -1)
    return np.linalg.matrix_rank(jacobian, tol=1e-8)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_the_scale_of_dense_factors_is_fixed(d):
    """No output can be changed without a change of the distribution: Omega c and Psi / c are not
    two parameters of one posterior, as they are in mvn."""
    for name in ("isotropic", "mvn_dense", "full_covariance"):
        assert freedom(name, d) == POSTERIORS[name].outputs_per_map(d)
    assert freedom("mvn", d) == POSTERIORS["mvn"].outputs_per_map(d) - 1
