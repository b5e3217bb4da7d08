"""The linear maps between latent and decoder: what they do to a latent, and to nothing else."""

from dataclasses import asdict

import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import ELBO, SETTINGS, gaussian_kl, make_images, make_model, make_step, step
from scipy.stats import ortho_group

from svae.jobs.neutral import without_neutral
from svae.model.arrangement import Dense, Permuted, Separable, sources
from svae.model.posteriors import POSTERIORS
from svae.model.priors import StandardNormal
from svae.scores.bound import importance_weighted_bound
from svae.settings.training import TrainingSettings
from svae.streams import Stream

LEARNED = ["separable", "dense"]
ALL = ["permuted", *LEARNED]
ODD = pytest.mark.parametrize("d", [1, 3, 5, 7, 15])


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def randomised(layer, seed=0):
    """The layer with random weights near the identity."""
    for number, variable in enumerate(layer.trainable_variables):
        variable.assign_add(0.5 * random(*variable.shape, seed=[seed, number]))
    return layer


# The maps -----------------------------------------------------------------------------------------


@ODD
def test_a_permuted_entry_is_where_the_formula_says(d):
    z = random(2, d, d, 3)
    found = Permuted(d)(tf.constant(z)).numpy()
    for i in range(d):
        for j in range(d):
            np.testing.assert_array_equal(found[:, (i + j) % d, (i - j) % d], z[:, i, j])
    assert sorted(sources(d)) == list(range(d * d))


@ODD
def test_permuting_twice_doubles_the_indices_and_the_order_returns_the_map(d):
    """For d = 3, twice is a reflection, (i, j) to (-i, -j) mod 3; four times is the identity."""
    z = random(1, d, d, 2)
    twice = Permuted(d)(Permuted(d)(tf.constant(z))).numpy()
    i, j = np.mgrid[:d, :d]
    np.testing.assert_array_equal(twice[:, 2 * i % d, 2 * j % d], z)
    undone = twice.reshape(1, d * d, 2)[:, np.argsort(sources(d))][:, np.argsort(sources(d))]
    np.testing.assert_array_equal(undone.reshape(z.shape), z)
    if d == 3:
        np.testing.assert_array_equal(twice, z[:, -i % 3, -j % 3])
        np.testing.assert_array_equal(Permuted(d)(Permuted(d)(tf.constant(twice))), z)


@pytest.mark.parametrize("d", [2, 4, 14])
def test_an_even_size_cannot_be_permuted(d):
    with pytest.raises(ValueError, match=f"latent_size is {d}"):
        Permuted(d)


def test_a_permuted_mean_of_rank_1_has_rank_3():
    maps = 5
    raw = tf.constant(random(4, POSTERIORS["low_rank"].outputs_per_map(3), maps))
    mean = POSTERIORS["low_rank"](raw, 3).mean
    for z, rank in ((mean, 1), (Permuted(3)(mean), 3)):
        found = np.linalg.matrix_rank(np.moveaxis(z.numpy(), -1, 1), tol=1e-5)
        assert np.all(found == rank)


