"""Scores and pictures of a run, from files to files, against direct calls."""

import dataclasses

import h5py
import numpy as np
import pytest
import scipy.stats
from helpers.builders import ELBO, to_x
from helpers.scored import score_of
from sklearn.neighbors import NearestNeighbors
from test_training import SHAPE, TINY, make_store, train

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.jobs.files import read_json
from svae.model import batch_norm, keyed_random
from svae.model.saved import load_model
from svae.sampling import examples
from svae.sampling.prior import sample
from svae.scores import bound, copies, image_terms, wasserstein
from svae.settings.sampling import SamplingSettings
from svae.streams import Stream, generator


@pytest.fixture(scope="module", params=[pytest.param("weighted", marks=pytest.mark.slow), "elbo"])
def folder(request, tmp_path_factory):
    """A store, and a finished run with samples."""
    folder = tmp_path_factory.mktemp(request.param)
    data = make_store(folder / "waves.h5", test=12)
    changes = {**ELBO, "decoder_variance": "optimal"} if request.param == "elbo" else {}
    train(data, folder / "run", dataclasses.replace(TINY, epochs=1, **changes))
    settings = SamplingSettings(n_samples=20, batch_size=10)
    sample(folder / "run", folder / "samples.h5", settings)
    return folder


def measured(name, folder, target, **settings):
    return score_of(name, folder, target, data="waves.h5", record="run/run.json", **settings)


@pytest.fixture
def parts(folder):
    """Model, store and samples."""
    model, _ = load_model(folder / "run")
    with Store(folder / "waves.h5") as store, h5py.File(folder / "samples.h5") as file:
        yield model, {name: store.images(name) for name in ("train", "valid", "test")}, file


@pytest.mark.parametrize("given", ["optimal", "trained"])
def test_bound(folder, tmp_path, parts, given):
    model, images, _ = parts
    name = "importance_weighted_bound"
    value, per_image = measured(
        name, folder, tmp_path, importance_samples=4, decoder_variance=given
    )
    if given == "trained" and model.settings.objective == "weighted":
        assert "importance_weighted_bound.decoder_variance" in value["refused"]
        assert "log_likelihood" not in value and not per_image.files
        return
    assert "refused" not in value and value["k"] == 4 and value["n_images"] == 12
    variance = read_json(folder / "run/run.json")["train"]["mse_per_pixel"]
    if given == "trained":
        assert variance == pytest.approx(model.decoder_variance())
    expected = bound.importance_weighted_bound(
        model, images["test"], 4, np.log(variance), seed=0, batch=7
    )
    assert value["decoder_variance"] == pytest.approx(variance)
    assert value["log_likelihood"] == pytest.approx(expected.per_image.mean())
    assert value["elbo"] <= value["log_likelihood"]
    assert per_image["log_likelihood"].mean() == pytest.approx(value["log_likelihood"])
    assert per_image["effective_sample_size"].shape == (12,)


def test_the_bound_of_some_images_at_a_given_variance(folder, tmp_path, parts):
    """They are random ones, not the first."""
    model, images, _ = parts
    settings = {"importance_samples": 4, "decoder_variance": 0.5, "images": 5}
    value, _ = measured("importance_weighted_bound", folder, tmp_path, **settings)
    assert (value["decoder_variance"], value["n_images"]) == (0.5, 5)
    chosen = subset(images["test"], 5, generator(0, Stream.SCORED_IMAGES, 2))
    found, first = (
        bound.importance_weighted_bound(model, some, 4, np.log(0.5), seed=0, batch=7)
        for some in (chosen, images["test"][:5])
    )
    assert value["log_likelihood"] == pytest.approx(found.per_image.mean())
    assert value["log_likelihood"] != pytest.approx(first.per_image.mean())


def test_distance_of_equal_numbers(folder, tmp_path, parts):
    _, images, samples = parts
    value, _ = measured("sliced_wasserstein", folder, tmp_path, images=8)
    assert value["n_images"] == 8 and value["levels"] == [32, 16]
    rng = {
        "test": generator(0, Stream.WASSERSTEIN_TEST),
        "train": generator(0, Stream.WASSERSTEIN_TRAIN),
    }
    test, train = (subset(images[name], 8, rng[name]) for name in ("test", "train"))
    assert value["distance"] == wasserstein.distance(samples["samples"][:8], test, 0)
    assert value["n_parts"] == 8 and value["distance_mean_standard_error"] > 0
    assert value["floor"] == wasserstein.distance(test, train, 0)


def test_shares_of_memorisation(folder, tmp_path, parts):
    _, images, samples = parts
    value, _ = measured("memorisation", folder, tmp_path)
    expected = copies.shares(
        samples["samples"][:], images["test"], images["train"], images["valid"], 0
    )
    assert {key: value[key] for key in expected} == expected and value["n_samples"] == 20


