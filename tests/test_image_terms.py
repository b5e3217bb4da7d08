"""J and the ELBO of single images against scipy, and their means against the training's own."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
from helpers.builders import ELBO, to_x
from helpers.scored import score_of
from test_training import TINY, make_store, train

from svae.datasets.store import Store
from svae.jobs.files import read_json
from svae.model import keyed_random
from svae.model.saved import load_model
from svae.scores import image_terms
from svae.streams import Stream


def test_elbo_is_a_gaussian_log_density_less_the_kl():
    x, mean = np.random.default_rng(0).uniform(-1, 1, (2, 5, 48))
    kl, variance = np.arange(5.0), 0.3
    sse = np.square(x - mean).sum(axis=1)
    expected = scipy.stats.norm.logpdf(x, mean, np.sqrt(variance)).sum(axis=1) - kl
    np.testing.assert_allclose(image_terms.elbo(sse, kl, variance, 48), expected, rtol=1e-12)


def test_j_over_w_is_the_negative_elbo_at_half_w_up_to_a_constant():
    sse, kl = np.random.default_rng(1).uniform(1, 50, (2, 7))
    j = image_terms.weighted(sse, kl, 2.5)
    sums = j / 2.5 + image_terms.elbo(sse, kl, 1.25, 48)
    assert np.ptp(sums) < 1e-12 * abs(sums[0])


@pytest.fixture(scope="module", params=[pytest.param("weighted", marks=pytest.mark.slow), "elbo"])
def folder(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    data = make_store(folder / "waves.h5", test=12)
    changes = {**ELBO, "decoder_variance": "optimal"} if request.param == "elbo" else {}
    train(data, folder / "run", dataclasses.replace(TINY, epochs=1, **changes))
    return folder


@pytest.fixture
def measured(folder, tmp_path):
    return score_of("objective", folder, tmp_path, data="waves.h5", record="run/run.json")


def test_means_are_those_of_the_training(folder, measured):
    value, per_image = measured
    record = read_json(folder / "run/run.json")
    for split in ("train", "test"):
        own, trained = value[split], record[split]
        assert own["sse"] == pytest.approx(trained["sse_per_image"], rel=1e-6)
        assert own["kl"] == pytest.approx(trained["kl_nats_per_image"], rel=1e-6)
        j = trained["sse_per_image"] + record["kl_weight"] * trained["kl_nats_per_image"]
        assert own["j"] == pytest.approx(j, rel=1e-6)
        assert own["n_images"] == trained["n_images"]
    assert value["decoder_variance"] == pytest.approx(record["train"]["mse_per_pixel"], rel=1e-6)
    if record["objective"] == "elbo":  # trained by the same optimal variance
        assert value["test"]["elbo"] == pytest.approx(record["test"]["elbo_nats_per_image"])
    assert value["encoder_parameters"] + value["decoder_parameters"] == record["parameters"]
    for name in ("j", "elbo", "sse", "kl"):
        assert per_image[name].shape == (12,)
        assert per_image[name].mean() == pytest.approx(value["test"][name])
        error = scipy.stats.sem(per_image[name])
        assert value["test"][f"{name}_standard_error"] == pytest.approx(error)


def test_terms_of_an_image_are_its_own(folder, monkeypatch):
    """By hand, with the noise of each batch; the last batch is not full."""
    monkeypatch.setattr(image_terms, "BATCH", 5)
    model, _ = load_model(folder / "run")
    with Store(folder / "waves.h5") as store:
        images = store.images("test")
    sse, kl = image_terms.terms_by_image(model, images)
    for index in range(3):
        rows = slice(5 * index, 5 * index + 5)
        x = to_x(images[rows])
        posterior = model.encode(x)
        key = keyed_random.key(model.seed, Stream.EVALUATION_LATENTS, index)
        z = posterior.sample(keyed_random.normal(posterior.mean.shape, key))
        error = x - model.decode(z).numpy()
        np.testing.assert_allclose(sse[rows], np.square(error).sum(axis=(1, 2, 3)), rtol=1e-5)
        np.testing.assert_allclose(kl[rows], posterior.kl().numpy().sum(axis=1), rtol=1e-5)


def test_the_optimal_variance_is_the_best(folder, measured):
    value, _ = measured
    sse, kl, v = value["train"]["sse"], value["train"]["kl"], value["decoder_variance"]
    best = image_terms.elbo(sse, kl, v, value["dimension"])
    assert best == pytest.approx(value["train"]["elbo"])
    assert all(image_terms.elbo(sse, kl, f * v, value["dimension"]) < best for f in (0.9, 1.1))
