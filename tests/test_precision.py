"""Training steps in half precision, and compiled by XLA."""

import numpy as np
import pytest
import tensorflow as tf
from helpers import builders
from helpers.builders import ELBO, to_x

from svae.model.vae import SpatialVAE

# Bits after the binary point: the precision of one operation; a network's is a few times coarser.
EPSILON = {"float32": 2.0**-23, "mixed_bfloat16": 2.0**-8, "mixed_float16": 2.0**-11}
HALF = ["mixed_bfloat16", "mixed_float16"]
SHAPE = (24, 24, 1)  # half precision on a CPU is slow
OBJECTIVES = {
    "weighted": {},
    "optimal": {**ELBO, "decoder_variance": "optimal"},
    "learned": {**ELBO, "decoder_variance": "learned"},
}


def make_images(n=8):
    return builders.make_images(n, SHAPE)


def _small(changes):
    if changes.get("posterior") == "vanilla":
        return (32, 32, 1), changes
    return SHAPE, {"latent_size": 2, **changes}


def make_model(**changes):
    shape, changes = _small(changes)
    return builders.make_model(shape, **changes)


def make_step(**changes):
    shape, changes = _small(changes)
    return builders.make_step(shape, **changes)


def run(take_step, count, compiled=None):
    """The terms of `count` steps on one batch, by the number of the step."""
    images = tf.constant(builders.make_images(8, take_step.model.image_shape))
    found = [(compiled or take_step)(images, tf.constant(n, tf.int64)) for n in range(count)]
    return [{name: float(value) for name, value in terms.items()} for terms in found]


def values(variables):
    return [variable.numpy() for variable in variables]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "objective"),
    [("mixed_bfloat16", "weighted"), ("mixed_float16", "learned")],
)
def test_half_precision_learns_and_is_reproducible(precision, objective):
    def trained():
        take_step = make_step(precision=precision, learning_rate=5e-4, **OBJECTIVES[objective])
        found = run(take_step, 10, tf.function(take_step))
        return found, values(take_step.variables)

    (found, first), (_, again) = trained(), trained()
    losses = [terms["loss"] for terms in found]
    assert np.all(np.isfinite(losses))
    assert min(losses[-3:]) < losses[0] - 0.1 * abs(losses[0])
    assert same(first, again)


@pytest.mark.parametrize("precision", EPSILON)
def test_networks_compute_in_their_precision_and_the_rest_in_float32(precision):
    model = make_model(precision=precision)
    x = tf.constant(to_x(make_images()))
    posterior = model.encode(x, batch_statistics=True)
    z = model.sample_posterior(posterior, 0, tf.constant(0, tf.int64))
    for tensor in (
        posterior.mean,
        posterior.kl(),
        z,
        model.decode(z, batch_statistics=True),
        model(x),
    ):
        assert tensor.dtype == tf.float32
    inner = precision.removeprefix("mixed_")
    assert model.encoder(x).dtype == model.decoder(z).dtype == inner
    assert {weight.dtype for weight in model.weights} == {"float32"}
    take_step = make_step(precision=precision)
    terms = take_step(tf.constant(make_images()), tf.constant(0, tf.int64))
    assert {value.dtype for value in terms.values()} == {tf.float32}


@pytest.mark.parametrize("precision", HALF)
def test_sums_over_pixels_are_float32(precision):
    """The SSE of a batch equals that of the decoded images, beyond the digits of half precision."""
    model = make_model(precision=precision, dropout=0.0)
    take_step = make_step(precision=precision, dropout=0.0)
    images = make_images()
    posterior = model.encode(tf.constant(to_x(images)), batch_statistics=True)
    z = model.sample_posterior(posterior, 0, tf.constant(0, tf.int64))
    decoded = model.decode(z, batch_statistics=True).numpy().astype(np.float64)
    found = run(take_step, 1)[0]
    sse = np.square(to_x(images) - decoded).sum() / len(images)
    m, v = (part.numpy().astype(np.float64) for part in (posterior.mean, posterior.variance))
    kl = 0.5 * (m**2 + v - np.log(v) - 1).sum() / len(images)
    assert found["sse"] == pytest.approx(sse, rel=1e-5)
    assert found["kl"] == pytest.approx(kl, rel=1e-5)
    assert found["loss"] == pytest.approx(sse + 2 * kl, rel=1e-5)


def outputs(precision):
    model = make_model(precision=precision)
    z = tf.constant(np.random.default_rng(0).normal(size=(8, 2, 2, 4)), tf.float32)
    posterior = model.encode(tf.constant(to_x(make_images())), batch_statistics=True)
    log_var = tf.math.log(posterior.variance)
    return [posterior.mean, log_var, model.decode(z, batch_statistics=True)]


