"""The terms of the objective on a set of images: SSE, KL, active units."""

from typing import Any

import numpy as np
import tensorflow as tf

from svae import posteriors
from svae.model import EVALUATION, SpatialVAE, draw_key

ACTIVE_VARIANCE = (
    0.01  # Burda, Grosse, Salakhutdinov 2016: an active unit's posterior mean varies more
)
BATCH = 500


class Evaluator:
    """Evaluates a model on images in [-1, 1] with the moving statistics and without dropout."""

    def __init__(self, model: SpatialVAE):
        self.model = model
        self._terms = tf.function(self._batch_terms, reduce_retracing=True)

    def _batch_terms(self, images: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        model = self.model
        x = tf.cast(images, tf.float32) / 127.5 - 1.0
        loc, log_var = model.encode(x)
        noise = tf.random.stateless_normal(tf.shape(loc), draw_key(model.seed, EVALUATION, index))
        kl = tf.reduce_sum(posteriors.kl(loc, log_var), axis=[1, 2, 3])
        sampled, mean = (
            tf.reduce_sum(tf.square(x - model.decode(z)), axis=[1, 2, 3])
            for z in (posteriors.sample(loc, log_var, noise), loc)
        )
        return sampled, mean, kl, loc

    def __call__(self, images: np.ndarray) -> dict[str, Any]:
        """Terms per image over uint8 `images` (n, height, width, channel).

        sse: mean squared error summed over the pixels, from one posterior sample an image (fixed
        seed); sse_posterior_mean: from the posterior mean; kl in nats; active entries and maps:
        those whose posterior mean has a variance over the images above 0.01 (a map by any entry).
        """
        sums = np.zeros(3)
        first = np.zeros(self.model.latent_shape)
        second = np.zeros(self.model.latent_shape)
        for index, start in enumerate(range(0, len(images), BATCH)):
            batch = tf.constant(images[start : start + BATCH])
            *terms, loc = self._terms(batch, tf.constant(index))
            sums += [np.sum(term, dtype=np.float64) for term in terms]
            loc = loc.numpy().astype(np.float64)
            first += loc.sum(axis=0)
            second += np.square(loc).sum(axis=0)
        sse, sse_mean, kl = sums / len(images)
        active = second / len(images) - np.square(first / len(images)) > ACTIVE_VARIANCE
        return {
            "n_images": len(images),
            "sse_per_image": float(sse),
            "sse_per_image_posterior_mean": float(sse_mean),
            "mse_per_pixel": float(sse / self.model.dimension),
            "kl_nats_per_image": float(kl),
            "active_entries": int(active.sum()),
            "active_maps": int(active.any(axis=(0, 1)).sum()),
            "latent_entries": int(active.size),
            "latent_maps": int(active.shape[-1]),
        }

    def objective(self, terms: dict[str, Any]) -> dict[str, float]:
        """The objective at these terms (no warm-up), under the name of its unit."""
        model = self.model
        log_variance = float(model.log_variance.numpy())
        value = float(
            model.objective(terms["sse_per_image"], terms["kl_nats_per_image"], log_variance)
        )
        if model.settings.objective == "weighted":
            return {"objective_sse_plus_w_kl": value}
        return {"elbo_nats_per_image": -value}
