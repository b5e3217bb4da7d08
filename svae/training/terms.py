"""The terms of the objective on a set of images: SSE, KL, active units."""

from collections.abc import Callable
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from svae.model import keyed_random, objectives
from svae.model.vae import SpatialVAE, per_image, scaled
from svae.streams import Stream

# Burda, Grosse, Salakhutdinov 2016: the posterior mean of an active unit varies more than this.
ACTIVE_VARIANCE = 0.01
# A pixel is saturated if its pre-tanh activation is beyond SATURATED, but the image is within GREY.
SATURATED, GREY = 4.0, 0.9
BATCH = 500  # images; determines which noise an image gets


class Evaluator:
    """Evaluates a model with the moving statistics and without dropout.

    `check` is called before each batch; an error that it raises ends the evaluation.
    """

    def __init__(self, model: SpatialVAE, check: Callable[[], None] = lambda: None):
        self.model, self.check = model, check
        self._terms = tf.function(self._batch_terms, reduce_retracing=True, autograph=False)
        self._error_of_means = tf.function(
            self._batch_error_of_means, reduce_retracing=True, autograph=False
        )
        self._lonely = tf.function(self._lonely_pixels, reduce_retracing=True, autograph=False)

    def _batch_terms(self, images: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, ...]:
        model = self.model
        x = scaled(images)
        posterior = model.encode(x)
        z = model.sample_posterior(posterior, Stream.EVALUATION_LATENTS, index)
        a = model.preactivation(z)
        sampled = per_image(tf.square(x - tf.tanh(a)))
        mean = per_image(tf.square(x - model.decode(posterior.mean)))
        saturated = per_image(tf.cast((abs(a) > SATURATED) & (abs(x) < GREY), tf.float32))
        return sampled, mean, saturated, posterior.kl(), posterior.mean

    def __call__(self, images: np.ndarray | h5py.Dataset) -> dict[str, Any]:
        """Terms of uint8 `images` (n, height, width, channel), means over the images.

        They are read slice by slice: an open h5py dataset need not fit into memory.

        sse_per_image: squared error on [-1, 1] summed over the pixels, from one posterior sample
        per image (fixed seed); sse_per_image_posterior_mean: the same from the posterior mean,
        which is too large with the statistics of samples (see svae.model.batch_norm);
        mse_per_pixel; kl_nats_per_image, and its parts by latent map, N numbers;
        active_entries and active_maps: how many have a posterior mean whose variance over the
        images is above 0.01 (a map: any of its entries);
        kl_nats_median and sse_median over the images, and the largest KL: kl_nats_largest, of image
        kl_largest_image (its number in `images`), most of it in kl_largest_map;
        saturated_share: of pixels that are grey (|x| < 0.9) in the image and saturated (pre-tanh
        activation beyond 4) in its reconstruction from the posterior sample.
        """
        errors = np.zeros(3)
        kl = np.zeros(self.model.latent_shape[-1])
        by_image: list[np.ndarray] = []
        largest = (-1.0, 0, 0)
        first = np.zeros(self.model.latent_shape)
        second = np.zeros(self.model.latent_shape)
        for index, start in enumerate(range(0, len(images), BATCH)):
            self.check()
            batch = tf.constant(images[start : start + BATCH])
            *terms, divergence, loc = self._terms(batch, tf.constant(index))
            errors += [np.sum(term, dtype=np.float64) for term in terms]
            divergence = divergence.numpy().astype(np.float64)
            kl += divergence.sum(axis=0)
            totals = divergence.sum(axis=1)
            by_image.append(np.stack([terms[0].numpy(), totals]))
            worst = int(np.argmax(totals))
            if not totals[worst] <= largest[0]:  # a NaN is worse than any number
                where = start + worst, int(np.argmax(divergence[worst]))
                largest = (float(totals[worst]), *where)
            loc = loc.numpy().astype(np.float64)
            first += loc.sum(axis=0)
            second += np.square(loc).sum(axis=0)
        sse, sse_mean, saturated = errors / len(images)
        sse_median, kl_median = np.median(np.concatenate(by_image, axis=1), axis=1)
        kl /= len(images)
        active = second / len(images) - np.square(first / len(images)) > ACTIVE_VARIANCE
        return {
            "n_images": len(images),
            "sse_per_image": float(sse),
            "sse_per_image_posterior_mean": float(sse_mean),
            "mse_per_pixel": float(sse / self.model.dimension),
            "kl_nats_per_image": float(kl.sum()),
            "kl_nats_per_map": kl.tolist(),
            "sse_median": float(sse_median),
            "kl_nats_median": float(kl_median),
            "kl_nats_largest": largest[0],
            "kl_largest_image": largest[1],
            "kl_largest_map": largest[2],
            "saturated_share": float(saturated / self.model.dimension),
            "active_entries": int(active.sum()),
            "active_maps": int(active.any(axis=(0, 1)).sum()),
            "latent_entries": int(active.size),
            "latent_maps": int(active.shape[-1]),
        }

    def sse_of_means(self, images: np.ndarray | h5py.Dataset) -> float:
        """Only sse_per_image_posterior_mean."""
        total = 0.0
        for start in range(0, len(images), BATCH):
            self.check()
            sse = self._error_of_means(tf.constant(images[start : start + BATCH]))
            total += np.sum(sse, dtype=np.float64)
        return float(total / len(images))

    def _batch_error_of_means(self, images: tf.Tensor) -> tf.Tensor:
        x = scaled(images)
        return per_image(tf.square(x - self.model(x)))

    def saturated_samples(self, count: int = 1000) -> dict[str, Any]:
        """Of `count` prior samples: the share of pixels that are saturated (pre-tanh activation
        beyond 4) while the 5x5 pixels around them are grey on average (|mean| < 0.9)."""
        model, found = self.model, 0.0
        for index, start in enumerate(range(0, count, BATCH)):
            self.check()
            shape = (min(BATCH, count - start), *model.latent_shape)
            key = keyed_random.key(model.seed, Stream.SATURATION_LATENTS, index)
            noise = keyed_random.normal(shape, key)
            found += float(self._lonely(model.prior.sample(noise)))
        return {"n_samples": count, "saturated_share": found / count / model.dimension}

    def _lonely_pixels(self, z: tf.Tensor) -> tf.Tensor:
        a = self.model.preactivation(z)
        around = tf.nn.avg_pool2d(tf.tanh(a), 5, 1, "SAME")
        return tf.reduce_sum(tf.cast((abs(a) > SATURATED) & (abs(around) < GREY), tf.float32))

    def objective(self, terms: dict[str, Any]) -> dict[str, float]:
        """SSE + w KL, or the ELBO in nats at beta = 1, whatever the training's; without warm-up."""
        model = self.model
        sse, kl = terms["sse_per_image"], terms["kl_nats_per_image"]
        if model.settings.objective == "weighted":
            return {"objective_sse_plus_w_kl": sse + model.settings.kl_weight * kl}
        log_variance = float(model.log_variance.numpy())
        loss = objectives.negative_elbo(sse, kl, log_variance, model.dimension, beta=1.0)
        return {"elbo_nats_per_image": -float(loss)}
