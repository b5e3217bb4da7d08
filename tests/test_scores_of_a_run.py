"""Scores and pictures of a run, from files to files, against direct calls."""

import dataclasses

import h5py
import numpy as np
import pytest
from helpers.builders import ELBO, to_x
from helpers.scored import score_of
from sklearn.neighbors import NearestNeighbors
from test_training import SHAPE, TINY, make_store, train

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.jobs.files import read_json
from svae.model import batch_norm
from svae.model.saved import load_model
from svae.sampling import examples
from svae.sampling.prior import sample
from svae.scores import bound, copies, wasserstein
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
