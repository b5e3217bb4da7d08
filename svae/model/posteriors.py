"""The posteriors q(z | x): distributions of a batch of latents, made from encoder outputs.

A latent z is N feature maps F of d x d entries, with prior iid N(0, 1). The maps are independent
given the image; `Posterior` lists what the rest of the package may use of their distribution. The
classes differ in the structure within a map:

    Vanilla              d = 1: a mean and a variance per map
    Naive                a mean and a variance per entry
    MatrixVariateNormal  MVN(M, Omega (x) Psi), Omega and Psi diagonal, full mean M
    LowRank              the same with M = mu nu^T
    HigherRank           the same with M = sum_k mu_k nu_k^T
    Isotropic            a mean per entry, a variance per map
    DenseMatrixVariateNormal  MVN(M, Omega (x) Psi) with dense Omega and Psi
    FullCovariance       a mean per entry, any covariance of the entries of a map

Encoder outputs s stand for log variances: std = sqrt(exp(s)). Source of the first four: Wang, Yuan,
Ji, "Spatial Variational Auto-Encoding via Matrix-Variate Normal Distributions", arXiv 1705.06821.
docs/posteriors.md compares all of them.

To add a posterior, write its class here, name it in `POSTERIORS`, and add a row to the table in
tests/test_posteriors.py. A finished run depends on the class of its own posterior only.
"""

import abc
import math
from typing import NamedTuple, Self

import tensorflow as tf

from svae.model.triangular import AllEntries, RowsAndColumns, Transform, unit_lower


class Options(NamedTuple):
    """Departures from the published posteriors, for cases where those fail in training
    (docs/training.md has the runs). The defaults are as published."""

    log_var_limit: float | None = None
    """Above this limit, the log variance of an entry grows slowly (`limited`); None: no limit."""
    low_rank_start: str = "published"
    """nu in `LowRank` where the encoder outputs are 0: `published`, nu = 0; `ones`, nu = 1."""


PUBLISHED = Options()


class Posterior(abc.ABC):
    """q(z | x) of each image of a batch. All computations are in the type of the encoder outputs.

    Noise and latents have the shape (..., batch, d, d, N). Leading axes hold several samples of
    each image.
    """

    stem: bool = False
    """Whether the decoder starts from 1x1 maps, with the vanilla stem."""

    @staticmethod
    @abc.abstractmethod
    def outputs_per_map(d: int) -> int:
        """Number of encoder outputs for one map of d x d."""

    @abc.abstractmethod
    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        """raw (batch, outputs_per_map, N): encoder outputs, in the order that the class states."""

    @classmethod
    def from_outputs(
        cls, outputs: tf.Tensor, d: int, maps: int, options: Options = PUBLISHED
    ) -> Self:
        """The posterior of N = `maps` maps from encoder outputs (batch, outputs_per_map * N)."""
        return cls(tf.reshape(outputs, [-1, cls.outputs_per_map(d), maps]), d, options)

    @property
    @abc.abstractmethod
    def mean(self) -> tf.Tensor:
        """E[z | x], (batch, d, d, N)."""

    @property
    @abc.abstractmethod
    def variance(self) -> tf.Tensor:
        """Var[z | x] of each entry, (batch, d, d, N)."""

    @abc.abstractmethod
    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        """z, a differentiable function of noise iid N(0, 1) and the encoder outputs; same shape.

        The reparameterisation of Kingma and Welling 2014.
        """

    @abc.abstractmethod
    def kl(self) -> tf.Tensor:
        """KL(q || N(0, I)) of each map in nats, (batch, N)."""

    @abc.abstractmethod
    def log_density(self, z: tf.Tensor) -> tf.Tensor:
        """log q(z | x) of each map in nats, (..., batch, N)."""


class Diagonal(Posterior):
    """Base of the posteriors with independent entries, z_ij ~ N(loc_ij, exp(log_var_ij))."""

    def __init__(self, loc: tf.Tensor, log_var: tf.Tensor):
        """loc, log_var (batch, d, d, N)."""
        self._loc, self._log_var = loc, log_var

    @property
    def mean(self) -> tf.Tensor:
        return self._loc

    @property
    def variance(self) -> tf.Tensor:
        return tf.exp(self._log_var)

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        return self._loc + tf.exp(0.5 * self._log_var) * noise

    def kl(self) -> tf.Tensor:
        loc, log_var = self._loc, self._log_var
        return sum_of_maps(0.5 * (tf.square(loc) + tf.exp(log_var) - log_var - 1.0))

    def log_density(self, z: tf.Tensor) -> tf.Tensor:
        loc, log_var = self._loc, self._log_var
        squares = tf.square(z - loc) * tf.exp(-log_var)
        return sum_of_maps(-0.5 * (math.log(2.0 * math.pi) + log_var + squares))


