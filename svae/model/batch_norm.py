"""Batch-norm statistics, re-estimated over the training set with fixed weights.

The moving averages of a training lag behind its weights and include the effect of dropout. After
training, the mean and variance of each layer are recomputed in one pass without dropout, in which
all layers normalise with batch statistics: mean = E[m_B], variance = E[v_B + m_B^2] - mean^2 over
batches B (Wu and Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3).
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from svae.model.vae import SpatialVAE, scaled
from svae.streams import Stream


def layers(model: SpatialVAE) -> list[keras.layers.BatchNormalization]:
    return [block.batch_norm for part in (model.encoder, model.decoder) for block in part.blocks]


@contextlib.contextmanager
def statistics_of_means(
    model: SpatialVAE, batches: Iterable[np.ndarray], check: Callable[[], None] = lambda: None
) -> Iterator[None]:
    """Use the statistics of posterior means within the block, and restore the others after it.

    Arguments as for `reestimate`. Most latent entries carry no information: their posterior is the
    prior, with variance 1, and their mean is constant. The activations of the decoder therefore
    have different statistics for means than for samples. With the statistics of samples, means are
    reconstructed worse than samples are (docs/training.md).
    """
    variables = [v for norm in layers(model) for v in (norm.moving_mean, norm.moving_variance)]
    before = [variable.numpy() for variable in variables]
    try:
        reestimate(model, batches, check, sampled=False)
        yield
    finally:
        for variable, value in zip(variables, before, strict=True):
            variable.assign(value)


def reestimate(
    model: SpatialVAE,
    batches: Iterable[np.ndarray],
    check: Callable[[], None] = lambda: None,
    sampled: bool = True,
) -> None:
    """Set the moving statistics of every batch-norm layer from uint8 batches of training images.

    The decoder gets posterior samples, as in training, or posterior means if `sampled` is false.
    Generation decodes prior samples, whose statistics differ if posterior and prior do. `check` is
    called before each batch; an error that it raises ends the pass.
    """
    norms = layers(model)
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # a batch then leaves its own statistics in the layer

    @tf.function(reduce_retracing=True, autograph=False)
    def run(images: tf.Tensor, index: tf.Tensor) -> None:
        posterior = model.encode(scaled(images), batch_statistics=True)
        z = posterior.mean
        if sampled:
            z = model.sample_posterior(posterior, Stream.EVALUATION_LATENTS, index)
        model.decode(z, batch_statistics=True)

    count = 0
    means: list[Any] = [0.0] * len(norms)
    squares: list[Any] = [0.0] * len(norms)
    try:
        for index, images in enumerate(batches):
            check()
            run(tf.constant(images), tf.constant(index))
            for i, norm in enumerate(norms):
                mean = np.asarray(norm.moving_mean, np.float64)
                means[i] += mean
                squares[i] += np.asarray(norm.moving_variance, np.float64) + mean**2
            count += 1
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, mean, square in zip(norms, means, squares, strict=True):
        norm.moving_mean.assign(mean / count)
        norm.moving_variance.assign(square / count - (mean / count) ** 2)


def reestimate_decoder(model: SpatialVAE, batches: Iterable[np.ndarray]) -> None:
    """Set the moving statistics of the decoder's batch-norm layers from batches of latents, float32
    (batch, d, d, N), as `reestimate` does from images."""
    norms = [block.batch_norm for block in model.decoder.blocks]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0  # a batch then leaves its own statistics in the layer
    run = tf.function(
        lambda z: model.decode(z, batch_statistics=True), reduce_retracing=True, autograph=False
    )
    found = []
    try:
        for z in batches:
            run(tf.constant(z))
            found.append(
                [(norm.moving_mean.numpy(), norm.moving_variance.numpy()) for norm in norms]
            )
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
    for norm, of_batches in zip(norms, zip(*found, strict=True), strict=True):
        means, variances = (np.asarray(each, np.float64) for each in zip(*of_batches, strict=True))
        mean = means.mean(axis=0)
        norm.moving_mean.assign(mean)
        norm.moving_variance.assign((variances + means**2).mean(axis=0) - mean**2)
