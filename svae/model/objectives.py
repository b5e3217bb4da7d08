"""The training objectives per image, as functions of the mean SSE and the mean KL.

    weighted   SSE + w KL
    elbo       the negative evidence lower bound, in nats, for a Gaussian decoder of variance v:
                   0.5 D log(2 pi v) + SSE / (2 v) + beta KL

SSE is the squared error summed over an image's D pixel values (on [-1, 1]), and KL is the sum over
the latent entries in nats. The published code uses the means of both, mean(SSE / D) + mean(KL / L)
with L latent entries; per image this is (SSE + (D / L) KL) / D, so its weight is w = D / L (see
svae.config.variants.published_weight). The optimizer minimises every objective divided by D, which
gives exactly the published gradient.

With decoder_variance `optimal`, v is the batch's mean squared error (Rybkin, Daniilidis, Levine
2021, "Simple and effective VAE training with calibrated decoders"), so that the gradient of the SSE
term is that of 0.5 D log MSE. A weight w is equivalent to v = w / 2 at beta = 1, or to beta = w / 2
at v = 1.
"""

import math

import tensorflow as tf

LOG_VARIANCE_FLOOR = -6.0  # of a learned variance: a standard deviation of 0.05 on [-1, 1]


def weighted(sse: tf.Tensor, kl: tf.Tensor, weight: tf.Tensor | float) -> tf.Tensor:
    """Return SSE + w KL, in squared pixel units of [-1, 1]."""
    return sse + weight * kl


def negative_elbo(
    sse: tf.Tensor,
    kl: tf.Tensor,
    log_variance: tf.Tensor | float,
    dimension: int,
    beta: tf.Tensor | float,
) -> tf.Tensor:
    """Return the negative evidence lower bound in nats (at beta = 1), for v = exp(log_variance)."""
    log_normaliser = 0.5 * dimension * (math.log(2.0 * math.pi) + log_variance)
    return log_normaliser + 0.5 * sse * tf.exp(-log_variance) + beta * kl


def optimal_log_variance(sse: tf.Tensor, dimension: int) -> tf.Tensor:
    """Return log MSE: the log variance that maximises the ELBO for this SSE."""
    return tf.math.log(sse / dimension)


def equivalent_weight(variance: float, beta: float) -> float:
    """Return w = 2 v beta, at which SSE + w KL is proportional to SSE / (2 v) + beta KL."""
    return 2.0 * variance * beta
