"""The aggregate posterior q(z), the mean of q(z | x) over images, and the Gaussian nearest to it.

N(m, C) with the mean and the covariance of q(z) minimises KL(q(z) || N(m, C)) among Gaussians. With
it as the prior instead of p(z) = N(0, I), the rate falls, by the same amount in every lower bound
on log p(x) and without any change of the networks:

    E KL(q(z | x) || p) - E KL(q(z | x) || N(m, C)) = E_q(z)[log N(z; m, C) - log p(z)].

On the images that m and C are of, this is KL(N(m, C) || p). Further, with the mutual information
I(x; z) of image and latent under q(z | x),

    E KL(q(z | x) || r) = I(x; z) + KL(q(z) || r)    for every density r

(Hoffman and Johnson 2016, "ELBO surgery"). With r = N(m, C): the rate under the fitted Gaussian is
at least the information. Subtracted from the same for r = p: what the Gaussian saves is at most
KL(q(z) || p). Both hold for any m and C, so also where they are fitted to other images.

C is the mean of the posteriors' covariances plus the covariance of their means, and none of it is
estimated from samples: a posterior sample is an affine function of its noise, whose columns show
the covariance. C is positive definite for any number of images, since every posterior has
variances above 0.

All computations but those of the networks are in float64.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import h5py
import numpy as np
import tensorflow as tf
from scipy.linalg import solve_triangular

from svae.errors import UserError
from svae.model.posteriors import Posterior
from svae.model.vae import SpatialVAE, scaled

MOST_ENTRIES = 4096
"""Of a latent: its covariance then takes 134 MB, and its eigenvectors about a minute."""
BATCH = 500  # images
VALUES = 2**22  # entries of latents that are held at once, for images times columns


@dataclass(frozen=True, eq=False)
class Gaussian:
    """N(mean, covariance) of the L = d d N entries of a latent, in the order of its reshape."""

    mean: np.ndarray
    """float64 (L,)."""
    covariance: np.ndarray
    """float64 (L, L)."""

    @cached_property
    def lower(self) -> np.ndarray:
        """Cholesky's factor of the covariance, float64 (L, L)."""
        return np.linalg.cholesky(self.covariance)

    @property
    def log_determinant(self) -> float:
        """ln |C|."""
        return 2.0 * float(np.log(np.diag(self.lower)).sum())

    def log_density(self, z: tf.Tensor) -> tf.Tensor:
        """log N(z; m, C) in nats: (..., d, d, N) -> (..., 1), since it is no sum over maps."""
        flat = np.asarray(z, np.float64).reshape(-1, len(self.mean))
        white = solve_triangular(self.lower, (flat - self.mean).T, lower=True)
        constant = len(self.mean) * math.log(2.0 * math.pi) + self.log_determinant
        densities = -0.5 * (np.square(white).sum(axis=0) + constant)
        return tf.constant(densities.reshape(*z.shape[:-3], 1))


def refusal(model: SpatialVAE) -> str | None:
    """Why no Gaussian is fitted to the latents of a model; None if one can be."""
    entries = math.prod(model.latent_shape)
    if entries <= MOST_ENTRIES:
        return None
    return (
        f"a latent has {entries:,} entries, but a Gaussian is fitted to at most {MOST_ENTRIES:,}; "
        f"use a smaller latent_size or fewer latent_maps"
    )


def moments(model: SpatialVAE, images: np.ndarray | h5py.Dataset) -> Gaussian:
    """The mean and the covariance of the aggregate posterior of images.

    images: uint8 (n, height, width, channel), read batch by batch. Moving batch-norm statistics, no
    dropout. UserError for a latent that is too large, no images, or posteriors that are not finite.
    """
    if (reason := refusal(model)) is not None:
        raise UserError(reason)
    if not len(images):
        raise UserError("no images to fit a Gaussian to; give at least one")
    d, _, maps = model.latent_shape
    entries = d * d * maps
    total, squares = np.zeros(entries), np.zeros((entries, entries))
    within = np.zeros((maps, d * d, d * d))
    for _, posterior in posteriors(model, images):
        mean = posterior.mean.numpy().reshape(-1, entries)
        total += mean.sum(axis=0)
        squares += mean.T @ mean
        a = columns(posterior, d, maps).numpy()
        within += np.matmul(a.reshape(maps, d * d, -1), a.reshape(maps, d * d, -1).mT)
    mean = total / len(images)
    covariance = squares / len(images) - np.outer(mean, mean)
    for number in range(maps):
        covariance[number::maps, number::maps] += within[number] / len(images)
    if not np.isfinite(covariance).all():
        raise UserError(
            "posteriors of training images are NaN or infinite; the training may have diverged, "
            "train again with a smaller learning_rate"
        )
    return Gaussian(mean, (covariance + covariance.T) / 2)


