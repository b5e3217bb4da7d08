"""The importance-weighted bound of every posterior, for decoders that are linear in z."""

import math

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import gaussian_kl
from scipy import stats

from svae.model.posteriors import POSTERIORS, FullCovariance, HigherRank
from svae.model.priors import StandardNormal
from svae.scores.bound import estimate

PIXELS, MAPS, VARIANCE = 8, 2, 0.25
CLASSES = {**POSTERIORS, "low_rank of rank 2": HigherRank.of_rank(2)}


def bound(posterior, w, x, k):
    """Of the decoder x = W z, z one vector, for n images x."""

    def decode(z):
        return z.reshape(-1, w.shape[1]) @ w.T

    prior, log_variance = StandardNormal(), math.log(VARIANCE)
    return estimate(posterior, decode, prior, x, k, log_variance, seed=3, batch=512)


def moments(one, d):
    """Mean and covariance of z of the first image, (d, d, N) as one vector."""
    count = d * d * MAPS
    units = np.eye(count).reshape(count, 1, d, d, MAPS)
    mean = one.mean.numpy()[:1]
    root = (one.sample(tf.constant(units)).numpy()[:, :1] - mean).reshape(count, count).T
    return mean.ravel(), root @ root.T


@pytest.mark.parametrize("name", CLASSES)
def test_with_one_sample_it_is_the_elbo(name):
    """On average over noise; the ELBO from the closed form of a linear Gaussian model, and the KL
    from the covariance of all entries."""
    d, n = 1 if name == "vanilla" else 2, 4000
    rng = np.random.default_rng(0)
    w = 0.5 * rng.normal(size=(PIXELS, d * d * MAPS))
    raw = rng.uniform(-1, 1, (1, CLASSES[name].outputs_per_map(d), MAPS))

    def encode(x):
        return CLASSES[name](tf.constant(np.repeat(raw, len(x), axis=0)), d)

    mean, covariance = moments(encode([0]), d)
    x = rng.normal(size=PIXELS)
    error = np.square(x - w @ mean).sum() + np.trace(w @ covariance @ w.T)
    log_likelihood = -0.5 * (PIXELS * math.log(2 * math.pi * VARIANCE) + error / VARIANCE)
    divergence = gaussian_kl(mean, covariance)
    assert float(tf.reduce_sum(encode([0]).kl())) == pytest.approx(divergence)
    found = bound(encode, w, np.tile(x, (n, 1)), 1)
    np.testing.assert_array_equal(found.per_image, found.elbo)
    assert found.per_image.std() > 0.1
    standard_error = found.per_image.std() / math.sqrt(n)
    assert abs(found.per_image.mean() - (log_likelihood - divergence)) < 4 * standard_error


def test_the_exact_posterior_of_dependent_entries_gives_log_p_by_every_weight():
    """N maps of 2x2, each with pixels of its own, so that the maps are independent given x."""
    d, n = 2, 20
    rng = np.random.default_rng(1)
    blocks = 0.7 * rng.normal(size=(MAPS, PIXELS, d * d))
    w = np.zeros((MAPS * PIXELS, d * d, MAPS))  # entries of z: (d, d, N) as one vector
    for block in range(MAPS):
        w[block * PIXELS : (block + 1) * PIXELS, :, block] = blocks[block]
    w = w.reshape(MAPS * PIXELS, -1)
    x = rng.normal(size=(n, MAPS * PIXELS))

    def encode(x):
        raw = []
        for block in range(MAPS):
            own = blocks[block]
            covariance = np.linalg.inv(np.eye(d * d) + own.T @ own / VARIANCE)
            mean = x[:, block * PIXELS : (block + 1) * PIXELS] @ own @ covariance / VARIANCE
            root = np.linalg.cholesky(covariance)
            below = (root / np.diag(root))[np.tril_indices(d * d, -1)]
            shape = np.concatenate([2 * np.log(np.diag(root)), below])
            raw.append(np.concatenate([mean, np.tile(shape, (len(x), 1))], axis=1))
        return FullCovariance(tf.constant(np.stack(raw, axis=-1)), d)

    found = bound(encode, w, x, 4)
    covariance = w @ w.T + VARIANCE * np.eye(len(w))
    expected = stats.multivariate_normal(np.zeros(len(w)), covariance).logpdf(x)
    np.testing.assert_allclose(found.elbo, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.effective_sample_size, 4, rtol=1e-10)