def test_terms_are_those_of_the_record(folder, tmp_path):
    value, _ = measured("reconstruction", folder, tmp_path)
    record = read_json(folder / "run/run.json")
    terms = record["test"]
    assert {key: value[key] for key in terms} == terms
    assert value["mse_per_pixel_posterior_mean"] == pytest.approx(
        terms["sse_per_image_posterior_mean"] / np.prod(SHAPE)
    )
    assert value["saturated_share_of_samples"] == record["samples"]["saturated_share"]
    origin = ("variant", "seed", "dataset", "dataset_checksum", "weights_sha256", "kl_weight")
    assert {key: value[key] for key in origin} == {key: record[key] for key in origin}
    assert value["software"].items() >= record["software"].items()


def test_pictures(folder, tmp_path, parts):
    model, images, samples = parts
    arguments = (folder / "waves.h5", folder / "run", folder / "samples.h5")
    examples.write(*arguments, threads=1, target=tmp_path / "pictures.h5")
    with h5py.File(tmp_path / "pictures.h5") as file:
        shown = {name: file[name][:] for name in file} | {"title": file.attrs["title"]}
    x = to_x(images["test"][:10])
    # Means are decoded with the statistics of means.
    loc = model.encode(x).mean.numpy()
    with batch_norm.statistics_of_means(model, [images["train"][:]]):
        decoded = 127.5 * (model.decode(loc).numpy() + 1)
        ends = loc[0:2], loc[2:4], loc[4:6]
        middles = [0.5 * (first + second) for first, second in ends]
        middles = 127.5 * (model.decode(np.stack(middles)).numpy() + 1)
    np.testing.assert_array_equal(shown["originals"], images["test"][:10])
    assert np.abs(shown["reconstructions"] - decoded).max() <= 0.51
    levels = 127.5 * (samples["samples"][:] + 1)
    assert np.abs(shown["samples"] - levels).max() <= 0.51
    # Rows lead from an even test image to the next one, by way of the middle of their latents.
    assert shown["interpolations"].shape == (examples.ROWS, examples.STEPS, *SHAPE)
    for row, steps in enumerate(shown["interpolations"]):
        np.testing.assert_array_equal(
            shown["interpolated"][row], images["test"][2 * row : 2 * row + 2]
        )
        wanted = (decoded[2 * row], middles[row], decoded[2 * row + 1])
        for step, expected in zip((0, 4, 8), wanted, strict=True):
            assert np.abs(steps[step] - expected).max() <= 0.55
    flat = to_x(images["train"]).reshape(len(images["train"]), -1)
    search = NearestNeighbors(n_neighbors=1).fit(flat.astype(np.float64))
    distances, numbers = search.kneighbors(samples["samples"][:10].reshape(10, -1))
    np.testing.assert_array_equal(shown["neighbours"], images["train"][numbers[:, 0]])
    np.testing.assert_allclose(shown["neighbour_distances"], distances[:, 0], rtol=1e-6)
    assert shown["title"] == "Waves"


def test_samples_of_another_run_are_refused(folder, tmp_path):
    content = (folder / "samples.h5").read_bytes()
    with h5py.File(folder / "samples.h5", "a") as file:
        del file.attrs["attributes_sha256"]
        file.attrs["weights_sha256"] = "another"
    arguments = (folder / "waves.h5", folder / "run", folder / "samples.h5")
    for work in (
        lambda: measured("memorisation", folder, tmp_path),
        lambda: examples.write(*arguments, threads=1, target=tmp_path / "pictures.h5"),
    ):
        with pytest.raises(UserError, match=r"another run .weights_sha256"):
            work()
    (folder / "samples.h5").write_bytes(content)
    assert list(tmp_path.iterdir()) == []


def test_j_and_elbo_have_the_means_of_the_training(folder, tmp_path):
    value, per_image = measured("objective", folder, tmp_path)
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


def test_terms_of_an_image_are_its_own(parts, monkeypatch):
    """By hand, with the noise of each batch; the last batch is not full."""
    monkeypatch.setattr(image_terms, "BATCH", 5)
    model, splits, _ = parts
    images = splits["test"]
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


def test_the_optimal_variance_is_the_best(folder, tmp_path):
    value, _ = measured("objective", folder, tmp_path)
    sse, kl, v = value["train"]["sse"], value["train"]["kl"], value["decoder_variance"]
    best = image_terms.elbo(sse, kl, v, value["dimension"])
    assert best == pytest.approx(value["train"]["elbo"])
    assert all(image_terms.elbo(sse, kl, f * v, value["dimension"]) < best for f in (0.9, 1.1))
