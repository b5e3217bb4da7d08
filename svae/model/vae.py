"""SpatialVAE: posterior, networks and objective joined in one keras.Model."""

import math
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from svae.model import keyed_random, objectives
from svae.model.arrangement import arrangement
from svae.model.networks import Decoder, Encoder
from svae.model.posteriors import POSTERIORS, HigherRank, Options, Posterior
from svae.model.priors import StandardNormal
from svae.pixels import to_x
from svae.settings.training import TrainingSettings
from svae.streams import Stream


def scaled(images: tf.Tensor) -> tf.Tensor:
    """uint8 images -> x, float32: svae.pixels.scale in TensorFlow."""
    return to_x(tf.cast(images, tf.float32))


def per_image(terms: tf.Tensor) -> tf.Tensor:
    """Sums over all but the first axis: (batch, a, b, c) -> (batch,)."""
    return tf.reduce_sum(terms, axis=[1, 2, 3])


class SpatialVAE(keras.Model):
    """A VAE whose latent is N feature maps of d x d.

    `image_shape`: (height, width, channel) of the data; `padding`: black pixels (-1) on each side,
    which only the networks see: reconstructions, samples and sums over pixels are of the image
    without them. `dimension` D = height * width * channel. `prior`: p(z), see svae.model.priors.

    `settings.precision` is that of the networks. `encode` and `decode` return float32; posterior
    and objective are computed in float32.
    """

    def __init__(
        self, image_shape: tuple[int, int, int], padding: int, settings: TrainingSettings, seed: int
    ):
        super().__init__()
        height, width, channels = image_shape
        side = height + 2 * padding
        self.posterior_class = POSTERIORS[settings.posterior]
        if settings.rank != 1:
            self.posterior_class = HigherRank.of_rank(settings.rank)
        self.prior = StandardNormal()
        self.image_shape = image_shape
        self.padding = padding
        self.settings = settings
        self.seed = seed
        self.dimension = height * width * channels
        self.latent_shape = (settings.latent_size, settings.latent_size, settings.latent_maps)
        per_map = self.posterior_class.outputs_per_map(settings.latent_size)
        outputs = per_map * settings.latent_maps
        stem = self.posterior_class.stem
        keras.utils.set_random_seed(seed)
        self.encoder = Encoder(
            outputs, settings.dropout, settings.precision, settings.initialization
        )
        self.decoder = Decoder(side, channels, settings.latent_size, stem, settings.precision)
        if settings.arrangement != "maps":
            self.arrangement = arrangement(
                settings.arrangement, settings.latent_size, settings.latent_maps
            )
        # Log of the decoder's variance. Not in trainable_variables, because a learned variance has
        # its own learning rate.
        variance = settings.decoder_variance
        start = math.log(variance) if isinstance(variance, int | float) else 0.0
        self.log_variance = self.add_weight(
            name="log_variance",
            shape=(),
            initializer=keras.initializers.Constant(start),
            trainable=False,
        )
        self(tf.zeros((1, *image_shape)))  # creates the weights

    def encode(
        self, x: tf.Tensor, batch_statistics: bool = False, dropout_seed: tf.Tensor | None = None
    ) -> Posterior:
        """x (batch, height, width, channel) in [-1, 1] -> q(z | x)."""
        return self.posterior(self.encoder_outputs(x, batch_statistics, dropout_seed))

    def encoder_outputs(
        self, x: tf.Tensor, batch_statistics: bool = False, dropout_seed: tf.Tensor | None = None
    ) -> tf.Tensor:
        """The parameters of the posterior: (batch, outputs), float32; see `posterior`."""
        p = self.padding
        if p:
            x = tf.pad(x, [[0, 0], [p, p], [p, p], [0, 0]], constant_values=-1.0)
        outputs = self.encoder(x, batch_statistics=batch_statistics, dropout_seed=dropout_seed)
        return tf.cast(outputs, tf.float32)

    def posterior(self, outputs: tf.Tensor) -> Posterior:
        """q(z | x) from encoder outputs (batch, outputs), in their type."""
        d, _, n = self.latent_shape
        settings = self.settings
        options = Options(settings.log_var_limit, settings.low_rank_start or "published")
        return self.posterior_class.from_outputs(outputs, d, n, options)

    def decode(self, z: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        """z (batch, d, d, N) -> decoder means (batch, height, width, channel) in [-1, 1]."""
        return tf.tanh(self.preactivation(z, batch_statistics=batch_statistics))

    def preactivation(self, z: tf.Tensor, batch_statistics: bool = False) -> tf.Tensor:
        """Decoder outputs before the tanh: (batch, height, width, channel), float32."""
        if self.settings.arrangement != "maps":
            z = self.arrangement(z)
        a = tf.cast(self.decoder(z, batch_statistics=batch_statistics), tf.float32)
        p = self.padding
        return a[:, p:-p, p:-p, :] if p else a

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Reconstruction from the posterior mean."""
        return self.decode(self.encode(x).mean)

    def sample_posterior(
        self, posterior: Posterior, stream: Stream, counter: tf.Tensor | int
    ) -> tf.Tensor:
        """One posterior sample per image, (batch, d, d, N), with the noise number `counter` of the
        stream."""
        shape = tf.shape(posterior.mean)
        key = keyed_random.key(self.seed, stream, counter)
        return posterior.sample(keyed_random.normal(shape, key))

    def objective(
        self,
        sse: tf.Tensor,
        kl: tf.Tensor,
        log_variance: tf.Tensor | float,
        factor: tf.Tensor | float = 1.0,
    ) -> tf.Tensor:
        """The objective from mean SSE and mean KL per image; `factor`: that of the KL's warm-up."""
        settings = self.settings
        if settings.objective == "weighted":
            return objectives.weighted(sse, kl, factor * settings.kl_weight)
        return objectives.negative_elbo(
            sse, kl, log_variance, self.dimension, factor * settings.beta
        )

    def in_float32(self) -> "SpatialVAE":
        """A model with the same weights that computes in float32."""
        precise = replace(self.settings, precision="float32")
        twin = SpatialVAE(self.image_shape, self.padding, precise, self.seed)
        twin.set_weights(self.get_weights())
        return twin

    def equivalent_weight(self) -> float:
        """w of SSE + w KL; under the ELBO, the w equivalent to its current variance and beta."""
        if self.settings.objective == "weighted":
            return self.settings.kl_weight
        return objectives.equivalent_weight(self.decoder_variance(), self.settings.beta)

    def kl_weights(self) -> dict[str, float | None]:
        """The KL weight and its equivalents, which every history line and result shows."""
        w = self.equivalent_weight()
        return {
            "kl_weight": w,
            "equivalent_variance_at_unit_beta": w / 2,
            "equivalent_beta_at_unit_variance": w / 2,
            "decoder_variance": self.decoder_variance(),
        }

    def decoder_variance(self) -> float | Any:
        """The Gaussian decoder's variance on [-1, 1] pixels; None for the weighted objective."""
        if self.settings.objective == "weighted":
            return None
        return float(np.exp(keras.ops.convert_to_numpy(self.log_variance)))
