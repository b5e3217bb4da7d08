"""Linear transforms of feature maps by unit lower triangular matrices: ones on the diagonal, zeros
above it. Their determinant is 1.

Only inverses and determinants need that form: `RowsAndColumns` multiplies by any matrices.

Maps X have the shape (..., batch, d, d, N), like noise and latents, and matrices (batch, m, m, N).
Products are sums of products of entries, not matrix products: a GPU would round those to
TF32, while the posterior is computed in float32. A product with the identity keeps every bit.
"""

import abc
from dataclasses import dataclass

import tensorflow as tf


class Transform(abc.ABC):
    """A linear transform T of the d^2 entries of a map."""

    @abc.abstractmethod
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        """T(x), (..., batch, d, d, N)."""

    @abc.abstractmethod
    def solve(self, x: tf.Tensor) -> tf.Tensor:
        """T^-1(x), (..., batch, d, d, N)."""

    @abc.abstractmethod
    def squares(self) -> "Transform":
        """The transform whose coefficients are the squares of those of T: that of variances of
        independent entries."""


@dataclass(frozen=True)
class RowsAndColumns(Transform):
    """X -> A X B^T. On the entries row by row, the Kronecker product of A and B."""

    rows: tf.Tensor
    """A, (batch, d, d, N)."""
    columns: tf.Tensor
    """B, (batch, d, d, N)."""

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        a, b = self.rows, self.columns
        d = range(a.shape[1])
        # TensorFlow cannot broadcast all of these products in one multiplication.
        x = tf.add_n([a[:, :, k, None, :] * x[..., None, k, :, :] for k in d])  # A X
        return tf.add_n([x[..., :, k, None, :] * b[:, None, :, k, :] for k in d])

    def solve(self, x: tf.Tensor) -> tf.Tensor:
        x = _solved(self.rows, tf.einsum("...ijn->...nij", x))  # A^-1 X
        x = _solved(self.columns, tf.linalg.matrix_transpose(x))  # B^-1 (A^-1 X)^T
        return tf.einsum("...nji->...ijn", x)

    def squares(self) -> Transform:
        return RowsAndColumns(tf.square(self.rows), tf.square(self.columns))


@dataclass(frozen=True)
class AllEntries(Transform):
    """vec(X) -> L vec(X), vec(X) the entries row by row."""

    matrix: tf.Tensor
    """L, (batch, d^2, d^2, N)."""

    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        vector = self._vectors(x)[..., None, :, :]  # (..., batch, 1, d^2, N)
        return tf.reshape(tf.reduce_sum(self.matrix * vector, axis=-2), tf.shape(x))

    def solve(self, x: tf.Tensor) -> tf.Tensor:
        column = tf.einsum("...in->...ni", self._vectors(x))[..., None]
        found = _solved(self.matrix, column)[..., 0]
        return tf.reshape(tf.einsum("...ni->...in", found), tf.shape(x))

    def _vectors(self, x: tf.Tensor) -> tf.Tensor:
        """(..., batch, d, d, N) -> (..., batch, d^2, N)."""
        _, entries, _, maps = self.matrix.shape
        return tf.reshape(x, tf.concat([tf.shape(x)[:-3], [entries, maps]], axis=0))

    def squares(self) -> Transform:
        return AllEntries(tf.square(self.matrix))


def unit_lower(entries: tf.Tensor, m: int) -> tf.Tensor:
    """The matrices with these entries below the diagonal, row by row.

    (batch, m (m - 1) / 2, N) -> (batch, m, m, N).
    """
    batch, maps = tf.shape(entries)[0], entries.shape[-1]
    parts, start = [], 0
    for i in range(m):
        parts += [
            entries[:, start : start + i],
            tf.ones([batch, 1, maps], entries.dtype),
            tf.zeros([batch, m - 1 - i, maps], entries.dtype),
        ]
        start += i
    return tf.reshape(tf.concat(parts, axis=1), [-1, m, m, maps])


def _solved(matrix: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """A^-1 X: matrix (batch, m, m, N), x (..., batch, N, m, k), which is the shape returned."""
    return tf.linalg.triangular_solve(tf.einsum("bijn->bnij", matrix), x)
