"""The features of images in a network: one of the catalogue, or a Keras model of the user's own."""

import json
import math
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from svae.errors import UserError, readable
from svae.features import torch_weights
from svae.features.efficientnet_lite import INPUT_MEAN, INPUT_SCALE, EfficientNetLite
from svae.features.pretrained import PRETRAINED, SUFFIX, Pretrained, missing
from svae.features.resize import matrix
from svae.jobs.files import file_hash
from svae.pixels import to_bytes, to_x

BATCH = 100  # images of SIDES[0] pixels, or fewer larger ones, that are in memory at once
SIDES = 64, 224  # the smallest and the largest at which the pretrained networks see images
SIDE_STEP = 32  # by which they reduce sides

_LARGEST_CONFIG = 64 << 20  # bytes; one layer takes about 1,000
# Where the parts of a Keras model may come from; others could run any code.
_MODULES = re.compile(
    r"keras(\.src)?(\.(activations|constraints|dtype_policies|initializers|layers|losses|metrics"
    r"|models|ops|optimizers|regularizers)(\.\w+)*)?"
)
_REFUSED = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer"}
# Parts without a module: values, not code.
_VALUES = {"__keras_tensor__", "__tensor__", "__numpy__", "__slice__", "__ellipsis__"}


@dataclass(frozen=True, eq=False)
class Network:
    """A network whose features images are compared in.

    title: its name in texts. sha256: of the file with its weights. compute: float32 images
    (n, height, width, channel), pixels as bytes from 0 to 255 -> (n, d). side: (height, width) at
    which it sees the images.
    """

    title: str
    sha256: str
    compute: Callable[[tf.Tensor], tf.Tensor]
    side: tuple[int, int]

    def features(self, images: Any) -> np.ndarray:
        """Images -> float32 (n, d).

        images: uint8 or floats on [-1, 1], (n, height, width, channel), an array or h5py.Dataset.
        Floats are rounded to bytes and clipped first, as if they came from a file. UserError if
        they are not finite.
        """
        batch = max(1, min(BATCH, BATCH * SIDES[0] ** 2 // math.prod(self.side)))
        blocks = []
        for start in range(0, images.shape[0], batch):
            block = np.asarray(images[start : start + batch])
            if block.dtype != np.uint8:
                if not np.isfinite(block).all():
                    raise UserError(
                        f"distances in features: one of the samples {start} to "
                        f"{start + len(block) - 1} has pixels that are NaN or infinite; the "
                        f"training may have diverged, or the file is damaged: make it again"
                    )
                block = to_bytes(block)
            # One size of batch, so that TensorFlow traces once.
            padded = np.zeros((batch, *block.shape[1:]), np.float32)
            padded[: len(block)] = block
            blocks.append(self.compute(padded).numpy()[: len(block)])
        return np.concatenate(blocks)


def open_network(features: str, shape: tuple[int, int, int]) -> Network:
    """The network of a name in the catalogue, or in the file of a path, for images of this shape.

    UserError if its weights are not installed, are damaged, or do not fit the images.
    """
    pretrained = PRETRAINED.get(features)
    if pretrained is None:
        return _own(Path(features), shape)
    if reason := missing(features):
        raise UserError(reason)
    return _pretrained(pretrained, shape)


def side_of(height: int, width: int) -> int:
    """The side at which a pretrained network sees images: 64 pixels; for larger images their own,
    up to the next multiple of 32, and at most 224."""
    needed = SIDE_STEP * math.ceil(max(height, width) / SIDE_STEP)
    return min(max(needed, SIDES[0]), SIDES[1])


def _pretrained(network: Pretrained, shape: tuple[int, int, int]) -> Network:
    assert network.path is not None  # as `missing` says
    weights = torch_weights.read(network.path, network.sha256)
    model = EfficientNetLite(weights, network.width, network.depth)
    side = side_of(*shape[:2])
    resized = _resizing(shape, (side, side), channels=3)

    def compute(u: tf.Tensor) -> tf.Tensor:
        return model.features((resized(u) - INPUT_MEAN) / INPUT_SCALE)

    return Network(
        network.title, network.sha256, tf.function(compute, autograph=False), (side, side)
    )


def _own(path: Path, shape: tuple[int, int, int]) -> Network:
    """A Keras model: images (n, height, width, channel) on [-1, 1] -> (n, d), or (n, h, w, d) whose
    mean over positions is taken."""
    model = _load(path)
    if len(model.inputs) != 1 or len(model.inputs[0].shape) != 4:
        raise UserError(
            f"{path} takes {[tuple(each.shape) for each in model.inputs]}, not one batch of images "
            f"(n, height, width, channel); give a model that does"
        )
    _, height, width, channels = model.inputs[0].shape
    side = (height or shape[0], width or shape[1])
    channels = channels or shape[2]
    if channels not in (shape[2], 3):
        raise UserError(
            f"{path} takes images of {channels} channel(s), but those of the data set have "
            f"{shape[2]}; give a model for those, or for 3"
        )
    resized = _resizing(shape, side, channels)

    def compute(u: tf.Tensor) -> tf.Tensor:
        found = model(to_x(resized(u)), training=False)
        return tf.cast(tf.reduce_mean(found, (1, 2)) if len(found.shape) == 4 else found, "float32")

    network = Network(path.name, file_hash(path), tf.function(compute, autograph=False), side)
    features = network.features(np.zeros((1, *shape), np.uint8))
    if features.ndim != 2 or features.shape[1] < 2 or not np.isfinite(features).all():
        raise UserError(
            f"{path} gives an array of shape {features.shape} for one image, not at least 2 finite "
            f"features (1, d); give a model that does"
        )
    return network


def _resizing(
    shape: tuple[int, int, int], side: tuple[int, int], channels: int
) -> Callable[[tf.Tensor], tf.Tensor]:
    """(n, *shape) -> (n, *side, channels); a single channel is repeated."""
    down, across = (matrix(old, new) for old, new in zip(shape[:2], side, strict=True))
    whole = shape[:2] == side

    def resized(x: tf.Tensor) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        if not whole:
            x = tf.einsum("yh,nhwc->nywc", down, x)
            x = tf.einsum("xw,nywc->nyxc", across, x)
        return tf.repeat(x, channels, axis=3) if x.shape[3] == 1 < channels else x

    return resized


def _load(path: Path) -> Any:
    """A Keras model, from a file that is not trusted: no code in it is run."""
    try:
        with zipfile.ZipFile(path) as file:
            member = file.getinfo("config.json")
            if member.file_size > _LARGEST_CONFIG:
                raise ValueError(f"its config.json has {member.file_size} bytes")
            classes = list(_classes(json.loads(file.read(member))))
    except Exception as error:  # a damaged file can raise nearly anything
        raise UserError(
            f"{path} cannot be read as a Keras model ({readable(str(error))}); give one that "
            f"model.save('NAME{SUFFIX}') has written"
        ) from error
    for module, name in classes:
        known = _MODULES.fullmatch(module) or (not module and name in _VALUES)
        if name in _REFUSED or not known:
            raise UserError(
                f"{path} has a part {readable(name)} of {readable(module) or 'no module'}, which "
                f"may run any code: it was refused and nothing was run; give a model of Keras's "
                f"own layers, without Lambda"
            )
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # a damaged file can raise nearly anything
        reason = readable(str(error))
        raise UserError(f"{path} cannot be read as a Keras model ({reason})") from error


def _classes(config: Any) -> Iterator[tuple[str, str]]:
    """(module, name) of everything that a model's configuration would have made or called."""
    if isinstance(config, dict):
        if "class_name" in config:
            # Text or None in every file that Keras writes.
            yield str(config.get("module") or ""), str(config["class_name"])
        for value in config.values():
            yield from _classes(value)
    elif isinstance(config, list):
        for value in config:
            yield from _classes(value)
