"""The bound of a model against scipy, one latent after the other, and the variance of a run."""

import math

import h5py
import numpy as np
import pytest
from helpers.builders import ELBO, make_images, make_model
from scipy import stats
from scipy.special import logsumexp
from test_bound import slow_nested

from svae.model import batch_norm
from svae.scores.bound import Dequantised, importance_weighted_bound
from svae.scores.measures.importance_weighted_bound import Settings, variance_of
from svae.streams import Stream, generator


def trained(*arguments, **changes):
    """A model whose moving statistics fit its data; dropout must stay off."""
    model = make_model(*arguments, dropout=0.5, **changes)
    batch_norm.reestimate(model, [make_images(16, model.image_shape, seed=9)])
    return model


def slow_log_weights(model, images, k, variance, seed):
    """Image by image and latent by latent, each density from scipy."""
    rows = []
    for i, x in enumerate(Dequantised(images, seed)[0 : len(images)]):
        posterior = model.encode(x[None])
        loc = posterior.mean.numpy()[0].astype(np.float64)
        deviation = np.sqrt(posterior.variance.numpy()[0].astype(np.float64))
        rng = generator(seed, Stream.BOUND_LATENTS, i)
        row = []
        for _ in range(k):
            z = loc + deviation * rng.standard_normal(loc.shape)
            mean = model.decode(z[None].astype(np.float32)).numpy()[0].astype(np.float64)
            log_likelihood = stats.norm.logpdf(x, mean, math.sqrt(variance)).sum()
            log_prior = stats.norm.logpdf(z).sum()
            log_posterior = stats.norm.logpdf(z, loc, deviation).sum()
            row.append(log_likelihood + log_prior - log_posterior)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize(
    ("shape", "padding", "posterior"),
    [((32, 32, 3), 0, "low_rank"), ((28, 28, 1), 2, "vanilla")],
    ids=["low_rank", "padded vanilla"],
)
def test_the_bound_of_a_model_equals_a_slow_loop(shape, padding, posterior, tmp_path):
    model = trained(shape, padding, posterior=posterior, **ELBO)
    images, k, variance = make_images(4, shape), 4, 0.3
    weights = model.get_weights()
    expected = slow_log_weights(model, images, k, variance, 7)
    by_mean = logsumexp(expected, axis=1) - math.log(k)
    sizes = np.exp(2 * logsumexp(expected, axis=1) - logsumexp(2 * expected, axis=1))
    by_k = np.mean([slow_nested(row) for row in expected], axis=0)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        dataset = file.create_dataset("test", data=images)
        # fewer latents at once than of one image; those of two images
        for batch, source in ((3, images), (10, dataset)):
            bound = importance_weighted_bound(model, source, k, math.log(variance), 7, batch)
            np.testing.assert_allclose(bound.elbo, expected.mean(axis=1), rtol=1e-6)
            np.testing.assert_allclose(bound.per_image, by_mean, rtol=1e-6)
            np.testing.assert_allclose(bound.effective_sample_size, sizes, rtol=1e-2)
            np.testing.assert_allclose(bound.by_k, by_k, rtol=1e-6)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def record(kl_weight=5.0, decoder_variance=None, mse=0.03):
    return {
        "kl_weight": kl_weight,
        "decoder_variance": decoder_variance,
        "train": {"mse_per_pixel": mse},
    }


@pytest.mark.parametrize(
    ("given", "own", "expected", "word"),
    [
        ("optimal", None, 0.03, "mean squared error of the training images"),
        ("optimal", 0.25, 0.03, "mean squared error of the training images"),
        ("from_weight", None, 2.5, "w / 2"),
        ("from_weight", 0.25, 2.5, "w / 2"),
        ("trained", 0.25, 0.25, "training"),
        (None, 0.25, 0.25, "training"),
        (0.1, None, 0.1, "importance_weighted_bound.decoder_variance"),
        (0.1, 0.25, 0.1, "importance_weighted_bound.decoder_variance"),
    ],
)
def test_the_variance_of_the_decoder(given, own, expected, word):
    variance, source = variance_of(record(decoder_variance=own), given)
    assert variance == expected and word in source


@pytest.mark.parametrize("given", ["trained", None])
def test_no_variance_of_the_training(given):
    variance, reason = variance_of(record(), given)
    assert variance is None
    for part in ("SSE + w KL", "importance_weighted_bound.decoder_variance", "w / 2 = 2.5"):
        assert part in reason


def test_a_variance_of_zero_is_none():
    for given, content in (("from_weight", record(kl_weight=0.0)), ("optimal", record(mse=0.0))):
        variance, reason = variance_of(content, given)
        assert variance is None and "decoder variance is 0" in reason


def test_by_default_no_run_is_refused():
    assert variance_of(record(), Settings().decoder_variance)[0] == 0.03
