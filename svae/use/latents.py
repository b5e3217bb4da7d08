"""Prior and posterior of a trained model, with NumPy arrays in and out.

Latents are float32 (n, d, d, N): N feature maps of d x d entries. Results are computed block by
block, so that only they take memory that grows with n.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from svae.model.posteriors import Posterior
from svae.model.vae import SpatialVAE
from svae.streams import Stream, generator
from svae.use.inputs import checked_latents, checked_seed, checked_whole

BLOCK = 100  # images or latents that are computed at once, as for the samples of a run


class LatentPrior:
    """p(z)."""

    def __init__(self, model: SpatialVAE):
        self._model = model
        self.description: str = model.prior.description

    def sample(self, n: int, seed: int = 0) -> np.ndarray:
        """Draw latents, (n, d, d, N). The first ones do not depend on n.

        With the seed of the run, they are the latents of its samples.h5.
        """
        n, seed = checked_whole(n, "n", 1), checked_seed(seed)
        shape = self._model.latent_shape
        rng = generator(seed, Stream.PRIOR_LATENTS)

        def draw(start: int, stop: int) -> np.ndarray:
            noise = rng.standard_normal((stop - start, *shape), np.float32)
            return self._model.prior.sample(tf.constant(noise)).numpy()

        return in_blocks(n, draw)

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """log p(z) of each map in nats, (n, N)."""
        z = checked_latents(z, self._model.latent_shape)
        density = self._model.prior.log_density
        return in_blocks(len(z), lambda start, stop: density(tf.constant(z[start:stop])).numpy())


class Encoded:
    """q(z | x) of n images; see svae.model.posteriors."""

    def __init__(self, model: SpatialVAE, outputs: np.ndarray):
        """outputs: those of the model's encoder, float32 (n, outputs)."""
        self._model, self._outputs = model, outputs

    def __len__(self) -> int:
        """The number of images."""
        return len(self._outputs)

    @property
    def mean(self) -> np.ndarray:
        """E[z | x], (n, d, d, N)."""
        return self._computed(lambda posterior, start, stop: posterior.mean)

    @property
    def variance(self) -> np.ndarray:
        """Var[z | x] of each entry, (n, d, d, N)."""
        return self._computed(lambda posterior, start, stop: posterior.variance)

    def sample(self, seed: int = 0) -> np.ndarray:
        """Draw one latent per image, (n, d, d, N). Those of the first images do not depend on n."""
        shape = self._model.latent_shape
        rng = generator(checked_seed(seed), Stream.ENCODED_LATENTS)

        def draw(posterior: Posterior, start: int, stop: int) -> tf.Tensor:
            noise = rng.standard_normal((stop - start, *shape), np.float32)
            return posterior.sample(tf.constant(noise))

        return self._computed(draw)

    def kl(self) -> np.ndarray:
        """KL(q || N(0, I)) of each map in nats, (n, N)."""
        return self._computed(lambda posterior, start, stop: posterior.kl())

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """log q(z | x) of each map in nats, (n, N), for one latent per image, (n, d, d, N)."""
        z = checked_latents(z, self._model.latent_shape, len(self))
        return self._computed(
            lambda posterior, start, stop: posterior.log_density(tf.constant(z[start:stop]))
        )

    def _computed(self, function: Callable[[Posterior, int, int], tf.Tensor]) -> np.ndarray:
        def compute(start: int, stop: int) -> np.ndarray:
            posterior = self._model.posterior(tf.constant(self._outputs[start:stop]))
            return function(posterior, start, stop).numpy()

        return in_blocks(len(self), compute)


def in_blocks(
    count: int, function: Callable[[int, int], np.ndarray], block: int = BLOCK
) -> np.ndarray:
    """Join the results of `function`(start, stop), one row per number, for blocks of 0 .. count."""
    joined = None
    for start in range(0, count, block):
        stop = min(start + block, count)
        rows = function(start, stop)
        if joined is None:
            joined = np.empty((count, *rows.shape[1:]), rows.dtype)
        joined[start:stop] = rows
    assert joined is not None  # count is at least 1
    return joined
