"""SpatialVAE: padding, the training step, its random numbers."""

import math

import numpy as np
import pytest
import tensorflow as tf
from builders import ELBO, SHAPE, make_images, make_model, step, to_x

from svae.model import DROPOUT, NOISE, draw_key
from svae.objectives import LOG_VARIANCE_FLOOR

VARIANTS = ["vanilla", "naive", "mvn", "low_rank"]
D = int(np.prod(SHAPE))


def black_frame(array, black):
    return np.pad(array, [(0, 0), (2, 2), (2, 2), (0, 0)], constant_values=black)


def test_encode_and_decode_have_their_shapes():
    for posterior in VARIANTS:
        model = make_model(posterior=posterior)
        d = 1 if posterior == "vanilla" else 3
        for parameter in model.encode(tf.constant(to_x(make_images(5)))):
            assert parameter.shape == (5, d, d, 4)
        assert model.decode(tf.zeros((5, d, d, 4))).shape == (5, *SHAPE)


def test_padding_changes_nothing_but_what_the_networks_see():
    """28x28 with padding 2 against the same weights on 32x32 images with a black frame."""
    padded = make_model((28, 28, 1), padding=2)
    whole = make_model((32, 32, 1))
    for a, b in zip(padded.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert padded.dimension == 28 * 28
    images = make_images(8, (28, 28, 1))
    x = to_x(images)
    for a, b in zip(padded.encode(x), whole.encode(black_frame(x, -1.0)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    z = tf.random.stateless_normal((8, 3, 3, 4), [1, 2])
    decoded = padded.decode(z)
    assert decoded.shape == (8, 28, 28, 1)
    np.testing.assert_array_equal(decoded, whole.decode(z)[:, 2:-2, 2:-2])
    assert padded(x).shape == (8, 28, 28, 1)

    # the sums of a training step are over the image's own pixels
    noise_key, dropout_key = (
        draw_key(1, stream, padded.optimizer.iterations) for stream in (NOISE, DROPOUT)
    )
    loc, log_var = whole.encode(
        black_frame(x, -1.0), batch_statistics=True, dropout_seed=dropout_key
    )
    noise = tf.random.stateless_normal(loc.shape, noise_key)
    decoded = whole.decode(loc + tf.exp(log_var / 2) * noise, batch_statistics=True)
    errors = np.square(x - decoded.numpy()[:, 2:-2, 2:-2])
    found = step(padded, tf.constant(images))
    assert found["sse"] == pytest.approx(errors.sum() / 8, rel=1e-4)


OBJECTIVES = {
    "weighted": {"kl_weight": 2.0},
    "optimal": {**ELBO, "decoder_variance": "optimal"},
    "learned": {**ELBO, "decoder_variance": "learned"},
    "fixed": {**ELBO, "decoder_variance": 0.1},
}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_loss_is_the_objective_and_falls_on_a_fixed_batch(objective):
    model = make_model(learning_rate=1e-2, data_variance=0.4, **OBJECTIVES[objective])
    images = tf.constant(make_images())
    losses = []
    for _ in range(12):
        log_variance = float(model.log_variance.numpy())
        found = step(model, images)
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


@pytest.mark.parametrize("posterior", VARIANTS)
def test_every_posterior_learns(posterior):
    model = make_model(posterior=posterior, learning_rate=5e-4, dropout=0.0)
    images = tf.constant(make_images())
    losses = [step(model, images)["loss"] for _ in range(16)]
    assert min(losses[-3:]) < 0.85 * losses[0]


def test_metrics_are_means_over_the_epoch():
    model = make_model()
    batches = [tf.constant(make_images(seed=seed)) for seed in (1, 2)]
    single = [step(model, batch) for batch in batches]
    again = make_model()
    for batch in batches:
        means = again.train_step(batch)
    for name, value in means.items():
        assert float(value) == pytest.approx(np.mean([s[name] for s in single]), rel=1e-4)


def test_fit_calls_the_training_step():
    images = make_images(24)
    model = make_model()
    start = model.get_weights()
    history = model.fit(images, batch_size=8, epochs=2, verbose=0).history
    assert set(history) == {"loss", "sse", "kl"}
    assert int(model.optimizer.iterations) == 6
    assert any(np.any(a != b) for a, b in zip(start, model.get_weights(), strict=True))


def test_a_fixed_variance_stays():
    model = make_model(**ELBO, decoder_variance=0.2, beta=3.0)
    for _ in range(2):
        step(model, tf.constant(make_images()))
    assert model.decoder_variance() == pytest.approx(0.2)
    assert model.equivalent_weight() == pytest.approx(2 * 0.2 * 3.0)


def test_the_weighted_objective_has_no_variance():
    model = make_model(kl_weight=7.0)
    assert model.decoder_variance() is None
    assert model.equivalent_weight() == 7.0


class TestLearnedVariance:
    def model(self, **changes):
        return make_model(**ELBO, decoder_variance="learned", **changes)

    def test_starts_at_the_variance_of_the_data(self):
        assert self.model(data_variance=0.37).decoder_variance() == pytest.approx(0.37)
        low = self.model(data_variance=1e-5).log_variance
        assert float(low.numpy()) == LOG_VARIANCE_FLOOR

    @pytest.mark.parametrize("start", [0.0, 3.0])  # log variance below and above the log MSE
    def test_moves_towards_the_mean_squared_error_at_its_own_rate(self, start):
        model = self.model(data_variance=math.exp(start) * 0.1, decoder_variance_learning_rate=0.05)
        start = float(model.log_variance.numpy())
        found = step(model, tf.constant(make_images()))
        towards = np.sign(math.log(found["sse"] / D) - start)
        # Adam's first step is as long as its rate
        moved = float(model.log_variance.numpy()) - start
        assert moved == pytest.approx(0.05 * towards, rel=1e-3)

    def test_arrives_at_the_mean_squared_error(self):
        model = self.model(
            data_variance=0.9, learning_rate=0.0, dropout=0.0, decoder_variance_learning_rate=0.1
        )
        images = tf.constant(make_images())
        for _ in range(25):
            found = step(model, images)
        assert model.decoder_variance() == pytest.approx(found["sse"] / D, rel=0.05)

    def test_its_rate_is_not_that_of_the_weights(self):
        model = self.model(decoder_variance_learning_rate=0.0)
        start = model.log_variance.numpy()
        weights = [w.numpy() for w in model.trainable_variables]
        step(model, tf.constant(make_images()))
        assert model.log_variance.numpy() == start
        assert any(
            np.any(a != b.numpy()) for a, b in zip(weights, model.trainable_variables, strict=True)
        )

    def test_does_not_fall_below_the_floor(self):
        model = self.model(
            data_variance=math.exp(-5.9), learning_rate=0.0, decoder_variance_learning_rate=0.5
        )
        last = model.decoder.blocks[-1].batch_norm  # makes every image grey, as the images are
        last.gamma.assign(tf.zeros_like(last.gamma))
        images = tf.constant(np.full((8, *SHAPE), 127, np.uint8))
        for _ in range(3):
            step(model, images)
            assert float(model.log_variance.numpy()) == LOG_VARIANCE_FLOOR


def test_kl_warmup_rises_linearly_over_its_epochs():
    model = make_model(kl_weight=5.0, kl_warmup_epochs=2.0, steps_per_epoch=2)
    images = tf.constant(make_images())
    factors = []
    for _ in range(6):
        found = step(model, images)
        factors.append((found["loss"] - found["sse"]) / (5.0 * found["kl"]))
    assert factors == pytest.approx([0.25, 0.5, 0.75, 1, 1, 1], rel=1e-2)


def test_a_large_weight_drives_the_kl_to_zero():
    model = make_model(kl_weight=1e5, learning_rate=1e-2, dropout=0.0)
    images, train_step = tf.constant(make_images()), tf.function(model.train_step)
    divergences = [step(model, images, train_step)["kl"] for _ in range(60)]
    assert 0 <= divergences[-1] < 0.05 * divergences[0]


def trained_weights(seed):
    model = make_model(seed=seed, dropout=0.5)
    for batch in range(3):
        step(model, tf.constant(make_images(seed=batch)))
    return model.get_weights()


def test_the_seed_decides_the_weights():
    first, again, other = (trained_weights(seed) for seed in (1, 1, 2))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert any(np.any(a != b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_noise_and_dropout_differ_from_step_to_step(dropout):
    """With weights that rest, only the noise can move the SSE, only the dropout the KL."""
    model = make_model(learning_rate=0.0, dropout=dropout)
    images = tf.constant(make_images())
    found = [step(model, images) for _ in range(3)]
    assert len({terms["sse"] for terms in found}) == 3
    divergences = [terms["kl"] for terms in found]
    if dropout:
        assert len(set(divergences)) == 3
    else:
        assert divergences == pytest.approx([divergences[0]] * 3, rel=1e-6)


def test_draws_are_a_function_of_seed_stream_and_step():
    keys = {
        tuple(draw_key(seed, stream, step).numpy())
        for seed in (1, 2)
        for stream in (0, 1, 2)
        for step in range(20)
    }
    assert len(keys) == 2 * 3 * 20
    np.testing.assert_array_equal(draw_key(1, 0, 5), draw_key(1, 0, tf.constant(5)))
