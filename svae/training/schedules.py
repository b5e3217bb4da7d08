"""Schedules by step: the learning rate, and the factor of a warm-up."""

import math

import keras
import tensorflow as tf


def warmup(step: tf.Tensor | int, steps: int) -> tf.Tensor:
    """Return the factor of a linear warm-up at step 0, 1, ...: from 1 / steps to 1; 1 without a
    warm-up (`steps` 0)."""
    return tf.minimum(1.0, (tf.cast(step, tf.float32) + 1.0) / max(steps, 1))


class LearningRate(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up to `peak` over `warmup_steps`, then constant or, for `cosine`,

        0.5 peak (1 + cos(pi t)),

    where t rises from 0 after the warm-up to 1 after step `total_steps` - 1 (Loshchilov and Hutter
    2017, "SGDR", equation 5, without restarts). All rates are multiplied by `factor`: 1, or a
    variable that the training lowers after a spike.
    """

    def __init__(
        self,
        peak: float,
        schedule: str,
        warmup_steps: int,
        total_steps: int,
        factor: tf.Variable | float = 1.0,
    ):
        self.factor = factor
        self.peak, self.schedule = peak, schedule
        self.warmup_steps, self.total_steps = warmup_steps, total_steps

    def __call__(self, step: tf.Tensor | int) -> tf.Tensor:
        rate = self.factor * self.peak * warmup(step, self.warmup_steps)
        if self.schedule == "cosine":
            after_warmup = tf.cast(step, tf.float32) - self.warmup_steps
            t = after_warmup / max(self.total_steps - self.warmup_steps, 1)
            rate *= 0.5 * (1.0 + tf.cos(math.pi * tf.clip_by_value(t, 0.0, 1.0)))
        return rate
