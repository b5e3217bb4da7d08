"""One training step: its loss, its updates, and what they depend on."""

import math

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import ELBO, SHAPE, make_images, make_step, step

from svae.model.objectives import LOG_VARIANCE_FLOOR
from svae.model.posteriors import POSTERIORS
from svae.training.step import saturation_penalty

D = math.prod(SHAPE)


OBJECTIVES = {
    "weighted": {"kl_weight": 2.0},
    "optimal": {**ELBO, "decoder_variance": "optimal"},
    "learned": {**ELBO, "decoder_variance": "learned"},
    "fixed": {**ELBO, "decoder_variance": 0.1},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_is_the_objective_and_falls_on_a_fixed_batch(objective):
    take = make_step(learning_rate=1e-2, data_variance=0.4, **OBJECTIVES[objective])
    images = tf.constant(make_images())
    losses = []
    for _ in range(12):
        log_variance = float(take.model.log_variance.numpy())
        found = step(take, images)
        sse, kl = found["sse"], found["kl"]
        if objective == "optimal":
            log_variance = math.log(sse / D)
        if objective == "weighted":
            expected = sse + 2.0 * kl
        else:
            v = math.exp(log_variance)
            expected = 0.5 * D * math.log(2 * math.pi * v) + sse / (2 * v) + kl
        assert found["loss"] == pytest.approx(expected, rel=1e-4)
        losses.append(found["loss"])
    assert min(losses[-3:]) < losses[0] - 0.1 * abs(losses[0])


@pytest.mark.parametrize("posterior", POSTERIORS)
def test_every_posterior_learns(posterior):
    take = make_step(posterior=posterior, learning_rate=5e-4, dropout=0.0)
    images = tf.constant(make_images())
    losses = [step(take, images)["loss"] for _ in range(16)]
    assert min(losses[-3:]) < 0.85 * losses[0]


def test_a_fixed_variance_stays():
    take = make_step(**ELBO, decoder_variance=0.2, beta=3.0)
    for _ in range(2):
        step(take, tf.constant(make_images()))
    assert take.model.decoder_variance() == pytest.approx(0.2)
    assert take.model.equivalent_weight() == pytest.approx(2 * 0.2 * 3.0)


class TestLearnedVariance:
    def step(self, **changes):
        return make_step(**ELBO, decoder_variance="learned", **changes)

    def test_starts_at_the_variance_of_the_data(self):
        assert self.step(data_variance=0.37).model.decoder_variance() == pytest.approx(0.37)
        low = self.step(data_variance=1e-5).model.log_variance
        assert float(low.numpy()) == LOG_VARIANCE_FLOOR

    @pytest.mark.parametrize("start", [0.0, 3.0])  # log variance below and above the log MSE
    def test_moves_towards_the_mean_squared_error_at_its_own_rate(self, start):
        take = self.step(data_variance=math.exp(start) * 0.1, decoder_variance_learning_rate=0.05)
        start = float(take.model.log_variance.numpy())
        found = step(take, tf.constant(make_images()))
        towards = np.sign(math.log(found["sse"] / D) - start)
        # the length of Adam's first step is its learning rate
        moved = float(take.model.log_variance.numpy()) - start
        assert moved == pytest.approx(0.05 * towards, rel=1e-3)

    @pytest.mark.slow
    def test_converges_to_the_mean_squared_error(self):
        take = self.step(
            data_variance=0.9, learning_rate=0.0, dropout=0.0, decoder_variance_learning_rate=0.1
        )
        images = tf.constant(make_images())
        for _ in range(25):
            found = step(take, images)
        assert take.model.decoder_variance() == pytest.approx(found["sse"] / D, rel=0.05)

    def test_its_rate_is_not_that_of_the_weights(self):
        take = self.step(decoder_variance_learning_rate=0.0)
        start = take.model.log_variance.numpy()
        weights = [w.numpy() for w in take.model.trainable_variables]
        step(take, tf.constant(make_images()))
        assert take.model.log_variance.numpy() == start
        assert any(
            np.any(a != b.numpy())
            for a, b in zip(weights, take.model.trainable_variables, strict=True)
        )

    def test_does_not_fall_below_the_floor(self):
        take = self.step(
            data_variance=math.exp(-5.9), learning_rate=0.0, decoder_variance_learning_rate=0.5
        )
        last = take.model.decoder.blocks[-1].batch_norm  # makes every image grey, as the images are
        last.gamma.assign(tf.zeros_like(last.gamma))
        images = tf.constant(np.full((8, *SHAPE), 127, np.uint8))
        for _ in range(3):
            step(take, images)
            assert float(take.model.log_variance.numpy()) == LOG_VARIANCE_FLOOR


def test_kl_warmup_rises_linearly_over_its_epochs():
    take = make_step(kl_weight=5.0, kl_warmup_epochs=2.0, steps_per_epoch=2)
    images = tf.constant(make_images())
    factors = []
    for _ in range(6):
        found = step(take, images)
        factors.append((found["loss"] - found["sse"]) / (5.0 * found["kl"]))
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], rel=1e-2)


