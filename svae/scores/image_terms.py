"""SSE and KL of single images, and the objectives that follow from them.

    J     SSE + w KL, which the training minimises
    ELBO  -D/2 ln(2 pi v) - SSE / (2 v) - KL, for a Gaussian decoder of variance v

Both are functions of the same two terms. At an optimum of J, dSSE/dKL = -w, so that to first order
J - w R is the SSE at a common rate R: to compare J at equal w is to compare at equal rate (Alemi et
al. 2018, "Fixing a Broken ELBO", arXiv 1711.00464). The ELBO is a lower bound of log p(x) for every
v and every model, whatever it was trained by; its best v is the mean squared error per pixel, and
taken from training images it is no choice on test images.
"""

import math
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from svae.model.vae import SpatialVAE, per_image, scaled
from svae.streams import Stream

BATCH = 500  # images; with the stream it decides the noise: that of run.json's terms


def terms_by_image(
    model: SpatialVAE, images: np.ndarray | h5py.Dataset
) -> tuple[np.ndarray, np.ndarray]:
    """SSE from one posterior sample and KL in nats of each image, float64 (n,) each.

    images: uint8 (n, height, width, channel), read batch by batch. Pixels on [-1, 1], moving
    batch-norm statistics, no dropout.
    """
    batch_terms = tf.function(
        lambda *batch: _terms(model, *batch), reduce_retracing=True, autograph=False
    )
    sse, kl = np.empty(len(images)), np.empty(len(images))
    for index, start in enumerate(range(0, len(images), BATCH)):
        rows = slice(start, start + BATCH)
        sse[rows], kl[rows] = batch_terms(tf.constant(images[rows]), tf.constant(index))
    return sse, kl


def _terms(model: SpatialVAE, images: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    x = scaled(images)
    posterior = model.encode(x)
    z = model.sample_posterior(posterior, Stream.EVALUATION_LATENTS, index)
    return per_image(tf.square(x - model.decode(z))), tf.reduce_sum(posterior.kl(), axis=1)


def elbo(sse: Any, kl: Any, variance: float, dimension: int) -> Any:
    """The ELBO of each image in nats, a density of D = `dimension` pixels on [-1, 1]."""
    normaliser = 0.5 * dimension * math.log(2 * math.pi * variance)
    return -normaliser - sse / (2 * variance) - kl


def means_and_errors(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """NAME and NAME_standard_error, over images, of each measure of single images (n,)."""
    found = {}
    for name, each in values.items():
        found[name] = float(each.mean())
        found[f"{name}_standard_error"] = float(each.std(ddof=1) / math.sqrt(len(each)))
    return found
