"""The moments of the aggregate posterior, and KL to a Gaussian, against slow dense formulas."""

from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from helpers.builders import gaussian_kl
from test_posteriors import Truth, of_one_size

from svae.errors import UserError
from svae.model import aggregate
from svae.model.posteriors import Naive


def encoder_of(outputs, latent_shape, make):
    """A model whose image number i, with the pixel value i, has the encoder outputs number i."""
    table = tf.constant(outputs)

    def encoder_outputs(x):
        numbers = tf.cast(tf.round((x[:, 0, 0, 0] + 1) * 127.5), tf.int32)
        return tf.gather(table, numbers)

    return SimpleNamespace(
        latent_shape=latent_shape, encoder_outputs=encoder_outputs, posterior=make
    )


def model_of(truth):
    shape = (truth.d, truth.d, truth.count)
    return encoder_of(truth.outputs.numpy(), shape, truth.posterior)


def numbered(n):
    return np.arange(n, dtype=np.uint8)[:, None, None, None]


def dense(truth):
    """Mean and covariance of the latent of each image, entries as in a reshape of (d, d, N)."""
    d, maps = truth.d, truth.count
    found = []
    for row in truth.maps:
        mean = np.stack([each.mean for each in row], axis=-1).ravel()
        cov = np.zeros((d, d, maps, d, d, maps))
        for n, each in enumerate(row):
            cov[:, :, n, :, :, n] = each.cov.reshape(d, d, d, d)
        found.append((mean, cov.reshape(len(mean), len(mean))))
    return found


def kl_between(mean, cov, other_mean, other_cov):
    """KL(N(mean, cov) || N(other_mean, other_cov)) by whitening with the second covariance."""
    root = np.linalg.cholesky(other_cov)
    white = np.linalg.solve(root, np.linalg.solve(root, cov).T)
    return gaussian_kl(np.linalg.solve(root, mean - other_mean), white)


@of_one_size
def test_columns_give_the_covariance_of_every_posterior(name, d):
    truth = Truth(name, d)
    a = aggregate.columns(truth.posterior(), d, truth.count).numpy()
    assert a.dtype == np.float64
    for b, n, each in truth.each_map():
        np.testing.assert_allclose(
            a[n, :, :, b] @ a[n, :, :, b].T, each.cov, rtol=1e-10, atol=1e-12
        )


@of_one_size
@pytest.mark.parametrize("batch", [2, 500])
def test_moments_and_rates_are_those_of_dense_gaussians(name, d, batch, monkeypatch):
    monkeypatch.setattr(aggregate, "BATCH", batch)
    truth = Truth(name, d, images=5)
    model, images, gaussians = model_of(truth), numbered(5), dense(truth)
    found = aggregate.moments(model, images)
    own = found.mean, found.covariance
    means = np.array([mean for mean, _ in gaussians])
    covariance = np.mean([cov for _, cov in gaussians], axis=0) + np.cov(means.T, bias=True)
    np.testing.assert_allclose(found.mean, means.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-9, atol=1e-11)
    assert aggregate.kl_to_standard(found) == pytest.approx(gaussian_kl(*own), rel=1e-9)

    kl, fitted = aggregate.rates(model, images, found)
    np.testing.assert_allclose(kl, [gaussian_kl(*each) for each in gaussians], rtol=1e-9)
    np.testing.assert_allclose(fitted, [kl_between(*each, *own) for each in gaussians], rtol=1e-8)
    # On the images of the fit, a Gaussian saves its own KL, and no other saves as much.
    assert np.mean(kl - fitted) == pytest.approx(aggregate.kl_to_standard(found), rel=1e-8)
    rng = np.random.default_rng(0)
    for _ in range(3):
        other = aggregate.Gaussian(
            found.mean + 0.05 * rng.standard_normal(len(found.mean)), 1.1 * found.covariance
        )
        assert aggregate.rates(model, images, other)[1].mean() > fitted.mean()