@pytest.mark.parametrize("precision", HALF)
def test_half_precision_gives_the_same_as_float32_within_its_precision(precision):
    for exact, found in zip(outputs("float32"), outputs(precision), strict=True):
        error = np.abs(found - exact).max() / np.abs(exact).max()
        assert 0 < error < 40 * EPSILON[precision]


@pytest.mark.parametrize("precision", HALF)
def test_statistics_of_batch_norm_are_float32(precision):
    """For activations whose squares overflow float16."""
    found = {}
    for name in ("float32", precision):
        model = make_model(precision=name)
        kernel = model.encoder.trainable_variables[0]
        kernel.assign(6000 * kernel)
        model.encode(tf.constant(to_x(make_images(64))), batch_statistics=True)
        found[name] = [w.numpy() for w in model.encoder.non_trainable_weights[:2]]
    assert found["float32"][1].max() > 65504
    for exact, half in zip(found["float32"], found[precision], strict=True):
        np.testing.assert_allclose(half, exact, atol=2 * EPSILON[precision] * np.abs(exact).max())


def test_a_loss_scale_that_keeps_falling_is_reported():
    assert not make_step().overflows()
    take_step = make_step(precision="mixed_float16")
    found = []
    for exponent in (15, -10, -11):
        take_step.optimizer.dynamic_scale.assign(2.0**exponent)
        found.append(take_step.overflows())
    assert found == [False, False, True]


def first_moments(precision, scale=None):
    """Adam's first moments after one step, a tenth of the gradients."""
    take_step = make_step(precision=precision, dropout=0.0)
    optimizer = take_step.optimizer
    if precision == "mixed_float16":
        optimizer.dynamic_scale.assign(scale)
        optimizer = optimizer.inner_optimizer
    run(take_step, 1)
    assert int(optimizer.iterations) == 1
    return [v.numpy() for v in optimizer.variables if "momentum" in v.path]


def worst_angle(first, second):
    """The largest angle between two gradients of one variable, among those not close to 0."""
    largest = max(np.linalg.norm(g) for g in first)
    return max(
        np.arccos(min(1.0, np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b)))
        for a, b in zip(first, second, strict=True)
        if np.linalg.norm(a) > 1e-3 * largest
    )


@pytest.mark.slow
def test_gradients_of_half_precision_agree_with_float32():
    exact = first_moments("float32")
    bfloat16 = first_moments("mixed_bfloat16")
    float16 = first_moments("mixed_float16", 2.0**10)
    unscaled = first_moments("mixed_float16", 2.0**-6)
    for found, most in ((bfloat16, 0.1), (float16, 0.02)):
        assert worst_angle(exact, found) < most
        for a, b in zip(exact, found, strict=True):
            assert np.linalg.norm(b) == pytest.approx(np.linalg.norm(a), rel=0.1, abs=1e-6)
    # the purpose of the scale
    assert worst_angle(exact, unscaled) > 2 * worst_angle(exact, float16)


@pytest.mark.parametrize("precision", HALF)
def test_the_gradient_of_a_learned_variance_is_not_scaled(precision):
    found = {}
    for name in ("float32", precision):
        take_step = make_step(precision=name, dropout=0.0, **OBJECTIVES["learned"])
        run(take_step, 1)
        (moment,) = (v for v in take_step.variance_optimizer.variables if "momentum" in v.path)
        found[name] = float(moment)
    assert found["float32"] != 0
    assert found[precision] == pytest.approx(found["float32"], rel=0.02)


@pytest.mark.slow
def test_an_overflow_skips_the_step_and_halves_the_scale():
    take_step = make_step(precision="mixed_float16", **{**ELBO, "decoder_variance": "learned"})
    compiled = tf.function(take_step)
    optimizer, model = take_step.optimizer, take_step.model
    assert any(optimizer.dynamic_scale is v for v in take_step.variables)  # is saved
    optimizer.dynamic_scale.assign(2.0**26)
    start, variance = values(model.trainable_variables), model.decoder_variance()
    found = run(take_step, 1, compiled)[0]
    assert np.isfinite(found["loss"])
    assert float(optimizer.dynamic_scale) == 2.0**25
    assert same(start, values(model.trainable_variables))
    assert int(optimizer.iterations) == 0
    # its gradient does not pass through the networks
    moved = abs(np.log(model.decoder_variance() / variance))
    assert moved == pytest.approx(model.settings.decoder_variance_learning_rate, rel=1e-3)
    losses = [terms["loss"] for terms in run(take_step, 20, compiled)]
    assert np.all(np.isfinite(losses)) and losses[-1] < losses[0]
    assert float(optimizer.dynamic_scale) < 2.0**20
    assert not same(start, values(model.trainable_variables))


