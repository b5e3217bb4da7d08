"""Small settings and images, and references in plain NumPy, for several test files."""

from dataclasses import replace

import numpy as np
import tensorflow as tf

from svae.model.vae import SpatialVAE
from svae.settings.training import TrainingSettings
from svae.training.step import TrainingStep

# A tiny model as published; otherwise the defaults.
SETTINGS = TrainingSettings(
    posterior="low_rank",
    low_rank_start="published",
    latent_maps=4,
    log_var_limit=None,
    initialization="published",
    kl_weight=2.0,
    decoder_variance_learning_rate=0.05,
    epochs=1,
    batch_size=8,
    learning_rate_schedule="constant",
    learning_rate=0.001,
    learning_rate_warmup_epochs=0.0,
    saturation_penalty=0.0,
    on_spike="stop",
    threads=1,
)
ELBO = {"objective": "elbo", "kl_weight": None}
SHAPE = (32, 32, 3)


def settings(**changes):
    """Tiny settings: low_rank 3x3x4 under SSE + 2 KL; a vanilla posterior gets latent_size 1."""
    if changes.get("posterior") == "vanilla":
        changes = {"latent_size": 1, **changes}
    return replace(SETTINGS, **changes)


def make_model(shape=SHAPE, padding=0, seed=1, **changes):
    return SpatialVAE(shape, padding, settings(**changes), seed)


def make_step(*arguments, data_variance=0.3, steps_per_epoch=1, **changes):
    """The training step of a model made by `make_model`."""
    return TrainingStep(make_model(*arguments, **changes), steps_per_epoch, data_variance)


def make_images(n=8, shape=SHAPE, seed=0):
    """uint8 (n, *shape): smooth, so that a model can learn them, and different from each other."""
    height, width, channels = shape
    down, right = np.random.default_rng(seed).uniform(0.1, 0.6, (2, n, 1, 1, channels))
    y, x = np.mgrid[:height, :width][..., None]
    waves = np.sin(down * y + right * x)
    return np.round(127.5 * (1 + 0.9 * waves)).astype(np.uint8)


def to_x(images):
    """uint8 -> float32 in [-1, 1]."""
    return (images / 127.5 - 1).astype(np.float32)


def step(take_step, images, compiled=None):
    """Take the next training step; return {loss, sse, kl} of this batch."""
    number = tf.cast(take_step.optimizer.iterations, tf.int64)
    terms = (compiled or take_step)(images, number)
    return {name: float(value) for name, value in terms.items()}


def gaussian_kl(mean, cov):
    """KL(N(mean, cov) || N(0, I)) in nats, for any covariance matrix."""
    log_det = np.linalg.slogdet(cov)[1]
    return 0.5 * (np.trace(cov) + mean @ mean - len(mean) - log_det)
