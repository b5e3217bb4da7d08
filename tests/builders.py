"""Small settings, images, and references in plain numpy that several test files share."""

import numpy as np

from svae.model import SpatialVAE
from svae.settings.training import TrainingSettings

SETTINGS = TrainingSettings(
    posterior="low_rank",
    latent_maps=4,
    latent_size=3,
    dropout=0.1,
    objective="weighted",
    kl_weight=2.0,
    decoder_variance=None,
    decoder_variance_learning_rate=0.05,
    beta=1.0,
    kl_warmup_epochs=0.0,
    epochs=1,
    batch_size=8,
    learning_rate=1e-3,
    learning_rate_schedule="constant",
    learning_rate_warmup_epochs=0.0,
    gradient_clip_norm=None,
    early_stopping_patience=None,
    precision="float32",
    jit_compile=False,
    image_memory_mb=1000,
    threads=1,
)
ELBO = {"objective": "elbo", "kl_weight": None}
SHAPE = (32, 32, 3)


def settings(**changes):
    """Tiny settings: low_rank 3x3x4 under SSE + 2 KL; a vanilla posterior gets latent_size 1."""
    if changes.get("posterior") == "vanilla":
        changes = {"latent_size": 1, **changes}
    return TrainingSettings(**{**vars(SETTINGS), **changes})


def make_model(shape=SHAPE, padding=0, seed=1, data_variance=0.3, steps_per_epoch=1, **changes):
    model = SpatialVAE(shape, padding, settings(**changes), seed)
    model.compile_for(steps_per_epoch, data_variance)
    return model


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


def step(model, images, train_step=None):
    """One training step -> {loss, sse, kl} of this batch alone."""
    for metric in model.metrics:
        metric.reset_state()
    return {name: float(value) for name, value in (train_step or model.train_step)(images).items()}


def gaussian_kl(mean, cov):
    """KL(N(mean, cov) || N(0, I)) in nats, for any covariance matrix."""
    log_det = np.linalg.slogdet(cov)[1]
    return 0.5 * (np.trace(cov) + mean @ mean - len(mean) - log_det)
