"""The initial state of trainings: KL, SSE and pre-tanh activations of untrained networks.

    python benchmarks/initialization.py STORE

STORE is an h5 store of 64x64x3 images, such as data/celeba.h5. Prints one JSON line per posterior
and `model.initialization`, for 200 training images with batch statistics, as in the first step.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf
from common import SETTINGS

from svae.datasets.store import Store
from svae.model.posteriors import POSTERIORS
from svae.model.vae import SpatialVAE, per_image, scaled
from svae.streams import Stream
from svae.training.initialization import start_outputs

IMAGES = 200


def start_of(name: str, initialization: str, images: np.ndarray) -> dict[str, float | str]:
    settings = replace(
        SETTINGS,
        posterior=name,
        latent_size=1 if name == "vanilla" else 3,
        initialization=initialization,
        log_var_limit=None,
    )
    x = scaled(tf.constant(images[:IMAGES]))
    model = SpatialVAE(tuple(x.shape[1:]), 0, settings, seed=0)
    if initialization == "data":
        start_outputs(model, images)
    posterior = model.encode(x, batch_statistics=True)
    z = model.sample_posterior(posterior, Stream.TRAINING_LATENTS, 0)
    a = model.preactivation(z, batch_statistics=True)
    return {
        "posterior": name,
        "initialization": initialization,
        "kl_nats_per_image": float(tf.reduce_mean(tf.reduce_sum(posterior.kl(), axis=1))),
        "sse_per_image": float(tf.reduce_mean(per_image(tf.square(x - tf.tanh(a))))),
        "spread_of_means": float(tf.math.reduce_std(posterior.mean)),
        "largest_preactivation": float(tf.reduce_max(abs(a))),
        "share_beyond_4": float(np.mean(abs(a.numpy()) > 4)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", type=Path)
    with Store(parser.parse_args().store) as store:
        images = store.images("train")
    for name in POSTERIORS:
        for initialization in ("published", "data"):
            print(json.dumps(start_of(name, initialization, images)))


if __name__ == "__main__":
    main()
