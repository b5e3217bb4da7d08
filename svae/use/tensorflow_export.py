"""A trained model as a TensorFlow SavedModel, which runs without svae and without Keras.

Its signatures take and return named tensors; n is any number:

    decode       z float32 (n, d, d, N) -> images uint8 (n, height, width, channel)
    encode       images -> mean and variance float32 (n, d, d, N), kl float32 (n, N) in nats
    reconstruct  images -> images, from posterior means
    sample       n and seed, two int64 scalars -> images, and their z

`sample` gives other images than svae for the same seed, because its random numbers are
TensorFlow's; the same seed always gives the same ones.
"""

import os
from pathlib import Path
from typing import Any

import tensorflow as tf

from svae.errors import UserError
from svae.jobs.disk import disk_explained, number_of, scratch_folder
from svae.jobs.files import flush, flush_tree
from svae.model import keyed_random
from svae.model.vae import SpatialVAE, scaled
from svae.pixels import HALF_RANGE
from svae.streams import Stream


def write(model: SpatialVAE, of_means: SpatialVAE, target: Path | str) -> None:
    """Write the SavedModel into a new folder, whole or not at all.

    of_means: the model whose decoder reconstructs from posterior means. UserError if `target`
    exists or the disk is full.
    """
    target = Path(target)
    if target.exists():
        raise UserError(f"{target} exists; delete it, or give another folder")
    with disk_explained(target), scratch_folder(target) as scratch:
        module = tf.Module()
        # A SavedModel contains the variables that its module has as attributes.
        module.weights_of_model = [weight.value for weight in model.weights]
        module.weights_of_means = [weight.value for weight in of_means.weights]
        try:
            tf.saved_model.save(module, str(scratch / "whole"), _signatures(model, of_means))
        except tf.errors.OpError as error:
            number = number_of(str(error))
            if number is None:
                raise
            raise OSError(number, os.strerror(number)) from error
        flush_tree(scratch / "whole")
        (scratch / "whole").rename(target)
        flush(target.parent)


def _signatures(model: SpatialVAE, of_means: SpatialVAE) -> dict[str, Any]:
    images = tf.TensorSpec((None, *model.image_shape), tf.uint8, "images")
    z = tf.TensorSpec((None, *model.latent_shape), tf.float32, "z")
    scalars = [tf.TensorSpec((), tf.int64, name) for name in ("n", "seed")]

    @tf.function(input_signature=[z])
    def decode(z: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _bytes(model.decode(z))}

    @tf.function(input_signature=[images])
    def encode(images: tf.Tensor) -> dict[str, tf.Tensor]:
        posterior = model.encode(scaled(images))
        return {"mean": posterior.mean, "variance": posterior.variance, "kl": posterior.kl()}

    @tf.function(input_signature=[images])
    def reconstruct(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"images": _bytes(of_means.decode(model.encode(scaled(images)).mean))}

    @tf.function(input_signature=scalars)
    def sample(n: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        shape = tf.concat([[tf.cast(n, tf.int32)], model.latent_shape], 0)
        key = tf.stack([seed, tf.constant(int(Stream.PRIOR_LATENTS), tf.int64)])
        z = model.prior.sample(keyed_random.normal(shape, key))
        return {"images": _bytes(model.decode(z)), "z": z}

    functions = (decode, encode, reconstruct, sample)
    return {function.python_function.__name__: function for function in functions}


def _bytes(x: tf.Tensor) -> tf.Tensor:
    """svae.pixels.to_bytes in TensorFlow, for x from the decoder, which is in [-1, 1]."""
    return tf.cast(tf.round(HALF_RANGE * (x + 1.0)), tf.uint8)
