"""Encoder and decoder of the published code, generalised to any image and latent size.

Encoder: 5x5 convolutions of stride 2 with 32 (SAME), 64 (SAME) and 128 (VALID) filters, dropout,
one linear layer. Decoder: transposed convolutions, 3x3 s2 (64 filters; 48 after the vanilla stem),
3x3 s1 VALID (32), then k times 5x5 s2, the last one with as many filters as the image has channels.
Batch norm (epsilon 1e-3, with scale) follows each convolution, and ELU each but the decoder's last,
whose output svae.model.vae passes through tanh. For 64x64x3 this is the architecture of the code
published with arXiv 1705.06821; for 32x32 its 16-filter layer is left out.

Initialization `published` is Glorot and Bengio's for kernels, and 1 for scales. With `data` the
encoder's linear layer starts at a tenth of that, so that the KL starts near 0 instead of at
hundreds of nats, and svae.training.initialization sets the decoder's last batch norm.

`dtype` is the Keras dtype policy, from the setting `precision`: the type of the layers'
computations and outputs. Weights and batch-norm statistics are float32 under all policies.
"""

import keras
import tensorflow as tf

from svae.model import fast_layers, keyed_random
from svae.model.geometry import check

# The moving averages are used only for validation terms during training, and are re-estimated after
# it (svae.model.batch_norm): with a short memory they follow the weights.
MOMENTUM = 0.9
EPSILON = 1e-3
SMALL_KERNEL = 0.1  # factor


class Block(keras.layers.Layer):
    """Convolution (or transposed convolution), batch norm, activation."""

    def __init__(self, convolution: keras.layers.Layer, activation: str = "elu"):
        super().__init__(dtype=convolution.dtype_policy)
        self.convolution = convolution
        self.batch_norm = keras.layers.BatchNormalization(
            momentum=MOMENTUM, epsilon=EPSILON, dtype=self.dtype_policy
        )
        self.activation = keras.activations.get(activation)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.convolution.build(input_shape)
        self.batch_norm.build(self.convolution.compute_output_shape(input_shape))

    def call(self, x: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        if isinstance(self.convolution, keras.layers.Conv2DTranspose):
            x = fast_layers.transposed_convolution(self.convolution, x)
        else:
            x = self.convolution(x)
        x = fast_layers.batch_norm(self.batch_norm, x) if batch_statistics else self.batch_norm(x)
        return self.activation(x)


def _convolution(filters: int, padding: str, dtype: str) -> Block:
    return Block(
        keras.layers.Conv2D(filters, 5, strides=2, padding=padding, use_bias=False, dtype=dtype)
    )


def _transposed(
    filters: int,
    kernel: int,
    strides: int,
    padding: str,
    dtype: str,
    activation: str = "elu",
) -> Block:
    layer = keras.layers.Conv2DTranspose(
        filters, kernel, strides=strides, padding=padding, use_bias=False, dtype=dtype
    )
    return Block(layer, activation)


class Encoder(keras.layers.Layer):
    """Images (batch, height, width, channel) in [-1, 1] -> raw outputs (batch, outputs)."""

    def __init__(
        self,
        outputs: int,
        dropout: float,
        dtype: str = "float32",
        initialization: str = "published",
    ):
        super().__init__(dtype=dtype)
        self.blocks = [
            _convolution(32, "same", dtype),
            _convolution(64, "same", dtype),
            _convolution(128, "valid", dtype),
        ]
        self.flatten = keras.layers.Flatten(dtype=dtype)
        self.dropout = dropout
        # Glorot and Bengio's uniform kernel, whose variance scales with the square of the factor.
        factor = SMALL_KERNEL if initialization == "data" else 1.0
        kernel = keras.initializers.VarianceScaling(factor**2, "fan_avg", "uniform")
        self.outputs = keras.layers.Dense(outputs, kernel_initializer=kernel, dtype=dtype)

    def call(
        self, x: tf.Tensor, batch_statistics: bool = False, dropout_seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """`dropout_seed`: two integers; None: no dropout."""
        for block in self.blocks:
            x = block(x, batch_statistics=batch_statistics)
        x = self.flatten(x)
        if dropout_seed is not None and self.dropout > 0:
            x = keyed_random.dropout(x, self.dropout, dropout_seed)
        return self.outputs(x)


class Decoder(keras.layers.Layer):
    """Latents (batch, d, d, N) -> images (batch, height, width, channel), before the tanh."""

    def __init__(
        self,
        image_size: int,
        channels: int,
        latent_size: int,
        stem: bool,
        dtype: str = "float32",
    ):
        super().__init__(dtype=dtype)
        k = check(image_size, image_size, latent_size, stem)
        self.blocks = [_transposed(64, 3, 1, "valid", dtype)] if stem else []  # 1 -> 3
        self.blocks += [
            _transposed(48 if stem else 64, 3, 2, "same", dtype),  # d -> 2d
            _transposed(32, 3, 1, "valid", dtype),  # 2d -> 2d + 2
        ]
        inner = [32] * (k - 2) + [16] if k > 2 else [32] * (k - 1)
        self.blocks += [_transposed(filters, 5, 2, "same", dtype) for filters in inner]
        self.blocks.append(_transposed(channels, 5, 2, "same", dtype, activation="linear"))

    def call(self, z: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        for block in self.blocks:
            z = block(z, batch_statistics=batch_statistics)
        return z
