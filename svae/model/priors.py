"""The prior p(z); `sample` and `log_density` are like those of posteriors."""

import math

import tensorflow as tf


class StandardNormal:
    """z ~ N(0, I).

    Noise and latents have the shape (..., d, d, N).
    """

    description = "z ~ N(0, I)"

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """z from noise iid N(0, 1); same shape."""
        return noise

    def log_density(self, z: tf.Tensor) -> tf.Tensor:
        """log p(z) of each map in nats, (..., N)."""
        densities = -0.5 * (math.log(2.0 * math.pi) + tf.square(z))
        return tf.reduce_sum(densities, axis=[-3, -2])
