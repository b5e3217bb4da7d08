"""The importance-weighted bound on log p(x), with q(z | x) as the proposal.

    log p(x) >= E[log 1/k sum_j w_j],   w_j = p(x | z_j) p(z_j) / q(z_j | x),   z_j ~ q(z | x)

(Burda, Grosse, Salakhutdinov 2016, "Importance Weighted Autoencoders", arXiv 1509.00519, eq. 8). At
k = 1 it is the ELBO; it rises with k, to log p(x) as k grows.

p(x | z) is a Gaussian of one scalar variance around the decoder's mean, with its full normaliser,
for pixels on [-1, 1]. A density of pixels that can take 256 values only has no upper limit, so the
bytes u are dequantised, each with uniform noise of the width of a step (Theis, van den Oord, Bethge
2016): x = (u + U - 0.5) / 127.5 - 1, U ~ Uniform[0, 1), drawn once an image.

The networks compute in float32, all else in float64: q(z | x) is made of the encoder's outputs in
float64. The noise of an image, of its pixels and of its latents, depends on the seed and on the
image's place among the images only: neither on their number nor on how many are computed at once.
The first weights for a larger k are those for a smaller one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import h5py
import numpy as np
import tensorflow as tf

from svae.errors import UserError
from svae.model.posteriors import Posterior
from svae.model.vae import SpatialVAE
from svae.pixels import bits_per_dim, to_x
from svae.streams import Stream, generator

Encode = Callable[[np.ndarray], Posterior]
"""x (n, ...) -> q(z | x), in float64."""
Decode = Callable[[np.ndarray], np.ndarray]
"""z (n, d, d, N) -> means of p(x | z), (n, ...)."""


class Prior(Protocol):
    """As svae.model.priors.StandardNormal and svae.model.aggregate.Gaussian."""

    def log_density(self, z: tf.Tensor) -> tf.Tensor:
        """(..., d, d, N) -> (..., parts), in nats: log p(z) is the sum over the parts."""


@dataclass(frozen=True, eq=False)
class Bound:
    """Estimates image by image, in nats, for a density of pixels on [-1, 1]."""

    per_image: np.ndarray
    """float64 (n,): log of the mean of k weights."""
    elbo: np.ndarray
    """float64 (n,): mean of the same k log weights."""
    effective_sample_size: np.ndarray
    """float64 (n,), from 1 to k: see `effective_sample_size`. Near 1, one weight decides all, and
    the bound lies far below log p(x)."""
    k: int
    by_k: tuple[float, ...] | None
    """Means over the images of `nested_log_means`, for 1, 2, 4 .. k; None if k is no power of 2."""


def importance_weighted_bound(
    model: SpatialVAE,
    images: np.ndarray | h5py.Dataset,
    k: int,
    log_variance: float,
    seed: int,
    batch: int,
    prior: Prior | None = None,
) -> Bound:
    """The bound of a model, with moving batch-norm statistics and without dropout.

    images: uint8 (n, height, width, channel), read slice by slice; log_variance: of the decoder, on
    [-1, 1] pixels; batch: latents decoded at once, more or fewer than k; prior: instead of that of
    the model.

    UserError for fewer than 2 images, which have no standard error, and as `estimate`.
    """
    if len(images) < 2:
        raise UserError(
            f"the importance-weighted bound: {len(images)} images, but a standard error needs at "
            f"least 2; take more images"
        )
    outputs = tf.function(model.encoder_outputs, reduce_retracing=True, autograph=False)
    decode = tf.function(model.decode, reduce_retracing=True, autograph=False)

    def encoded(x: np.ndarray) -> Posterior:
        return model.posterior(tf.cast(outputs(tf.constant(x)), tf.float64))

    def decoded(z: np.ndarray) -> np.ndarray:
        return decode(tf.constant(z, tf.float32)).numpy()

    x = Dequantised(images, seed)
    return estimate(encoded, decoded, prior or model.prior, x, k, log_variance, seed, batch)


def estimate(
    encode: Encode,
    decode: Decode,
    prior: Prior,
    x: "np.ndarray | Dequantised",
    k: int,
    log_variance: float,
    seed: int,
    batch: int,
) -> Bound:
    """The bound of any encoder, decoder and prior, for x (n, ...), sliced as [a:b].

    At most `batch` latents and means are held at a time, and k weights for each image that they
    belong to. UserError for k or batch below 1, and for weights that are not finite.
    """
    for name, value in (("k", k), ("batch", batch)):
        if value < 1:
            raise UserError(f"the importance-weighted bound: {name} is {value}; make it 1 or more")
    n, together = x.shape[0], max(1, batch // k)
    per_image, elbo, sizes = np.empty(n), np.empty(n), np.empty(n)
    power = k & (k - 1) == 0
    nested = np.zeros(k.bit_length())
    for start in range(0, n, together):
        rows = slice(start, min(start + together, n))
        pixels = x[rows]
        log_w = _log_weights_of(encode, decode, prior, pixels, start, k, log_variance, seed, batch)
        finite = np.isfinite(log_w).all(axis=1)
        if not finite.all():
            raise UserError(
                f"the importance-weighted bound: weights of image {start + int(np.argmin(finite))} "
                f"are NaN or infinite; the training may have diverged, train again with a smaller "
                f"learning_rate"
            )
        per_image[rows] = log_mean_exp(log_w)
        elbo[rows] = log_w.mean(axis=1)
        sizes[rows] = effective_sample_size(log_w)
        if power:
            nested += nested_log_means(log_w).sum(axis=0)
    by_k = tuple((nested / n).tolist()) if power else None
    return Bound(per_image, elbo, sizes, k, by_k)


def _log_weights_of(
    encode: Encode,
    decode: Decode,
    prior: Prior,
    x: np.ndarray,
    first: int,
    k: int,
    log_variance: float,
    seed: int,
    batch: int,
) -> np.ndarray:
    """float64 (n, k) for the images x (n, ...), of which the first has the number `first`."""
    posterior = encode(x)
    latent_shape = tuple(posterior.mean.shape[1:])
    generators = [generator(seed, Stream.BOUND_LATENTS, first + i) for i in range(len(x))]
    columns = []
    for start in range(0, k, batch):
        shape = (min(batch, k - start), *latent_shape)
        noise = np.stack([each.standard_normal(shape) for each in generators], axis=1)
        columns.append(log_weights(decode, prior, posterior, x, noise, log_variance))
    return np.concatenate(columns, axis=1)


def log_weights(
    decode: Decode,
    prior: Prior,
    posterior: Posterior,
    x: np.ndarray,
    noise: np.ndarray,
    log_variance: float,
) -> np.ndarray:
    """log p(x | z) + log p(z) - log q(z | x) at the z of each noise: float64 (n, k).

    posterior: q(z | x) of x (n, ...); noise (k, n, d, d, N). n k latents are decoded at once.
    """
    k, n = noise.shape[:2]
    z = posterior.sample(tf.constant(noise))
    mean = decode(z.numpy().reshape(k * n, *noise.shape[2:])).reshape(k, n, -1)
    error = (x.reshape(1, n, -1) - mean).astype(np.float64, copy=False)
    sse = np.einsum("knd,knd->kn", error, error)
    dimension = error.shape[2]
    log_likelihood = -0.5 * (
        dimension * (math.log(2.0 * math.pi) + log_variance) + sse * math.exp(-log_variance)
    )
    log_prior = prior.log_density(z).numpy().sum(axis=2)
    log_posterior = posterior.log_density(z).numpy().sum(axis=2)
    return (log_likelihood + log_prior - log_posterior).T


def log_mean_exp(log_w: np.ndarray) -> np.ndarray:
    """log 1/k sum_j exp(log w_j): (n, k) -> (n,)."""
    largest = log_w.max(axis=1)
    return largest + np.log(np.exp(log_w - largest[:, None]).mean(axis=1))


def effective_sample_size(log_w: np.ndarray) -> np.ndarray:
    """(sum w)^2 / sum w^2: (n, k) -> (n,). k where all weights are equal, which they are when q is
    the exact posterior; 1 where one exceeds all others by far."""
    w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    return np.square(w.sum(axis=1)) / np.square(w).sum(axis=1)


def nested_log_means(log_w: np.ndarray) -> np.ndarray:
    """The bound at 1, 2, 4 .. 2^m from the same 2^m weights: (n, 2^m) -> (n, m + 1).

    Entry j is the average, over the groups of 2^j neighbours, of the log of a group's mean weight:
    at j = 0 the mean log weight, at j = m the log mean weight. Each group is a pair of groups of
    the entry before, so that by Jensen's inequality a row never decreases, whatever the weights.
    """
    means = [log_w.mean(axis=1)]
    while log_w.shape[1] > 1:
        log_w = np.logaddexp(log_w[:, 0::2], log_w[:, 1::2]) - math.log(2.0)
        means.append(log_w.mean(axis=1))
    return np.stack(means, axis=1)


class Dequantised:
    """uint8 images as float32 x = (u + U - 0.5) / 127.5 - 1, computed where they are sliced [a:b].

    U, uniform on [0, 1), is a function of the seed and the image's number.
    """

    def __init__(self, images: np.ndarray | h5py.Dataset, seed: int):
        self._images, self._seed = images, seed
        self.shape = images.shape

    def __getitem__(self, rows: slice) -> np.ndarray:
        numbers = range(*rows.indices(self.shape[0]))
        rngs = (generator(self._seed, Stream.BOUND_PIXELS, i) for i in numbers)
        noise = [rng.random(self.shape[1:]) for rng in rngs]
        return to_x(self._images[rows] + np.stack(noise) - 0.5).astype(np.float32)


def summary(
    bound: Bound, dimension: int, variance: float, variance_from: str, seed: int
) -> dict[str, Any]:
    """The bound as JSON takes it; its terms are means over the images, in nats per image.

    dimension: D of an image; variance_from: what the variance is, in words. The standard error is
    over images only.
    """
    n = bound.per_image.size
    mean = float(bound.per_image.mean())
    curve = None
    if bound.by_k is not None:
        ks = [2**j for j in range(len(bound.by_k))]
        curve = {"k": ks, "log_likelihood": list(bound.by_k)}
    return {
        "log_likelihood": mean,
        "standard_error": float(bound.per_image.std(ddof=1) / math.sqrt(n)),
        "bits_per_dim": bits_per_dim(mean, dimension),
        "elbo": float(bound.elbo.mean()),
        "k": bound.k,
        "n_images": n,
        "bound_by_k": curve,
        "effective_sample_size": float(bound.effective_sample_size.mean()),
        "effective_sample_size_smallest": float(bound.effective_sample_size.min()),
        "decoder_variance": variance,
        "variance_from": variance_from,
        "noise_seed": seed,
        "unit": "nats per image, for a density of pixels on [-1, 1]",
        "pixels": "bytes dequantised with uniform noise",
    }