class Naive(Diagonal):
    """A mean and a variance per entry. raw (batch, 2 d^2, N): the means, then the log variances,
    both row by row."""

    @staticmethod
    def outputs_per_map(d: int) -> int:
        return 2 * d * d

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        loc, log_var = tf.split(raw, [d * d, d * d], axis=1)  # (batch, d^2, N)
        log_var = limited(log_var, options.log_var_limit)
        super().__init__(as_maps(loc, d), as_maps(log_var, d))


class Vanilla(Naive):
    """A mean and a log variance per map, which has a single entry. raw (batch, 2, N)."""

    stem = True

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        if d != 1:
            raise ValueError(f"the vanilla posterior has latent_size 1, not {d}")
        super().__init__(raw, d, options)


class MatrixVariateNormal(Diagonal):
    """MVN(M, Omega (x) Psi), Omega and Psi diagonal: F_ij ~ N(M_ij, Omega_ii Psi_jj).

    raw (batch, d^2 + 2 d, N): M row by row, log Omega_ii (rows), log Psi_jj (columns).
    """

    @staticmethod
    def outputs_per_map(d: int) -> int:
        return d * d + 2 * d

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        loc, log_omega, log_psi = tf.split(raw, [d * d, d, d], axis=1)
        super().__init__(as_maps(loc, d), kronecker(log_omega, log_psi, options.log_var_limit))


class LowRank(Diagonal):
    """MVN(mu nu^T, Omega (x) Psi), Omega and Psi diagonal: F_ij ~ N(mu_i nu_j, Omega_ii Psi_jj).

    raw (batch, 4 d, N): mu (rows), nu (columns), log Omega_ii (rows), log Psi_jj (columns). With
    `low_rank_start: ones` the columns are nu = 1 + raw, because mu = nu = 0 is a stationary point
    of every objective.
    """

    @staticmethod
    def outputs_per_map(d: int) -> int:
        return 4 * d

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        mu, nu, log_omega, log_psi = tf.split(raw, 4, axis=1)  # (batch, d, N)
        if options.low_rank_start == "ones":
            nu += 1.0
        loc = mu[:, :, None, :] * nu[:, None, :, :]  # M_ij = mu_i nu_j
        super().__init__(loc, kronecker(log_omega, log_psi, options.log_var_limit))


class HigherRank(Diagonal):
    """MVN(M, Omega (x) Psi), M of rank r: M_ij = sum_k mu_ki nu_kj, otherwise as `LowRank`.

    The base of the classes that `of_rank` makes, one for each r. raw (batch, 2 r d + 2 d, N):
    mu_1 .. mu_r, nu_1 .. nu_r, log Omega_ii (rows), log Psi_jj (columns); for r = 1 those of
    `LowRank`. With `low_rank_start: ones` the columns are nu_k = raw + the k-th of `cosines`, which
    are orthogonal and start with ones. With ones for every k, all mu_k would have the same gradient
    at raw = 0.
    """

    rank = 1

    @classmethod
    def of_rank(cls, rank: int) -> type[Posterior]:
        """The posterior of this rank, 1 to d; with d, M is any matrix."""
        return type(f"LowRank{rank}", (cls,), {"rank": rank})

    @classmethod
    def outputs_per_map(cls, d: int) -> int:
        return 2 * cls.rank * d + 2 * d

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        r, maps = self.rank, raw.shape[-1]
        mu, nu, log_omega, log_psi = tf.split(raw, [r * d, r * d, d, d], axis=1)
        mu, nu = (tf.reshape(factor, [-1, r, d, maps]) for factor in (mu, nu))
        if options.low_rank_start == "ones":
            nu += tf.constant(cosines(r, d), raw.dtype)[:, :, None]
        loc = tf.reduce_sum(mu[:, :, :, None, :] * nu[:, :, None, :, :], axis=1)
        super().__init__(loc, kronecker(log_omega, log_psi, options.log_var_limit))


class Isotropic(Diagonal):
    """A mean per entry, a variance per map. raw (batch, d^2 + 1, N): the means row by row, then the
    log variance."""

    @staticmethod
    def outputs_per_map(d: int) -> int:
        return d * d + 1

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        loc, log_var = tf.split(raw, [d * d, 1], axis=1)
        log_var = tf.repeat(limited(log_var, options.log_var_limit), d * d, axis=1)
        super().__init__(as_maps(loc, d), as_maps(log_var, d))