@pytest.mark.parametrize("d", [1, 2, 3, 7])
def test_separable_equals_matrix_products_map_by_map(d):
    layer, z = randomised(Separable(d, 4)), random(2, d, d, 4, seed=1)
    found = layer(tf.constant(z)).numpy()
    rows, columns = layer.rows.numpy(), layer.columns.numpy()
    for image in range(2):
        for n in range(4):
            expected = rows[:, :, n] @ z[image, :, :, n] @ columns[:, :, n].T
            np.testing.assert_allclose(found[image, :, :, n], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_dense_equals_a_matrix_product_and_contains_the_others(d):
    layer, z = randomised(Dense(d, 4)), random(5, d, d, 4, seed=1)
    found = layer(tf.constant(z)).numpy().reshape(5, -1)
    np.testing.assert_allclose(found, z.reshape(5, -1) @ layer.matrix.numpy(), rtol=1e-4, atol=1e-5)
    others = [randomised(Separable(d, 4)), *([Permuted(d)] if d % 2 else [])]
    for other in others:
        units = np.eye(d * d * 4, dtype=np.float32).reshape(-1, d, d, 4)
        layer.matrix.assign(other(tf.constant(units)).numpy().reshape(d * d * 4, -1))
        np.testing.assert_allclose(layer(z), other(tf.constant(z)), rtol=1e-4, atol=1e-5)


def test_prior_samples_through_separable_are_matrix_variate_normal():
    """Their covariance is kron(L L^T, K K^T), map by map."""
    d, maps, count = 3, 2, 40_000
    layer = randomised(Separable(d, maps))
    z = StandardNormal().sample(tf.constant(random(count, d, d, maps, seed=1)))
    found = layer(z).numpy().astype(np.float64)
    for n in range(maps):
        rows, columns = layer.rows.numpy()[:, :, n], layer.columns.numpy()[:, :, n]
        expected = np.kron(rows @ rows.T, columns @ columns.T)
        empirical = np.cov(found[..., n].reshape(count, d * d), rowvar=False)
        variances = np.diag(expected)
        error = np.sqrt((np.outer(variances, variances) + expected**2) / count)
        assert np.all(abs(empirical - expected) < 5 * error)
        swapped = np.kron(columns @ columns.T, rows @ rows.T)
        assert np.any(abs(empirical - swapped) > 10 * error)


def test_the_kl_of_a_latent_is_that_of_what_the_decoder_gets():
    """KL(F || MVN(0, L L^T, K K^T)) = KL(E || I), F = L E K^T; the variances of F have dense rows
    and columns."""
    d = 3
    layer = randomised(Separable(d, 1))
    raw = tf.constant(random(1, POSTERIORS["mvn"].outputs_per_map(d), 1, seed=2))
    posterior = POSTERIORS["mvn"](raw, d)
    units = np.eye(d * d, dtype=np.float32).reshape(-1, d, d, 1)
    transform = layer(tf.constant(units)).numpy().reshape(d * d, -1).T.astype(np.float64)
    mean = layer(posterior.mean).numpy().ravel().astype(np.float64)
    covariance = transform @ np.diag(posterior.variance.numpy().ravel()) @ transform.T
    assert np.all(abs(covariance - np.diag(np.diag(covariance))).sum(axis=1) > 0.01)
    # KL from a Gaussian of covariance P is the KL from N(0, I) of what P^(-1/2) makes of it
    rows, columns = layer.rows.numpy()[:, :, 0], layer.columns.numpy()[:, :, 0]
    prior = np.kron(rows @ rows.T, columns @ columns.T).astype(np.float64)
    whiten = np.linalg.inv(np.linalg.cholesky(prior))
    expected = gaussian_kl(whiten @ mean, whiten @ covariance @ whiten.T)
    assert float(posterior.kl()[0, 0]) == pytest.approx(expected, rel=1e-3)


def test_dense_undoes_a_rotation():
    """A vector latent has no order of entries: a rotated latent gives the same decoder inputs."""
    layer, z = Dense(2, 3), random(4, 2, 2, 3)
    rotation = ortho_group.rvs(12, random_state=0).astype(np.float32)
    layer.matrix.assign(rotation)
    rotated = (z.reshape(4, 12) @ rotation.T).reshape(z.shape)
    np.testing.assert_allclose(layer(tf.constant(rotated)), z, atol=1e-5)


# A model with one --------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("posterior", ["naive", "low_rank"])
def test_a_learned_one_starts_as_the_same_model_bit_for_bit(posterior, name, precision):
    changes = {"posterior": posterior, "precision": precision, "dropout": 0.5}
    steps = [make_step(arrangement=each, **changes) for each in ("maps", name)]
    plain, arranged = (take.model for take in steps)
    own = {id(each) for each in arranged.arrangement.weights}
    common = [each for each in arranged.weights if id(each) not in own]
    assert len(common) == len(plain.weights) == len(arranged.weights) - len(own)
    for one, other in zip(plain.weights, common, strict=True):
        np.testing.assert_array_equal(one, other)
    x = tf.constant(random(6, 32, 32, 3))
    posteriors = [each.encode(x) for each in (plain, arranged)]
    z = [
        each.sample_posterior(one, Stream.TRAINING_LATENTS, 3)
        for each, one in zip((plain, arranged), posteriors, strict=True)
    ]
    np.testing.assert_array_equal(*z)
    np.testing.assert_array_equal(*(each.kl() for each in posteriors))
    np.testing.assert_array_equal(plain.decode(z[0]), arranged.decode(z[0]))
    losses = [step(take, tf.constant(make_images())) for take in steps]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("name", ALL)
def test_the_decoder_gets_the_arranged_latent(name):
    model, plain = make_model(arrangement=name), make_model()
    z = tf.constant(random(3, *model.latent_shape))
    randomised(model.arrangement)
    np.testing.assert_array_equal(model.decode(z), plain.decode(model.arrangement(z)))
    assert np.any(model.decode(z).numpy() != plain.decode(z).numpy())


SLOW = pytest.mark.slow  # compiled steps, and those in half precision on a CPU, take seconds


@pytest.mark.parametrize(
    ("name", "precision", "compiled"),
    [
        *((name, "float32", False) for name in ALL),
        pytest.param("dense", "float32", True, marks=SLOW),
        pytest.param("separable", "mixed_float16", False, marks=SLOW),
        pytest.param("dense", "mixed_float16", True, marks=SLOW),
    ],
)
def test_a_step_trains_all_of_its_weights(name, precision, compiled):
    take = make_step(arrangement=name, precision=precision, learning_rate=1e-3)
    weights = take.model.arrangement.trainable_variables
    assert all(weight.dtype == "float32" for weight in weights)
    before = [weight.numpy() for weight in weights]
    function = tf.function(take, jit_compile=compiled)
    losses = [step(take, tf.constant(make_images()), function)["loss"] for _ in range(12)]
    assert min(losses[-3:]) < 0.95 * losses[0]
    for weight, start in zip(weights, before, strict=True):
        assert np.mean(weight.numpy() != start) > 0.9


@pytest.mark.parametrize("name", ALL)
def test_weights_are_saved_and_loaded(name, tmp_path):
    model = make_model(arrangement=name)
    randomised(model.arrangement)
    model.save_weights(tmp_path / "one.weights.h5")
    loaded = make_model(arrangement=name, seed=2)
    loaded.load_weights(tmp_path / "one.weights.h5")
    z = tf.constant(random(3, *model.latent_shape))
    for twin in (loaded, model.in_float32()):
        np.testing.assert_array_equal(model.decode(z), twin.decode(z))


@pytest.mark.parametrize("name", LEARNED)
def test_the_bound_starts_as_that_of_the_same_model(name):
    images = make_images(3)
    found, expected = (
        importance_weighted_bound(make_model(arrangement=each, **ELBO), images, 4, 0.0, 5, 8)
        for each in (name, "maps")
    )
    np.testing.assert_array_equal(found.per_image, expected.per_image)
    assert np.all(np.isfinite(found.per_image))


def test_a_run_without_one_is_recorded_as_before():
    assert "arrangement" not in without_neutral(asdict(SETTINGS), TrainingSettings)