def kl_to_standard(gaussian: Gaussian) -> float:
    """KL(N(m, C) || N(0, I)) in nats."""
    mean, covariance = gaussian.mean, gaussian.covariance
    _, log_determinant = np.linalg.slogdet(covariance)
    trace = float(np.trace(covariance))
    return 0.5 * (trace + float(mean @ mean) - len(mean) - float(log_determinant))


def rates(
    model: SpatialVAE, images: np.ndarray | h5py.Dataset, gaussian: Gaussian
) -> tuple[np.ndarray, np.ndarray]:
    """KL(q(z | x) || N(0, I)) and KL(q(z | x) || N(m, C)) of each image, float64 (n,), in nats.

    images: as for `moments`. With S = Cov[z | x] and mu = E[z | x],

        2 KL(q || N(m, C)) = tr(C^-1 S) + (mu - m)^T C^-1 (mu - m) - L + ln|C| - ln|S|,

    so that the two differ by terms without ln|S|.
    """
    d, _, maps = model.latent_shape
    mean, lower = gaussian.mean, gaussian.lower
    inverse = solve_triangular(lower, np.eye(len(mean)), lower=True)
    inverse = inverse.T @ inverse
    # Of the precision, the posterior's covariance meets the block of each map only.
    change = np.stack([inverse[n::maps, n::maps] - np.eye(d * d) for n in range(maps)])
    kl, fitted = np.empty(len(images)), np.empty(len(images))
    for rows, posterior in posteriors(model, images):
        a = columns(posterior, d, maps).numpy()  # (N, d^2, d^2, batch)
        flat = a.reshape(maps, d * d, -1)
        traces = (flat * np.matmul(change, flat)).reshape(a.shape).sum(axis=(0, 1, 2))
        mu = posterior.mean.numpy().reshape(-1, len(mean))
        distance = np.square(solve_triangular(lower, (mu - mean).T, lower=True)).sum(axis=0)
        kl[rows] = posterior.kl().numpy().sum(axis=1)
        fitted[rows] = kl[rows] + 0.5 * (
            traces + distance - np.square(mu).sum(axis=1) + gaussian.log_determinant
        )
    return kl, fitted


def posteriors(
    model: SpatialVAE, images: np.ndarray | h5py.Dataset
) -> Iterator[tuple[slice, Posterior]]:
    """Yield the places of a batch of images, and their posteriors in float64."""
    d, _, maps = model.latent_shape
    batch = max(1, min(BATCH, VALUES // (d**4 * maps)))
    outputs = tf.function(
        lambda x: model.encoder_outputs(scaled(x)), reduce_retracing=True, autograph=False
    )
    for start in range(0, len(images), batch):
        rows = slice(start, min(start + batch, len(images)))
        yield rows, model.posterior(tf.cast(outputs(tf.constant(images[rows])), tf.float64))


def columns(posterior: Posterior, d: int, maps: int) -> tf.Tensor:
    """A of z = E[z | x] + A noise, for each map: (N, d^2, d^2, batch).

    The first axis of two is that of the entries of z, the second that of the noise, both row by
    row: Cov[z | x] = A A^T.
    """
    noise = tf.reshape(tf.eye(d * d, dtype=tf.float64), [d * d, 1, d, d, 1])
    noise = tf.repeat(noise, maps, axis=4)
    moved = posterior.sample(noise) - posterior.mean  # (d^2, batch, d, d, N)
    return tf.transpose(tf.reshape(moved, [d * d, -1, d * d, maps]), [3, 2, 0, 1])