@pytest.mark.parametrize("scale", [2.0**4, 2.0**14])
def test_clipping_uses_the_unscaled_gradients(scale):
    limit = 1e-3
    take_step = make_step(precision="mixed_float16", gradient_clip_norm=limit)
    take_step.optimizer.dynamic_scale.assign(scale)
    run(take_step, 1)
    inner = take_step.optimizer.inner_optimizer
    assert int(inner.iterations) == 1
    moments = [v.numpy() for v in inner.variables if "momentum" in v.path]
    norm = np.sqrt(sum(np.square(m).sum() for m in moments)) / 0.1
    assert norm == pytest.approx(limit, rel=1e-3)


@pytest.mark.parametrize("precision", HALF)
def test_one_weights_file_for_every_precision(tmp_path, precision):
    trained = make_step(precision=precision)
    run(trained, 2)
    path = tmp_path / "one.weights.h5"
    trained.model.save_weights(path)
    plain = make_model()
    plain.load_weights(path)
    assert same(trained.model.get_weights(), plain.get_weights())
    twin = trained.model.in_float32()
    assert twin.settings.precision == "float32"
    assert same(twin.get_weights(), plain.get_weights())
    x = to_x(make_images())
    np.testing.assert_array_equal(plain(x), twin(x))
    assert isinstance(twin, SpatialVAE) and np.any(twin(x).numpy() != trained.model(x).numpy())


# Every posterior, objective and precision, but not every combination, because XLA is slow.
COMPILED = [
    ("vanilla", "weighted", "float32"),
    ("naive", "learned", "mixed_float16"),
    ("mvn", "optimal", "float32"),
    ("low_rank", "weighted", "mixed_bfloat16"),
    ("mvn_dense", "weighted", "mixed_float16"),
    ("full_covariance", "optimal", "float32"),
]
STEPS = 3
LEARNING_RATE = 1e-4


def after_steps(take_step, function):
    """The terms of the first steps, and the model's weights after them."""
    return run(take_step, STEPS, function), values(take_step.model.weights)


def rounding_moves(take_step, function, epsilon):
    """How far the terms move when every weight is rounded once more: a step in another order of
    operations is the exact step of weights as close as that (backward error), on any processor.
    Rows: steps; the largest of several random roundings."""
    start = values(take_step.variables)
    exact, moved = None, []
    for seed in range(6):
        for variable, value in zip(take_step.variables, start, strict=True):
            variable.assign(value)
        random = np.random.default_rng(seed)
        for weight in take_step.model.trainable_variables if seed else ():
            rounding = epsilon * random.uniform(-1, 1, weight.shape)
            weight.assign(weight * (1 + rounding.astype(np.float32)))
        found, _ = after_steps(take_step, function)
        exact = exact or found
        moved.append(
            [
                {name: abs(a[name] - b[name]) for name in b}
                for a, b in zip(found, exact, strict=True)
            ]
        )
    return [{name: max(row[i][name] for row in moved) for name in exact[i]} for i in range(STEPS)]


@pytest.mark.slow
@pytest.mark.parametrize(("posterior", "objective", "precision"), COMPILED)
def test_xla_gives_the_same_results(posterior, objective, precision):
    changes = {"posterior": posterior, "precision": precision, "dropout": 0.5}
    found = []
    for compiled in (True, False):
        take_step = make_step(**changes, **OBJECTIVES[objective], learning_rate=LEARNING_RATE)
        function = tf.function(take_step, jit_compile=compiled)
        if not compiled:
            start = values(take_step.variables)
        found.append(after_steps(take_step, function))
    for variable, value in zip(take_step.variables, start, strict=True):
        variable.assign(value)
    (terms, weights), (expected_terms, expected_weights) = found
    epsilon = EPSILON[precision]
    tolerance = max(1e-4, 8 * epsilon)
    # A network rounds in every layer, not only once.
    moves = rounding_moves(take_step, function, epsilon)
    for found, expected, move in zip(terms, expected_terms, moves, strict=True):
        for name, value in expected.items():
            allowed = tolerance * abs(value) + 8 * move[name]
            assert found[name] == pytest.approx(value, abs=allowed), name
    for a, b in zip(weights, expected_weights, strict=True):
        # Adam turns a gradient of about 0, whatever its sign, into a step of the learning rate.
        atol = STEPS * 2 * LEARNING_RATE + tolerance
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=atol)
