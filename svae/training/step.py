"""One training step: the objective's gradient, Adam, and the state that lasts between steps."""

import math

import keras
import tensorflow as tf

from svae.model import keyed_random, objectives
from svae.model.vae import SpatialVAE, per_image, scaled
from svae.streams import Stream
from svae.training.adam import Adam
from svae.training.schedules import LearningRate, warmup

# The loss is scaled by 2^15 at first. If that falls below this, gradients overflow at any scale.
LEAST_SCALE = 2.0**-10

# Pre-tanh activations beyond this are penalised: tanh(3) lies within one grey level of 1.
PENALISED = 3.0


def saturation_penalty(a: tf.Tensor) -> tf.Tensor:
    """Mean over images of the sum over pixels of max(0, |a| - 3)^2, for pre-tanh activations a
    (batch, height, width, channel).

    A saturated tanh has no gradient, so a wrong output that is saturated would stay as it is. The
    penalty has a gradient there, and is 0 where the output is not saturated.
    """
    return tf.reduce_mean(per_image(tf.square(tf.nn.relu(tf.abs(a) - PENALISED))))


class TrainingStep:
    """Updates the weights of `model` according to its settings.

    `data_variance`: of the training pixels on [-1, 1]; a learned decoder variance starts there.
    `variables` are all the state that lasts from one step to the next: weights, batch-norm
    statistics, decoder variance, and the optimizers' moments. All random numbers are functions of
    seed and step. After restoring the variables, a training that continues at the same step gives
    bit-identical results.
    """

    def __init__(self, model: SpatialVAE, steps_per_epoch: int, data_variance: float):
        settings = model.settings
        self.model = model
        self.kl_warmup_steps = round(settings.kl_warmup_epochs * steps_per_epoch)
        # Lowered after a spike, see svae.training.loop.
        self.rate_factor = tf.Variable(1.0, trainable=False)
        self.learning_rate = LearningRate(
            settings.learning_rate,
            settings.learning_rate_schedule,
            round(settings.learning_rate_warmup_epochs * steps_per_epoch),
            settings.epochs * steps_per_epoch,
            self.rate_factor,
        )
        # Epsilon is the default of TensorFlow 1, which the published code used; Keras has 1e-7.
        self.optimizer = Adam(
            self.learning_rate, epsilon=1e-8, global_clipnorm=settings.gradient_clip_norm
        )
        if settings.precision == "mixed_float16":
            # Gradients of a mean over pixels are too small for float16. This optimizer scales the
            # loss by as much as keeps them finite, and skips steps whose gradients are not.
            self.optimizer = keras.optimizers.LossScaleOptimizer(self.optimizer)
        self.optimizer.build(model.trainable_variables)
        self.variables = [*model.variables, *self.optimizer.variables, self.rate_factor]
        if settings.decoder_variance == "learned":
            rate = settings.decoder_variance_learning_rate
            self.variance_optimizer = Adam(rate)
            self.variance_optimizer.build([model.log_variance])
            self.variables += self.variance_optimizer.variables
            start = max(math.log(data_variance), objectives.LOG_VARIANCE_FLOOR)
            model.log_variance.assign(start)

    def kl_factor(self, step: tf.Tensor | int) -> tf.Tensor:
        """The warm-up factor of the KL weight at this step."""
        return warmup(step, self.kl_warmup_steps)

    def overflows(self) -> bool:
        """Whether, under mixed_float16, gradients are not finite at any scale of the loss, so that
        every step is skipped."""
        scale = getattr(self.optimizer, "dynamic_scale", None)
        return scale is not None and float(scale) < LEAST_SCALE

    def __call__(self, images: tf.Tensor, step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take one step on uint8 images (batch, height, width, channel).

        `step`: int64, the number of steps taken before. Returns the terms of this batch, means over
        the images: loss, the objective as minimised; penalty, minimised in addition; sse and kl.
        """
        model, settings = self.model, self.model.settings
        learned = settings.decoder_variance == "learned"
        x = scaled(images)
        with tf.GradientTape() as tape:
            dropout = keyed_random.key(model.seed, Stream.DROPOUT, step)
            posterior = model.encode(x, batch_statistics=True, dropout_seed=dropout)
            z = model.sample_posterior(posterior, Stream.TRAINING_LATENTS, step)
            a = model.preactivation(z, batch_statistics=True)
            sse = tf.reduce_mean(per_image(tf.square(x - tf.tanh(a))))
            kl = tf.reduce_mean(tf.reduce_sum(posterior.kl(), axis=1))
            if learned:
                tape.watch(model.log_variance.value)
            if settings.decoder_variance == "optimal":
                log_variance = objectives.optimal_log_variance(sse, model.dimension)
            else:
                log_variance = tf.convert_to_tensor(model.log_variance)
            loss = model.objective(sse, kl, log_variance, self.kl_factor(step))
            penalty = tf.constant(0.0)
            if settings.saturation_penalty:
                # In units of the SSE, whose factor in the ELBO is 1 / (2 v).
                penalty = settings.saturation_penalty * saturation_penalty(a)
                if settings.objective == "elbo":
                    penalty *= 0.5 * tf.exp(-tf.stop_gradient(log_variance))
            # The published code's scale, see svae.model.objectives.
            minimised = (loss + penalty) / model.dimension
            # A power of two, by which the optimizer divides again; 1 except under mixed_float16.
            scale = self.optimizer.scale_loss(tf.constant(1.0))
            scaled_loss = scale * minimised
        weights = model.trainable_variables
        gradients = tape.gradient(
            scaled_loss, [*weights, model.log_variance.value] if learned else weights
        )
        self.optimizer.apply(gradients[: len(weights)], weights)
        if learned:
            # This gradient is float32 throughout, and valid even where the optimizer skips a step.
            self.variance_optimizer.apply([gradients[-1] / scale], [model.log_variance])
            model.log_variance.assign(tf.maximum(model.log_variance, objectives.LOG_VARIANCE_FLOOR))
        return {"loss": loss, "sse": sse, "kl": kl, "penalty": penalty}
