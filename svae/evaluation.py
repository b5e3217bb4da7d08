"""The terms of the objective on a set of images: SSE, KL, active units."""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from svae import objectives, posteriors
from svae.model import EVALUATION, SpatialVAE, per_image, scaled

# Burda, Grosse, Salakhutdinov 2016: the posterior mean of an active unit varies more than this.
ACTIVE_VARIANCE = 0.01
BATCH = 500  # images; decides which noise an image gets


class Evaluator:
    """Evaluates a model with the moving statistics and without dropout.

    `check` is called before each batch, and stops the evaluation by raising.
    """

    def __init__(self, model: SpatialVAE, check: Callable[[], None] = lambda: None):
        self.model, self.check = model, check
        self._terms = tf.function(self._batch_terms, reduce_retracing=True)

    def _batch_terms(self, images: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        model = self.model
        x = scaled(images)
        loc, log_var = model.encode(x)
        z = model.draw(loc, log_var, EVALUATION, index)
        sampled, mean = (per_image(tf.square(x - model.decode(latent))) for latent in (z, loc))
        kl = tf.reduce_sum(posteriors.kl(loc, log_var), axis=[1, 2])  # (batch, N)
        return sampled, mean, kl, loc

    def __call__(self, images: np.ndarray | h5py.Dataset) -> dict[str, Any]:
        """Terms of uint8 `images` (n, height, width, channel), means over the images.

        They are read slice by slice: an open h5py dataset need not fit into memory.

        sse_per_image: squared error on [-1, 1] summed over the pixels, from one posterior sample an
        image (fixed seed); sse_per_image_posterior_mean: the same from the posterior mean;
        mse_per_pixel; kl_nats_per_image, and its parts by latent map, N numbers;
        active_entries and active_maps: how many have a posterior mean whose variance over the
        images is above 0.01 (a map: any of its entries).
        """
        errors = np.zeros(2)
        kl = np.zeros(self.model.latent_shape[-1])
        first = np.zeros(self.model.latent_shape)
        second = np.zeros(self.model.latent_shape)
        for index, start in enumerate(range(0, len(images), BATCH)):
            self.check()
            batch = tf.constant(images[start : start + BATCH])
            *sse, divergence, loc = self._terms(batch, tf.constant(index))
            errors += [np.sum(term, dtype=np.float64) for term in sse]
            kl += np.sum(divergence, axis=0, dtype=np.float64)
            loc = loc.numpy().astype(np.float64)
            first += loc.sum(axis=0)
            second += np.square(loc).sum(axis=0)
        sse, sse_mean = errors / len(images)
        kl /= len(images)
        active = second / len(images) - np.square(first / len(images)) > ACTIVE_VARIANCE
        return {
            "n_images": len(images),
            "sse_per_image": float(sse),
            "sse_per_image_posterior_mean": float(sse_mean),
            "mse_per_pixel": float(sse / self.model.dimension),
            "kl_nats_per_image": float(kl.sum()),
            "kl_nats_per_map": kl.tolist(),
            "active_entries": int(active.sum()),
            "active_maps": int(active.any(axis=(0, 1)).sum()),
            "latent_entries": int(active.size),
            "latent_maps": int(active.shape[-1]),
        }

    def objective(self, terms: dict[str, Any]) -> dict[str, float]:
        """SSE + w KL, or the ELBO in nats (at beta = 1, whatever beta trains); no warm-up."""
        model = self.model
        sse, kl = terms["sse_per_image"], terms["kl_nats_per_image"]
        if model.settings.objective == "weighted":
            return {"objective_sse_plus_w_kl": sse + model.settings.kl_weight * kl}
        log_variance = float(model.log_variance.numpy())
        loss = objectives.negative_elbo(sse, kl, log_variance, model.dimension, beta=1.0)
        return {"elbo_nats_per_image": -float(loss)}
