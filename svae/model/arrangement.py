"""Arrangements: a linear map of fixed size between latent and decoder, F -> T(F).

    permuted   moves entry (i, j) of every map to (i + j, i - j) mod d, a bijection for odd d: the
               same latent without its neighbourhoods
    separable  F -> L F K^T with learned d x d matrices L and K for each map: what the decoder gets
               then has a learned matrix-variate normal prior, MVN(0, L L^T (x) K K^T)
    dense      a learned matrix times all N d^2 entries: a vector latent

Without one (`arrangement: maps`), the decoder gets the latent itself. The learned ones start as the
identity: the model then has the same weights, noise and outputs as without one, bit for bit. The
posterior and its KL are those of the latent before the map, with prior N(0, I).

All computations and weights are float32, whatever the precision of the networks.
"""

from typing import Literal

import keras
import numpy as np
import tensorflow as tf

from svae.model.triangular import RowsAndColumns


class Permuted(keras.layers.Layer):
    """(batch, d, d, N) -> (batch, d, d, N), the maps permuted."""

    def __init__(self, d: int):
        super().__init__(dtype="float32")
        self.sources = sources(d)

    def call(self, z: tf.Tensor) -> tf.Tensor:
        d, maps = z.shape[-2], z.shape[-1]
        entries = tf.gather(tf.reshape(z, [-1, d * d, maps]), self.sources, axis=1)
        return tf.reshape(entries, [-1, d, d, maps])


class Separable(keras.layers.Layer):
    """(batch, d, d, N) -> (batch, d, d, N): L F K^T of every map F."""

    def __init__(self, d: int, maps: int):
        super().__init__(dtype="float32")
        shape = d, d, maps
        self.rows = self.add_weight(shape=shape, initializer=_identities, name="rows")  # L
        self.columns = self.add_weight(shape=shape, initializer=_identities, name="columns")  # K

    def call(self, z: tf.Tensor) -> tf.Tensor:
        rows, columns = tf.convert_to_tensor(self.rows), tf.convert_to_tensor(self.columns)
        return RowsAndColumns(rows[None], columns[None])(z)


class Dense(keras.layers.Layer):
    """(batch, d, d, N) -> (batch, d, d, N): a matrix times all entries of a latent."""

    def __init__(self, d: int, maps: int):
        super().__init__(dtype="float32")
        entries = d * d * maps
        self.matrix = self.add_weight(
            shape=(entries, entries), initializer=keras.initializers.Identity(), name="matrix"
        )

    def call(self, z: tf.Tensor) -> tf.Tensor:
        entries = self.matrix.shape[0]
        return tf.reshape(tf.matmul(tf.reshape(z, [-1, entries]), self.matrix), tf.shape(z))


def arrangement(
    name: Literal["permuted", "separable", "dense"], d: int, maps: int
) -> keras.layers.Layer:
    """The layer for N = `maps` maps of d x d. It draws no random numbers."""
    if name == "permuted":
        return Permuted(d)
    return Separable(d, maps) if name == "separable" else Dense(d, maps)


def sources(d: int) -> np.ndarray:
    """int (d^2,): for each entry of a permuted map, row by row, the entry that moves there.

    ValueError for an even d, for which two entries would move to the same place.
    """
    if d % 2 == 0:
        raise ValueError(f"latent_size is {d}, but maps can be permuted only if it is odd")
    i, j = np.divmod(np.arange(d * d), d)
    return np.argsort((i + j) % d * d + (i - j) % d)


def _identities(shape: tuple[int, ...], dtype: str) -> tf.Tensor:
    """One identity matrix per map: (d, d, N)."""
    return tf.repeat(tf.eye(shape[0], dtype=dtype)[:, :, None], shape[2], axis=2)
