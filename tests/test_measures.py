"""What is measured of a run beside its score, from files to files, against direct calls."""

import dataclasses
import json

import h5py
import numpy as np
import pytest
from helpers.builders import ELBO, to_x
from sklearn.neighbors import NearestNeighbors
from test_training import SHAPE, TINY, make_store, train

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.model import batch_norm
from svae.model.saved import load_model
from svae.sampling import examples
from svae.sampling.prior import sample
from svae.scores import bound, memorisation, wasserstein
from svae.scores.measures import measure
from svae.settings.evaluation import EvaluationSettings
from svae.settings.sampling import SamplingSettings
from svae.streams import Stream, generator

SETTINGS = EvaluationSettings(importance_samples=4, distance_images=8)


@pytest.fixture(scope="module", params=["weighted", "elbo"])
def folder(request, tmp_path_factory):
    """A store, and a finished run with samples."""
    folder = tmp_path_factory.mktemp(request.param)
    data = make_store(folder / "waves.h5", test=12)
    changes = {**ELBO, "decoder_variance": "optimal"} if request.param == "elbo" else {}
    train(data, folder / "run", dataclasses.replace(TINY, epochs=1, **changes))
    settings = SamplingSettings(n_samples=20, batch_size=10)
    sample(folder / "run", folder / "samples.h5", settings)
    return folder


def measured(folder, tmp_path, settings=SETTINGS):
    targets = tmp_path / "evaluation.json", tmp_path / "pictures.h5"
    arguments = (folder / "waves.h5", folder / "run", folder / "samples.h5", settings, 1)
    measure(*arguments, *targets)
    with h5py.File(targets[1]) as file:
        shown = {name: file[name][:] for name in file} | {"title": file.attrs["title"]}
    return json.loads(targets[0].read_text()), shown


@pytest.fixture(scope="module")
def found(folder, tmp_path_factory):
    return measured(folder, tmp_path_factory.mktemp("found"))


@pytest.fixture
def parts(folder):
    """Model, store and samples."""
    model, _ = load_model(folder / "run")
    with Store(folder / "waves.h5") as store, h5py.File(folder / "samples.h5") as file:
        yield model, {name: store.images(name) for name in ("train", "valid", "test")}, file


def test_bound(folder, found, parts):
    model, images, _ = parts
    content, _ = found
    value, refused = (content[f"importance_weighted_bound{end}"] for end in ("", "_refused"))
    if model.settings.objective == "weighted":
        assert value is None and "evaluation.decoder_variance" in refused
        return
    assert refused is None and value["k"] == 4 and value["n_images"] == 12
    variance = model.decoder_variance()
    expected = bound.importance_weighted_bound(
        model, images["test"], 4, np.log(variance), seed=0, batch=7
    )
    assert value["decoder_variance"] == pytest.approx(variance)
    assert value["log_likelihood"] == pytest.approx(expected.per_image.mean())
    assert value["elbo"] <= value["log_likelihood"]


def test_a_variance_that_is_given_is_taken(folder, tmp_path):
    settings = dataclasses.replace(SETTINGS, decoder_variance=0.5, bound_images=5)
    value = measured(folder, tmp_path, settings)[0]["importance_weighted_bound"]
    assert (value["decoder_variance"], value["n_images"]) == (0.5, 5)
    assert value["variance_from"] == "evaluation.decoder_variance"


def test_distance_of_equal_numbers(found, parts):
    _, images, samples = parts
    value = found[0]["sliced_wasserstein"]
    assert value["n_images"] == 8 and value["levels"] == [32, 16]
    rng = {
        "test": generator(0, Stream.WASSERSTEIN_TEST),
        "train": generator(0, Stream.WASSERSTEIN_TRAIN),
    }
    test, train = (subset(images[name], 8, rng[name]) for name in ("test", "train"))
    assert value["distance"] == wasserstein.distance(samples["samples"][:8], test, 0)
    assert value["floor"] == wasserstein.distance(test, train, 0)


def test_shares_of_memorisation(found, parts):
    _, images, samples = parts
    value = found[0]["memorisation"]
    expected = memorisation.shares(
        samples["samples"][:], images["test"], images["train"], images["valid"], 0
    )
    assert value == expected and value["n_samples"] == 20


def test_pictures(found, parts):
    model, images, samples = parts
    _, shown = found
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
    with pytest.raises(UserError, match=r"another run .weights_sha256"):
        measured(folder, tmp_path)
    (folder / "samples.h5").write_bytes(content)
    assert list(tmp_path.iterdir()) == []
