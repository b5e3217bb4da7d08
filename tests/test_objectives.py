"""The objectives compared with scipy, and the optimizer's gradients with explicit losses."""

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import ELBO, SHAPE, make_images, make_step, to_x
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from svae.config.variants import published_weight
from svae.model import keyed_random, objectives
from svae.streams import Stream

D = int(np.prod(SHAPE))
PI = np.pi


@pytest.mark.parametrize(
    ("dimension", "entries", "weight"),
    [
        (64 * 64 * 3, 64, 192),
        (64 * 64 * 3, 9 * 64, 21.33),
        (32 * 32 * 3, 64, 48),
        (32 * 32 * 3, 9 * 64, 5.33),
    ],
)
def test_published_weight(dimension, entries, weight):
    assert published_weight(dimension, entries) == pytest.approx(weight, abs=0.005)


def test_weighted_over_dimension_is_the_sum_of_the_published_means():
    rng = np.random.default_rng(0)
    squared_errors, kl = rng.uniform(0, 1, (5, 8, 8, 3)), rng.uniform(0, 3, (5, 3, 3, 4))
    dimension, entries = 8 * 8 * 3, 3 * 3 * 4
    value = objectives.weighted(
        squared_errors.sum(axis=(1, 2, 3)).mean(),
        kl.sum(axis=(1, 2, 3)).mean(),
        published_weight(dimension, entries),
    )
    assert value / dimension == pytest.approx(squared_errors.mean() + kl.mean())


@pytest.mark.parametrize("beta", [1.0, 0.3])
@pytest.mark.parametrize("variance", [0.01, 1.0, 4.0])
def test_negative_elbo_equals_scipy(variance, beta):
    x, mean = np.random.default_rng(1).uniform(-1, 1, (2, 50))
    kl = 7.0
    sse = np.square(x - mean).sum()
    value = objectives.negative_elbo(sse, kl, np.log(variance), len(x), beta)
    expected = -norm.logpdf(x, mean, np.sqrt(variance)).sum() + beta * kl
    assert float(value) == pytest.approx(expected, rel=1e-5)


def test_optimal_variance_is_the_best_of_all():
    sse, kl, dimension = 30.0, 5.0, 200

    def at(log_variance):
        return float(objectives.negative_elbo(sse, kl, log_variance, dimension, 1.0))

    best = minimize_scalar(at, bounds=(-10, 5), method="bounded", options={"xatol": 1e-6})
    optimum = float(objectives.optimal_log_variance(sse, dimension))
    assert optimum == pytest.approx(best.x, abs=2e-3)
    assert at(optimum) == pytest.approx(best.fun, rel=1e-6)


def gradient(function, at=(0.7, -0.4)):
    """The gradient of function(SSE, KL) with respect to two parameters of both terms."""
    theta = tf.constant(at, tf.float64)
    with tf.GradientTape() as tape:
        tape.watch(theta)
        sse = 3.0 + theta[0] ** 2 + theta[0] * theta[1]
        value = function(sse, tf.exp(theta[1]) + theta[0])
    return tape.gradient(value, theta).numpy()


def test_gradient_at_the_optimal_variance_equals_that_of_log_mse():
    dimension = 40
    found = gradient(
        lambda sse, kl: objectives.negative_elbo(
            sse, kl, objectives.optimal_log_variance(sse, dimension), dimension, 1.0
        )
    )
    expected = gradient(lambda sse, kl: 0.5 * dimension * tf.math.log(sse / dimension) + kl)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(("variance", "beta"), [(0.05, 1.0), (1.0, 24.0), (0.3, 0.5)])
def test_elbo_and_its_equivalent_weight_agree_on_the_direction(variance, beta):
    weight = objectives.equivalent_weight(variance, beta)
    elbo = gradient(lambda sse, kl: objectives.negative_elbo(sse, kl, np.log(variance), 40, beta))
    weighted = gradient(lambda sse, kl: objectives.weighted(sse, kl, weight))
    np.testing.assert_allclose(2 * variance * elbo, weighted, rtol=1e-12)


