"""The four posteriors q(z | x), each one function from encoder outputs to (loc, log_var).

A latent is N feature maps F of d x d entries with prior iid N(0, 1). Every posterior here makes the
entries of a map independent given the image; they differ in what they tie together:

    vanilla    d = 1: a mean and a variance per map
    naive      a mean and a variance per entry
    mvn        matrix-variate normal MVN(M, Omega x Psi), Omega and Psi diagonal:
               Var F_ij = Omega_ii Psi_jj, full mean M
    low_rank   mvn with the mean restricted to M = mu nu^T

Raw outputs s stand for log variances: std = sqrt(exp(s)). Source: Wang, Yuan, Ji, "Spatial
Variational Auto-Encoding via Matrix-Variate Normal Distributions", arXiv 1705.06821.

Two options depart from the published functions, each where those fail in training (docs/training.md
has the runs). `Options.log_var_limit` makes log variances grow slowly above it, see `limited`.
`Options.low_rank_start` shifts nu by 1, since mu = nu = 0 is a stationary point of every objective.

To add a posterior, write its function here and name it in `POSTERIORS` and in the schema.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf


class Options(NamedTuple):
    """Departures from the published functions; the defaults are the published ones."""

    log_var_limit: float | None = None
    """Above it the log variance of an entry grows slowly, see `limited`; None: nowhere."""
    low_rank_start: str = "published"
    """What raw outputs of 0 stand for: `published`, nu = 0; `ones`, nu = 1."""


PUBLISHED = Options()


def vanilla(raw: tf.Tensor, d: int, options: Options = PUBLISHED) -> tuple[tf.Tensor, tf.Tensor]:
    """raw (batch, 2, N): the mean and the log variance of the single entry of each map."""
    if d != 1:
        raise ValueError(f"the vanilla posterior has latent_size 1, not {d}")
    return naive(raw, 1, options)


def naive(raw: tf.Tensor, d: int, options: Options = PUBLISHED) -> tuple[tf.Tensor, tf.Tensor]:
    """raw (batch, 2 d^2, N): the d^2 means, then the d^2 log variances, both row by row."""
    loc, log_var = tf.split(raw, [d * d, d * d], axis=1)  # (batch, d^2, N)
    return _as_maps(loc, d), _as_maps(limited(log_var, options.log_var_limit), d)


def mvn(raw: tf.Tensor, d: int, options: Options = PUBLISHED) -> tuple[tf.Tensor, tf.Tensor]:
    """raw (batch, d^2 + 2 d, N): M row by row, log Omega_ii (rows), log Psi_jj (columns)."""
    loc, log_omega, log_psi = tf.split(raw, [d * d, d, d], axis=1)
    return _as_maps(loc, d), _kronecker(log_omega, log_psi, options)


def low_rank(raw: tf.Tensor, d: int, options: Options = PUBLISHED) -> tuple[tf.Tensor, tf.Tensor]:
    """raw (batch, 4 d, N): mu (rows), nu (columns), log Omega_ii (rows), log Psi_jj (columns).

    With `low_rank_start: ones` the columns are nu = 1 + raw.
    """
    mu, nu, log_omega, log_psi = tf.split(raw, 4, axis=1)  # (batch, d, N)
    if options.low_rank_start == "ones":
        nu += 1.0
    loc = mu[:, :, None, :] * nu[:, None, :, :]  # M_ij = mu_i nu_j
    return loc, _kronecker(log_omega, log_psi, options)


def limited(log_var: tf.Tensor, limit: float | None) -> tf.Tensor:
    """`log_var` up to `limit`, above it limit + log(1 + log_var - limit): the variance then grows
    linearly with the encoder's output, not exponentially, and its slope has no jump.

    The prior's log variance is 0, and a posterior's optimum lies below that; so a limit above 0
    changes nothing but outliers.
    """
    if limit is None:
        return log_var
    return tf.minimum(log_var, limit) + tf.math.log1p(tf.nn.relu(log_var - limit))


def _kronecker(log_omega: tf.Tensor, log_psi: tf.Tensor, options: Options) -> tf.Tensor:
    """log diag(Omega (x) Psi); each factor has half of the limit, so that both stay factors."""
    half = None if options.log_var_limit is None else options.log_var_limit / 2
    return _outer_sum(limited(log_omega, half), limited(log_psi, half))


def _as_maps(entries: tf.Tensor, d: int) -> tf.Tensor:
    """(batch, d^2, N) -> (batch, d, d, N)."""
    return tf.reshape(entries, [-1, d, d, entries.shape[-1]])


def _outer_sum(rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """(batch, d, N), (batch, d, N) -> (batch, d, d, N): rows_i + columns_j."""
    return rows[:, :, None, :] + columns[:, None, :, :]


class Posterior(NamedTuple):
    """What the rest of the package needs to know of a posterior."""

    split: Callable[[tf.Tensor, int, Options], tuple[tf.Tensor, tf.Tensor]]
    outputs_per_map: Callable[[int], int]
    stem: bool  # whether the decoder starts from 1x1 maps by the vanilla stem


POSTERIORS = {
    "vanilla": Posterior(vanilla, lambda d: 2, stem=True),
    "naive": Posterior(naive, lambda d: 2 * d * d, stem=False),
    "mvn": Posterior(mvn, lambda d: d * d + 2 * d, stem=False),
    "low_rank": Posterior(low_rank, lambda d: 4 * d, stem=False),
}


def output_count(name: str, latent_size: int, latent_maps: int) -> int:
    """Number of encoder outputs per image: 2N, 2 d^2 N, (d^2 + 2d) N or 4 d N."""
    return POSTERIORS[name].outputs_per_map(latent_size) * latent_maps


def parameters(
    name: str,
    outputs: tf.Tensor,
    latent_size: int,
    latent_maps: int,
    options: Options = PUBLISHED,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoder outputs (batch, output_count) -> loc, log_var, both (batch, d, d, N)."""
    posterior = POSTERIORS[name]
    raw = tf.reshape(outputs, [-1, posterior.outputs_per_map(latent_size), latent_maps])
    return posterior.split(raw, latent_size, options)


def sample(loc: tf.Tensor, log_var: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
    """z = loc + sqrt(exp(log_var)) noise, noise iid N(0, 1); all (batch, d, d, N).

    The reparameterisation of Kingma and Welling 2014.
    """
    return loc + tf.exp(0.5 * log_var) * noise


def kl(loc: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """KL(q || N(0, I)) entry by entry, in nats, (batch, d, d, N).

    0.5 (M_ij^2 + Var_ij - log Var_ij - 1); its sum over the entries is the KL of an image.
    """
    return 0.5 * (tf.square(loc) + tf.exp(log_var) - log_var - 1.0)


def log_density(z: tf.Tensor, loc: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """log q(z | x) entry by entry, in nats, (batch, d, d, N)."""
    return -0.5 * (math.log(2.0 * math.pi) + log_var + tf.square(z - loc) * tf.exp(-log_var))