@pytest.mark.slow
def test_a_large_weight_drives_the_kl_to_zero():
    take = make_step(kl_weight=1e5, learning_rate=1e-2, dropout=0.0)
    images, compiled = tf.constant(make_images()), tf.function(take)
    divergences = [step(take, images, compiled)["kl"] for _ in range(60)]
    assert 0 <= divergences[-1] < 0.05 * divergences[0]


def trained_weights(seed):
    take = make_step(seed=seed, dropout=0.5)
    for batch in range(3):
        step(take, tf.constant(make_images(seed=batch)))
    return take.model.get_weights()


@pytest.mark.slow
def test_the_weights_depend_on_the_seed():
    first, again, other = (trained_weights(seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_noise_and_dropout_differ_from_step_to_step(dropout):
    """With fixed weights, only the noise can change the SSE, and only dropout the KL."""
    take = make_step(learning_rate=0.0, dropout=dropout)
    images = tf.constant(make_images())
    found = [step(take, images) for _ in range(3)]
    assert len({terms["sse"] for terms in found}) == 3
    divergences = [terms["kl"] for terms in found]
    if dropout:
        assert len(set(divergences)) == 3
    else:
        assert divergences == pytest.approx([divergences[0]] * 3, rel=1e-6)


def test_gradients_are_clipped_to_their_global_norm():
    """Adam's first moment after the first step is a tenth of the gradient."""

    def moments(clip):
        take = make_step(dropout=0.0, gradient_clip_norm=clip)
        step(take, tf.constant(make_images()))
        return np.concatenate(
            [10 * m.numpy().ravel() for m in take.optimizer.variables if "momentum" in m.path]
        )

    free, clipped = moments(None), moments(1e-3)
    assert np.linalg.norm(free) > 0.01
    assert np.linalg.norm(clipped) == pytest.approx(1e-3, rel=1e-3)
    np.testing.assert_allclose(clipped / 1e-3, free / np.linalg.norm(free), rtol=1e-2, atol=1e-5)
    np.testing.assert_allclose(moments(100.0), free, rtol=1e-4, atol=1e-9)


def test_the_saturation_penalty_equals_numpy():
    a = np.random.default_rng(0).normal(0, 3, (4, 5, 5, 3)).astype(np.float32)
    expected = np.square(np.maximum(0, abs(a) - 3)).sum(axis=(1, 2, 3)).mean()
    assert float(saturation_penalty(tf.constant(a))) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_without_saturated_outputs_the_penalty_changes_no_bit(objective):
    found = []
    for penalty in (0.0, 1.0):
        changes = {"saturation_penalty": penalty, "initialization": "data"}
        take = make_step(dropout=0.0, **OBJECTIVES[objective], **changes)
        take.model.decoder.blocks[-1].batch_norm.gamma.assign(0.1 * np.ones(3))
        terms = step(take, tf.constant(make_images()))
        assert terms["penalty"] == 0
        found.append([v.numpy() for v in take.variables])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_penalty_corrects_a_wrong_saturated_output():
    """At |a| = 20 tanh has no gradient in float32; the penalty has one, and lowers the offset."""
    images = tf.zeros((8, *SHAPE), tf.uint8)  # black, the outputs white
    moved = []
    for penalty in (0.0, 1.0):
        take = make_step(
            saturation_penalty=penalty, initialization="data", learning_rate=0.1, dropout=0.0
        )
        beta = take.model.decoder.blocks[-1].batch_norm.beta
        beta.assign(20 * np.ones(3))
        terms = step(take, images)
        assert (terms["penalty"] > 0) == (penalty > 0)
        moved.append(float(np.max(abs(beta - 20))))
    assert moved == pytest.approx([0.0, 0.1], abs=1e-4)