def optimizer_gradients(take_step, images, monkeypatch):
    seen = []
    monkeypatch.setattr(take_step.optimizer, "apply", lambda gradients, _: seen.extend(gradients))
    take_step(images, tf.constant(0, tf.int64))
    return [g.numpy() for g in seen]


def gradients_of(loss, model, images):
    """Of loss(squared errors, KL by entry), at the first step's noise and dropout."""
    x, first = tf.constant(to_x(images)), 0
    with tf.GradientTape() as tape:
        posterior = model.encode(
            x,
            batch_statistics=True,
            dropout_seed=keyed_random.key(model.seed, Stream.DROPOUT, first),
        )
        loc, variance = posterior.mean, posterior.variance
        noise = keyed_random.normal(
            loc.shape, keyed_random.key(model.seed, Stream.TRAINING_LATENTS, first)
        )
        decoded = model.decode(loc + tf.sqrt(variance) * noise, batch_statistics=True)
        kl = 0.5 * (loc**2 + variance - tf.math.log(variance) - 1)
        value = loss((x - decoded) ** 2, kl)
    return [g.numpy() for g in tape.gradient(value, model.trainable_variables)]


def distance(found, expected):
    """The largest |found - expected| / |expected| over the weights."""
    return max(
        np.linalg.norm(f - e) / np.linalg.norm(e) for f, e in zip(found, expected, strict=True)
    )


def published_loss(squared_errors, kl):
    return tf.reduce_mean(squared_errors) + tf.reduce_mean(kl)


def sums(squared_errors, kl):
    """Mean SSE and mean KL per image."""
    return (tf.reduce_mean(tf.reduce_sum(terms, axis=[1, 2, 3])) for terms in (squared_errors, kl))


def optimal_loss(squared_errors, kl):
    sse, kl = sums(squared_errors, kl)
    return (0.5 * D * tf.math.log(sse / D) + 20 * kl) / D  # at beta = 20


def fixed_loss(squared_errors, kl):
    sse, kl = sums(squared_errors, kl)
    return (sse / (2 * 0.2) + 20 * kl) / D  # at variance 0.2, beta = 20


@pytest.mark.parametrize("posterior", ["vanilla", "low_rank"])
@pytest.mark.parametrize(
    ("loss", "objective"),
    [
        (published_loss, {}),
        (optimal_loss, {**ELBO, "decoder_variance": "optimal", "beta": 20.0}),
        (fixed_loss, {**ELBO, "decoder_variance": 0.2, "beta": 20.0}),
    ],
)
def test_the_optimizer_gets_the_gradient_of_the_explicit_loss(
    posterior, loss, objective, monkeypatch
):
    if loss is published_loss:
        entries = 4 * (1 if posterior == "vanilla" else 9)
        objective = {"kl_weight": published_weight(D, entries)}
    take_step = make_step(posterior=posterior, **objective)
    model, images = take_step.model, make_images()
    found = optimizer_gradients(take_step, tf.constant(images), monkeypatch)
    assert distance(found, gradients_of(loss, model, images)) < 1e-4
    # the effect of a weight that is off by a factor of two, or of another scale
    for factors in ((1, 2), (2, 2)):
        wrong = gradients_of(
            lambda errors, kl, f=factors: (
                f[0] * loss(errors, kl)
                + (f[1] - f[0]) * (loss(errors, kl) - loss(errors, tf.zeros_like(kl)))
            ),
            model,
            images,
        )
        assert distance(found, wrong) > 0.05


def test_kl_warmup_scales_only_the_kl(monkeypatch):
    take_step = make_step(kl_weight=8.0, kl_warmup_epochs=4.0)
    model, images = take_step.model, make_images()
    found = optimizer_gradients(take_step, tf.constant(images), monkeypatch)

    def loss(squared_errors, kl):
        sse, kl = sums(squared_errors, kl)
        return (sse + 0.25 * 8.0 * kl) / D

    assert distance(found, gradients_of(loss, model, images)) < 1e-4
