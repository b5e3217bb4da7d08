"""EfficientNet-Lite, as far as it is needed to compute features.

The networks of Tan and Le 2019 (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6
instead of swish, which Google published in 2020: a convolution (the stem), blocks of MobileNetV2's
kind, a 1x1 convolution to 1,280 maps (the head), their means over positions, and a linear
classifier. Convolutions are padded as TensorFlow's "SAME" does; the epsilon of batch norm is 0.001.

Batch norm with fixed statistics is a linear map of each channel, and is part of the convolution
before it:

    gamma (k * x - mean) / sqrt(var + epsilon) + beta = (s k) * x + (beta - s mean),
    s = gamma / sqrt(var + epsilon)

The names of the weights are those of the package efficientnet_lite_pytorch, whose forward pass
`python benchmarks/features.py` compares with this one.
"""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import tensorflow as tf

EPSILON = 0.001

# Inputs are (u - 127) / 128 for bytes u, as the networks were trained.
INPUT_MEAN, INPUT_SCALE = 127.0, 128.0


class Stage(NamedTuple):
    blocks: int
    kernel: int
    stride: int  # of the first block; 1 for the others
    expansion: int
    filters: int


# Of Lite0, which the other networks scale.
STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)


def stages(width: float, depth: float) -> list[Stage]:
    """The stages of a network of these coefficients. Filters are multiples of 8; the numbers of
    blocks of the first and the last stage are not scaled, nor are stem and head."""
    scaled = []
    for index, stage in enumerate(STAGES):
        ends = index in (0, len(STAGES) - 1)
        blocks = stage.blocks if ends else math.ceil(depth * stage.blocks)
        scaled.append(stage._replace(blocks=blocks, filters=_filters(width * stage.filters)))
    return scaled


def _filters(wanted: float) -> int:
    """The multiple of 8 next to `wanted`, but not below 90 % of it."""
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class EfficientNetLite:
    """A network with given weights.

    weights: tensors by name, as svae.features.torch_weights.read gives them. width, depth: the
    coefficients of the network, 1 and 1 for Lite0. KeyError or ValueError if the weights are of
    another network.
    """

    def __init__(self, weights: Mapping[str, np.ndarray], width: float, depth: float):
        self._weights = weights
        self._layers: list[Callable[[tf.Tensor], tf.Tensor]] = [
            self._convolution("_conv_stem", "_bn0", stride=2)
        ]
        number, channels = 0, 32
        for stage in stages(width, depth):
            for block in range(stage.blocks):
                stride = stage.stride if block == 0 else 1
                name = f"_blocks.{number}."
                self._check(f"{name}_depthwise_conv.weight", channels * stage.expansion, stage)
                self._layers.append(
                    self._block(name, stage, stride, stride == 1 and channels == stage.filters)
                )
                number, channels = number + 1, stage.filters
        if f"_blocks.{number}._bn1.weight" in weights:
            raise ValueError(f"the weights have more than {number} blocks")
        self._layers.append(self._convolution("_conv_head", "_bn1"))

    def features(self, x: tf.Tensor) -> tf.Tensor:
        """x: float32 (n, height, width, 3), normalised as at INPUT_MEAN -> (n, 1280)."""
        for layer in self._layers:
            x = layer(x)
        return tf.reduce_mean(x, axis=(1, 2))

    def logits(self, features: tf.Tensor) -> tf.Tensor:
        """(n, 1280) -> (n, 1000), of the classes of ImageNet in their usual order."""
        return features @ self._weights["_fc.weight"].T + self._weights["_fc.bias"]

    def _check(self, name: str, channels: int, stage: Stage) -> None:
        shape = (channels, 1, stage.kernel, stage.kernel)
        if self._weights[name].shape != shape:
            raise ValueError(f"{name} has shape {self._weights[name].shape}, not {shape}")

    def _block(
        self, name: str, stage: Stage, stride: int, residual: bool
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """Expand, filter each map, project; where shapes allow, add the input."""
        layers = []
        if stage.expansion > 1:
            layers.append(self._convolution(f"{name}_expand_conv", f"{name}_bn0"))
        layers.append(self._depthwise(f"{name}_depthwise_conv", f"{name}_bn1", stride))
        layers.append(self._convolution(f"{name}_project_conv", f"{name}_bn2", linear=True))

        def block(x: tf.Tensor) -> tf.Tensor:
            y = x
            for layer in layers:
                y = layer(y)
            return x + y if residual else y

        return block

    def _convolution(
        self, name: str, norm: str, stride: int = 1, linear: bool = False
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        kernel, bias = self._folded(name, norm)
        kernel = kernel.transpose(2, 3, 1, 0)  # height, width, channels in, channels out

        def convolution(x: tf.Tensor) -> tf.Tensor:
            y = tf.nn.bias_add(tf.nn.conv2d(x, kernel, stride, "SAME"), bias)
            return y if linear else tf.nn.relu6(y)

        return convolution

    def _depthwise(self, name: str, norm: str, stride: int) -> Callable[[tf.Tensor], tf.Tensor]:
        kernel, bias = self._folded(name, norm)
        kernel = kernel.transpose(2, 3, 0, 1)  # height, width, channel, 1

        def depthwise(x: tf.Tensor) -> tf.Tensor:
            strides = (1, stride, stride, 1)
            return tf.nn.relu6(
                tf.nn.bias_add(tf.nn.depthwise_conv2d(x, kernel, strides, "SAME"), bias)
            )

        return depthwise

    def _folded(self, name: str, norm: str) -> tuple[np.ndarray, np.ndarray]:
        """The kernel, (out, in, height, width), and the bias, (out,), of a convolution with its
        batch norm."""
        gamma, beta, mean, var = (
            self._weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = gamma / np.sqrt(var + EPSILON)
        kernel = self._weights[f"{name}.weight"] * scale[:, None, None, None]
        return kernel.astype(np.float32), (beta - mean * scale).astype(np.float32)