def linear_encoder(v, entries=4, n=200):
    """Encoder outputs of a linear VAE at its optimum, for random data of 6 pixels and decoder
    variance v: (n, 2 entries), the means, then the log variances; and the rate by eigenvalue."""
    rng = np.random.default_rng(4)
    x = rng.standard_normal((n, 6)) @ rng.standard_normal((6, 6))
    x -= x.mean(axis=0)
    values, vectors = np.linalg.eigh(x.T @ x / n)
    values, vectors = values[::-1][:entries], vectors[:, ::-1][:, :entries]
    used = values > v
    gains = np.where(used, np.sqrt(np.maximum(values - v, 0)) / values, 0.0)
    log_var = np.where(used, np.log(v / values), 0.0)
    outputs = np.concatenate([x @ vectors * gains, np.tile(log_var, (n, 1))], axis=1)
    return outputs, 0.5 * np.log(values[used] / v).sum(), used.sum()


def test_the_density_is_that_of_scipy():
    rng = np.random.default_rng(4)
    root = rng.normal(size=(12, 12))
    gaussian = aggregate.Gaussian(rng.normal(size=12), root @ root.T + np.eye(12))
    z = rng.normal(size=(5, 6, 2, 2, 3))
    found = gaussian.log_density(tf.constant(z)).numpy()
    expected = scipy.stats.multivariate_normal(gaussian.mean, gaussian.covariance).logpdf(
        z.reshape(5, 6, 12)
    )
    np.testing.assert_allclose(found[..., 0], expected, rtol=1e-12)


@pytest.mark.parametrize("v", [0.05, 2.0, 6.0])
def test_the_aggregate_posterior_of_a_linear_vae_is_the_prior(v):
    """At its optimum, N(0, I) exactly: a fitted Gaussian saves nothing, of any image."""
    outputs, rate, used = linear_encoder(v)
    assert 0 < used <= 4 and (v < 1 or used < 4)
    model = encoder_of(outputs, (2, 2, 1), lambda each: Naive.from_outputs(each, 2, 1))
    images = numbered(len(outputs))
    gaussian = aggregate.moments(model, images)
    np.testing.assert_allclose(gaussian.mean, 0, atol=1e-12)
    np.testing.assert_allclose(gaussian.covariance, np.eye(4), atol=1e-12)
    assert aggregate.kl_to_standard(gaussian) == pytest.approx(0, abs=1e-12)
    kl, fitted = aggregate.rates(model, images, gaussian)
    assert kl.mean() == pytest.approx(rate, rel=1e-10)
    np.testing.assert_allclose(fitted, kl, rtol=1e-10)


def test_away_from_the_optimum_it_is_not():
    outputs, _, _ = linear_encoder(0.05)
    outputs[:, 0] *= 1.5
    model = encoder_of(outputs, (2, 2, 1), lambda each: Naive.from_outputs(each, 2, 1))
    assert aggregate.kl_to_standard(aggregate.moments(model, numbered(200))) > 0.1


def test_two_images_are_enough():
    """The posteriors' own variances keep the covariance positive definite."""
    truth = Truth("naive", 3, images=2)
    found = aggregate.moments(model_of(truth), numbered(2))
    assert np.linalg.eigvalsh(found.covariance).min() > 0
    assert np.isfinite(aggregate.rates(model_of(truth), numbered(2), found)).all()


def test_refusals():
    large = SimpleNamespace(latent_shape=(3, 3, 456))
    with pytest.raises(UserError, match=r"4,104 entries, but .* at most 4,096"):
        aggregate.moments(large, numbered(2))
    assert aggregate.refusal(SimpleNamespace(latent_shape=(1, 1, 4096))) is None
    truth = Truth("naive", 2, images=2)
    with pytest.raises(UserError, match="no images"):
        aggregate.moments(model_of(truth), numbered(0))
    outputs = truth.outputs.numpy()
    outputs[1, 0] = np.nan
    broken = encoder_of(outputs, (2, 2, 2), truth.posterior)
    with pytest.raises(UserError, match="NaN or infinite"):
        aggregate.moments(broken, numbered(2))
