"""Prior samples of a finished run."""

import logging
import math
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

from svae.jobs.files import replacing
from svae.jobs.hdf5 import CHUNK_BYTES, new_hdf5
from svae.jobs.provenance import software
from svae.model.saved import load_model
from svae.model.vae import SpatialVAE
from svae.sampling import prior_file
from svae.sampling.file import NAME
from svae.settings.sampling import SamplingSettings
from svae.streams import Stream, generator

log = logging.getLogger(__name__)


def sample(folder: Path | str, target: Path | str, settings: SamplingSettings) -> None:
    """Write decoder means of latents from the prior, of the run in `folder`, into `target`, h5.

    The prior is N(0, I), or the one of prior.h5 in the folder if one is fitted (svae.sampling.fit).

    Data set `samples`: float32 (n_samples, height, width, channel) in [-1, 1], not quantised and
    without the decoder's noise; attributes: their provenance. All z come from one stream of the
    run's seed: the first n samples do not depend on how many are drawn.
    """
    model, record = load_model(folder)
    if settings.fitted_prior or settings.prior_statistics:
        latents, statistics = settings.fitted_prior, settings.prior_statistics
        prior_file.use(folder, model, record, 0, latents, statistics)
    with replacing(target) as temporary, new_hdf5(temporary) as file:
        shape = (settings.n_samples, *model.image_shape)
        image_bytes = 4 * math.prod(model.image_shape)
        images = max(1, min(settings.n_samples, CHUNK_BYTES // image_bytes))
        chunks = (images, *model.image_shape)
        samples = file.add(NAME, shape=shape, dtype=np.float32, chunks=chunks)
        fill(samples, model, settings, generator(record["seed"], Stream.PRIOR_LATENTS))
        file.attrs.update(
            {
                "variant": record["variant"],
                "dataset": record["dataset"],
                "dataset_checksum": record["dataset_checksum"],
                "weights_sha256": record["weights_sha256"],
                "seed": record["seed"],
                "prior": model.prior.description,
                "pixel_range": [-1.0, 1.0],
                "batch_norm": settings.batch_norm,
                **{f"software_{k}": v for k, v in software("tensorflow", "keras").items()},
            }
        )
    log.info("%s: %d samples", record["variant"], settings.n_samples)


def redrawn(folder: Path | str, settings: SamplingSettings, times: int) -> Iterator[np.ndarray]:
    """Yield further sets of samples of the run in `folder`, each from its own stream: float32
    (n_samples, height, width, channel), in one array, which the next set overwrites."""
    if not times:
        return
    model, record = load_model(folder)
    samples = np.empty((settings.n_samples, *model.image_shape), np.float32)
    for number in range(times):
        if settings.fitted_prior or settings.prior_statistics:
            latents, statistics = settings.fitted_prior, settings.prior_statistics
            prior_file.use(folder, model, record, 1 + number, latents, statistics)
        rng = generator(record["seed"], Stream.FRESH_PRIOR_LATENTS, number)
        fill(samples, model, settings, rng)
        yield samples


def fill(
    samples: np.ndarray | h5py.Dataset,
    model: SpatialVAE,
    settings: SamplingSettings,
    rng: np.random.Generator,
) -> None:
    """Write decoder means for z from the model's prior into `samples`, float32 (n_samples, height,
    width, channel). The noise of the z is drawn from `rng`."""
    batch_statistics = settings.batch_norm == "batch"
    decode = tf.function(
        lambda z: model.decode(z, batch_statistics=batch_statistics),
        reduce_retracing=True,
        autograph=False,
    )
    for start in range(0, settings.n_samples, settings.batch_size):
        count = min(settings.batch_size, settings.n_samples - start)
        noise = rng.standard_normal((count, *model.latent_shape), np.float32)
        z = model.prior.sample(tf.constant(noise))
        samples[start : start + count] = decode(z).numpy()