class Correlated(Posterior):
    """Base of the posteriors with dependent entries: F = loc + T(exp(log_var / 2) * E).

    E is iid N(0, 1). T is linear and, on the entries of a map row by row, unit lower triangular:
    Cov[F] = T diag(exp(log_var)) T^T is a modified Cholesky decomposition, and its determinant is
    that of the diagonal. Where T is the identity, the results are those of `Diagonal` bit for bit.

    `log_var_limit` applies to log_var, the only outputs of which a variance grows exponentially. It
    grows quadratically with each entry of the matrices that make T.
    """

    def __init__(self, loc: tf.Tensor, log_var: tf.Tensor, transform: Transform):
        """loc, log_var (batch, d, d, N)."""
        self._loc, self._log_var, self._transform = loc, log_var, transform

    @property
    def mean(self) -> tf.Tensor:
        return self._loc

    @property
    def variance(self) -> tf.Tensor:
        return self._transform.squares()(tf.exp(self._log_var))

    def sample(self, noise: tf.Tensor) -> tf.Tensor:
        return self._loc + self._transform(tf.exp(0.5 * self._log_var) * noise)

    def kl(self) -> tf.Tensor:
        loc, log_var = self._loc, self._log_var
        return sum_of_maps(0.5 * (tf.square(loc) + self.variance - log_var - 1.0))

    def log_density(self, z: tf.Tensor) -> tf.Tensor:
        log_var = self._log_var
        squares = tf.square(self._transform.solve(z - self._loc)) * tf.exp(-log_var)
        return sum_of_maps(-0.5 * (math.log(2.0 * math.pi) + log_var + squares))


class DenseMatrixVariateNormal(Correlated):
    """MVN(M, Omega (x) Psi) with dense factors Omega = A D A^T and Psi = B G B^T.

    A and B are unit lower triangular, D and G diagonal; F = M + A D^(1/2) E G^(1/2) B^T. Omega c
    and Psi / c are the same distribution, so D_11 is 1. raw (batch, d^2 + d (d + 1) - 1, N): M row
    by row, log D_ii from i = 2, log G_jj, and the entries of A and of B below the diagonal, row by
    row.
    """

    @staticmethod
    def outputs_per_map(d: int) -> int:
        return d * d + d * (d + 1) - 1

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        below = d * (d - 1) // 2
        loc, log_rows, log_columns, a, b = tf.split(raw, [d * d, d - 1, d, below, below], axis=1)
        log_rows = tf.pad(log_rows, [[0, 0], [1, 0], [0, 0]])  # log D_11 = 0
        log_var = kronecker(log_rows, log_columns, options.log_var_limit)
        transform = RowsAndColumns(unit_lower(a, d), unit_lower(b, d))
        super().__init__(as_maps(loc, d), log_var, transform)


class FullCovariance(Correlated):
    """N(m, L D L^T) of the d^2 entries of a map row by row, L unit lower triangular, D diagonal.

    raw (batch, d^2 + d^2 (d^2 + 1) / 2, N): m, log D_ii, and the entries of L below the diagonal,
    row by row.
    """

    @staticmethod
    def outputs_per_map(d: int) -> int:
        return d * d + d * d * (d * d + 1) // 2

    def __init__(self, raw: tf.Tensor, d: int, options: Options = PUBLISHED):
        m = d * d
        loc, log_var, below = tf.split(raw, [m, m, m * (m - 1) // 2], axis=1)
        log_var = limited(log_var, options.log_var_limit)
        transform = AllEntries(unit_lower(below, m))
        super().__init__(as_maps(loc, d), as_maps(log_var, d), transform)


POSTERIORS: dict[str, type[Posterior]] = {
    "vanilla": Vanilla,
    "naive": Naive,
    "mvn": MatrixVariateNormal,
    "low_rank": LowRank,
    "isotropic": Isotropic,
    "mvn_dense": DenseMatrixVariateNormal,
    "full_covariance": FullCovariance,
}
"""The classes by their names in the configuration."""


def limited(log_var: tf.Tensor, limit: float | None) -> tf.Tensor:
    """`log_var` up to `limit`; above it, limit + log(1 + log_var - limit). The variance then grows
    linearly with the encoder's output instead of exponentially, and its slope is continuous.

    The prior's log variance is 0, and the optimum of a posterior is below that; a limit above 0
    therefore affects only outliers.
    """
    if limit is None:
        return log_var
    return tf.minimum(log_var, limit) + tf.math.log1p(tf.nn.relu(log_var - limit))


def kronecker(log_omega: tf.Tensor, log_psi: tf.Tensor, limit: float | None) -> tf.Tensor:
    """log diag(Omega (x) Psi): (batch, d, N), (batch, d, N) -> (batch, d, d, N).

    Each factor has half of the limit, which keeps the result a product of factors.
    """
    half = None if limit is None else limit / 2
    rows, columns = limited(log_omega, half), limited(log_psi, half)
    return rows[:, :, None, :] + columns[:, None, :, :]


def cosines(rank: int, d: int) -> list[list[float]]:
    """The first `rank` vectors of the discrete cosine transform of d points: ones, then orthogonal
    ones of the same length."""
    return [
        [math.sqrt(2.0 if k else 1.0) * math.cos(math.pi * k * (j + 0.5) / d) for j in range(d)]
        for k in range(rank)
    ]


def as_maps(entries: tf.Tensor, d: int) -> tf.Tensor:
    """(batch, d^2, N) -> (batch, d, d, N)."""
    return tf.reshape(entries, [-1, d, d, entries.shape[-1]])


def sum_of_maps(entries: tf.Tensor) -> tf.Tensor:
    """The sum over the entries of each map: (..., d, d, N) -> (..., N)."""
    return tf.reduce_sum(entries, axis=[-3, -2])
