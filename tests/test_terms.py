"""The evaluator compared with a slow loop over images, and on given posterior means."""

import contextlib
import itertools
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import ELBO, SHAPE, gaussian_kl, make_images, make_model, to_x
from scipy.special import erfinv
from scipy.stats import norm

from svae.model import batch_norm, keyed_random
from svae.model.posteriors import Naive
from svae.streams import Stream
from svae.training import terms as evaluation
from svae.training.terms import Evaluator

D = int(np.prod(SHAPE))


def trained(**changes):
    """A model whose moving statistics fit its data; dropout must stay off."""
    model = make_model(dropout=0.5, **changes)
    batch_norm.reestimate(model, [make_images(16, seed=9)])
    return model


def slow_terms(model, images, batch):
    """Image by image, KL by covariance matrix; the noise is drawn batch by batch."""
    sampled, from_mean, saturated, divergences, by_map, locs = [], [], [], [], [], []
    for i, x in enumerate(to_x(images)):
        posterior = model.encode(x[None])
        loc, variance = posterior.mean.numpy(), posterior.variance.numpy()
        count = min(batch, len(images) - i // batch * batch)
        key = keyed_random.key(model.seed, Stream.EVALUATION_LATENTS, i // batch)
        noise = keyed_random.normal((count, *model.latent_shape), key)[i % batch]
        z = loc + np.sqrt(variance) * noise
        decoded = model.decode(z)[0].numpy()
        sampled.append(np.square(x - decoded).sum())
        saturated.append(np.mean((abs(decoded) > np.tanh(4)) & (abs(x) < 0.9)))
        from_mean.append(np.square(x - model.decode(loc)[0].numpy()).sum())
        divergences.append(gaussian_kl(loc.ravel(), np.diag(variance.ravel())))
        maps = (np.moveaxis(part[0], -1, 0).reshape(len(part.T), -1) for part in (loc, variance))
        by_map.append([gaussian_kl(m, np.diag(v)) for m, v in zip(*maps, strict=True)])
        locs.append(loc[0])
    worst = int(np.argmax(divergences))
    return {
        "n_images": len(images),
        "sse_median": np.median(sampled),
        "kl_nats_median": np.median(divergences),
        "kl_nats_largest": max(divergences),
        "kl_largest_image": worst,
        "kl_largest_map": int(np.argmax(by_map[worst])),
        "saturated_share": np.mean(saturated),
        "sse_per_image": np.mean(sampled),
        "sse_per_image_posterior_mean": np.mean(from_mean),
        "mse_per_pixel": np.mean(sampled) / model.dimension,
        "kl_nats_per_image": np.mean(divergences),
        "kl_nats_per_map": np.mean(by_map, axis=0).tolist(),
        "active_entries": np.sum(np.var(locs, axis=0) > 0.01),
        "active_maps": np.sum(np.any(np.var(locs, axis=0) > 0.01, axis=(0, 1))),
        "latent_entries": int(np.prod(model.latent_shape)),
        "latent_maps": model.latent_shape[-1],
    }


def flat(terms):
    """Terms with each map's KL under its own name, for pytest.approx."""
    maps = terms["kl_nats_per_map"]
    rest = {name: value for name, value in terms.items() if name != "kl_nats_per_map"}
    return rest | {f"kl_nats_of_map_{i}": value for i, value in enumerate(maps)}


@pytest.mark.parametrize("batch", [3, 7, 500])
@pytest.mark.parametrize("posterior", ["vanilla", "low_rank"])
def test_terms_equal_a_slow_loop(posterior, batch, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", batch)
    model = trained(posterior=posterior)
    images = make_images(7)
    weights = model.get_weights()
    terms = Evaluator(model)(images)
    assert flat(terms) == pytest.approx(flat(slow_terms(model, images, batch)), rel=1e-4)
    assert terms["kl_nats_per_image"] == pytest.approx(sum(terms["kl_nats_per_map"]), rel=1e-12)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_an_open_dataset_is_evaluated_like_an_array(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluation, "BATCH", 3)
    model, images = trained(), make_images(7)
    with h5py.File(tmp_path / "images.h5", "w") as file:
        assert Evaluator(model)(file.create_dataset("test", data=images)) == Evaluator(model)(
            images
        )


def test_terms_of_padded_images_exclude_the_padding():
    model = make_model((28, 28, 1), padding=2)
    images = make_images(5, (28, 28, 1))
    terms = slow_terms(model, images, 500)
    assert flat(Evaluator(model)(images)) == pytest.approx(flat(terms), rel=1e-4)


def test_the_batch_size_affects_only_the_noise(monkeypatch):
    model, images = trained(), make_images(10)
    found = []
    for batch in (3, 500):
        monkeypatch.setattr(evaluation, "BATCH", batch)
        found.append(flat(Evaluator(model)(images)))
    noisy = ("sse_per_image", "mse_per_pixel", "sse_median", "saturated_share")
    few, whole = ({k: v for k, v in f.items() if k not in noisy} for f in found)
    assert few == pytest.approx(whole, rel=1e-5)
    # with tiny variances, the noise has no effect
    kernel, bias = model.encoder.outputs.get_weights()
    kernel[:, 24:], bias[24:] = 0, -30  # log_omega, log_psi
    model.encoder.outputs.set_weights([kernel, bias])
    certain = flat(Evaluator(model)(images))
    assert certain["sse_per_image"] == pytest.approx(
        certain["sse_per_image_posterior_mean"], rel=1e-5
    )
    monkeypatch.setattr(evaluation, "BATCH", 3)
    assert flat(Evaluator(model)(images)) == pytest.approx(certain, rel=1e-5)


class Enough(Exception):
    pass


def stop_at(call):
    """A check that raises at this call, counted from 1."""
    calls = itertools.count(1)

    def check():
        if next(calls) == call:
            raise Enough

    return check


@pytest.mark.parametrize(("call", "stops"), [(1, True), (3, True), (4, False)])
def test_the_check_before_each_batch_may_stop_a_pass(monkeypatch, call, stops):
    monkeypatch.setattr(evaluation, "BATCH", 3)
    model, images = trained(), make_images(7)
    batches = np.split(images, [3, 6])
    momenta = [norm.momentum for norm in batch_norm.layers(model)]
    for work in (
        lambda: Evaluator(model, check=stop_at(call))(images),
        lambda: batch_norm.reestimate(model, batches, check=stop_at(call)),
    ):
        with pytest.raises(Enough) if stops else contextlib.nullcontext():
            work()
    assert [norm.momentum for norm in batch_norm.layers(model)] == momenta


def test_terms_are_repeatable_and_follow_the_weights():
    model, images = trained(), make_images(6)
    evaluator = Evaluator(model)
    first = evaluator(images)
    assert evaluator(images) == first
    for weight in model.encoder.outputs.trainable_variables:
        weight.assign(2 * weight + 0.1)
    assert evaluator(images)["kl_nats_per_image"] > first["kl_nats_per_image"]


def test_active_units_are_those_whose_posterior_mean_varies(monkeypatch):
    """The images are black and white in turn, and the means +-amplitude around an offset."""
    monkeypatch.setattr(evaluation, "BATCH", 4)
    amplitude = np.zeros((2, 2, 3))
    amplitude[:, :, 0] = [[0.11, 0.2], [1.0, 0.099]]  # variances 0.0121, 0.04, 1, 0.0098
    amplitude[0, 1, 1] = 0.5
    offset = np.full((2, 2, 3), 3.0)

    def encode(x):
        loc = offset + amplitude * tf.cast(x, tf.float64)[:, :1, :1, :1]
        raw = tf.concat([loc, tf.zeros(tf.shape(loc), tf.float64)], axis=1)
        return Naive(tf.reshape(tf.cast(raw, tf.float32), [-1, 8, 3]), 2)

    model = SimpleNamespace(
        seed=1,
        encode=encode,
        sample_posterior=lambda posterior, stream, counter: posterior.mean,
        decode=lambda z: tf.zeros((tf.shape(z)[0], 4, 4, 1)),
        preactivation=lambda z: tf.zeros((tf.shape(z)[0], 4, 4, 1)),
        latent_shape=(2, 2, 3),
        dimension=16,
    )
    images = np.zeros((10, 4, 4, 1), np.uint8)
    images[1::2] = 255
    terms = Evaluator(model)(images)
    assert (terms["active_entries"], terms["active_maps"]) == (4, 2)
    assert (terms["latent_entries"], terms["latent_maps"]) == (12, 3)
    assert terms["sse_per_image"] == terms["sse_per_image_posterior_mean"] == 16
    assert terms["mse_per_pixel"] == 1
    assert terms["kl_nats_per_image"] == pytest.approx(
        np.mean([np.square(offset + sign * amplitude).sum() / 2 for sign in (-1, 1)])
    )


def test_the_objective_has_the_name_of_its_unit():
    terms = {"sse_per_image": 500.0, "kl_nats_per_image": 20.0}
    weighted = Evaluator(make_model(kl_weight=3.0, kl_warmup_epochs=9.0))
    assert weighted.objective(terms) == {"objective_sse_plus_w_kl": pytest.approx(560.0)}
    elbo = Evaluator(make_model(**ELBO, decoder_variance=0.25, beta=4.0, kl_warmup_epochs=9.0))
    error = np.sqrt(500.0 / D)
    expected = D * norm.logpdf(error, 0, np.sqrt(0.25)) - 20.0
    assert elbo.objective(terms) == {"elbo_nats_per_image": pytest.approx(expected, rel=1e-5)}


def saturating(share):
    """A model with about this share of saturated outputs, by the scale of its last layer."""
    model = trained()
    norm = model.decoder.blocks[-1].batch_norm
    norm.gamma.assign(4 / np.sqrt(2) / erfinv(1 - share) * np.ones(3))
    norm.beta.assign(np.zeros(3))
    return model


@pytest.mark.parametrize("share", [0.02, 0.2])
def test_saturated_pixels_are_counted_where_the_image_is_grey(share):
    model, images = saturating(share), make_images(7)
    found = Evaluator(model)(images)["saturated_share"]
    assert found == pytest.approx(slow_terms(model, images, 500)["saturated_share"], rel=1e-3)
    assert 0.1 * share < found < 10 * share
    white = np.full((7, *SHAPE), 255, np.uint8)
    assert Evaluator(model)(white)["saturated_share"] == 0


def test_saturated_pixels_of_samples_are_those_in_grey_surroundings():
    model = saturating(0.05)
    found = Evaluator(model).saturated_samples(30)
    assert found["n_samples"] == 30
    key = keyed_random.key(model.seed, Stream.SATURATION_LATENTS, 0)
    z = keyed_random.normal((30, *model.latent_shape), key)
    a = model.preactivation(z).numpy()
    y, count = np.tanh(a), 0
    for n, i, j, c in zip(*np.nonzero(abs(a) > 4), strict=True):
        around = y[n, max(0, i - 2) : i + 3, max(0, j - 2) : j + 3, c]
        count += abs(around.mean()) < 0.9
    assert found["saturated_share"] == pytest.approx(count / a.size, rel=1e-6)
    assert found["saturated_share"] > 0
    model.decoder.blocks[-1].batch_norm.gamma.assign(0.1 * np.ones(3))
    assert Evaluator(model).saturated_samples(30)["saturated_share"] == 0
