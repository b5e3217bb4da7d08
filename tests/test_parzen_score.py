"""The Parzen score from files: the right images, the context of the run, and errors."""

import h5py
import numpy as np
import pytest
from helpers import stores
from helpers.builders import make_images
from helpers.scored import score_of

from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.files import write_json
from svae.pixels import scale
from svae.sampling import prior
from svae.scores.measures.parzen import CONTEXT
from svae.scores.measuring import CONTEXT as ORIGIN
from svae.scores.parzen_window import sigma_grid
from svae.scores.scored_images import scored_images
from svae.settings.sampling import SamplingSettings

SETTINGS = {"sigma_log10_max": 0.5, "sigma_count": 6}
SAMPLING = SamplingSettings(n_samples=15, batch_size=5)
TERMS = {"sse_per_image": 1.5, "kl_nats_per_image": 2.5, "active_entries": 3, "active_maps": 2}


@pytest.fixture
def files(tmp_path):
    """A store, a run record and samples that belong together."""
    splits = {
        name: make_images(n, (8, 8, 3), seed=i)
        for i, (name, n) in enumerate({"train": 9, "valid": 12, "test": 30}.items())
    }
    attributes = stores.write(tmp_path / "data.h5", splits, {"dataset": "waves", "padding": 0})
    record = dict.fromkeys((*CONTEXT, *ORIGIN), 1) | {"test": TERMS, "software": {}}
    record |= {"dataset_checksum": attributes["checksum"], "weights_sha256": "w"}
    write_json(tmp_path / "run.json", record | {"variant": "tiny"})
    with h5py.File(tmp_path / "samples.h5", "w") as file:
        file["samples"] = scale(make_images(15, (8, 8, 3), seed=9))
        file.attrs.update({"weights_sha256": "w", "dataset_checksum": attributes["checksum"]})
        file.attrs["batch_norm"] = "moving"
    return tmp_path


def scored(folder, fresh_draws=0, **changes):
    settings = SETTINGS | {"fresh_draws": fresh_draws} | changes
    return score_of("parzen", folder, folder, reads={"sampling": vars(SAMPLING)}, **settings)


def brute_force(images, samples, sigma):
    """log 1/m sum_j N(x; s_j, sigma^2 I), pair by pair, in float64."""
    values = []
    for x in images.astype(np.float64):
        exponents = [-np.sum((x - s) ** 2) / (2 * sigma**2) for s in samples.astype(np.float64)]
        top = max(exponents)
        total = top + np.log(np.mean(np.exp(np.array(exponents) - top)))
        values.append(total - 0.5 * x.size * np.log(2 * np.pi * sigma**2))
    return np.array(values)


@pytest.mark.parametrize(
    ("protocol", "asked", "n_valid", "n_test"),
    [
        ("disjoint", ("auto", "auto"), 12, 30),
        ("disjoint", (4, 7), 4, 7),
        ("paper", ("auto", "auto"), 5, 30),
        ("paper", (4, 7), 4, 7),  # sigma is chosen on more test images than are scored
        ("paper", (1, 20), 1, 20),
    ],
)
def test_score_against_brute_force(files, protocol, asked, n_valid, n_test):
    result, per_image = scored(files, protocol=protocol, n_valid=asked[0], n_test=asked[1])
    with Store(files / "data.h5") as data, h5py.File(files / "samples.h5") as file:
        samples = file["samples"][:]
        valid, test = scale(data.images("valid")), scale(data.images("test"))
        if protocol == "disjoint":
            valid = scale(scored_images(data, "valid", n_valid))
            test = scale(scored_images(data, "test", n_test))
    sigmas = np.logspace(-1, 0.5, 6)
    if protocol == "disjoint":
        tried = [brute_force(valid, samples, sigma).mean() for sigma in sigmas]
    else:
        tried = [
            brute_force(block, samples, sigma).mean()
            for block, sigma in zip(np.split(test[: 6 * n_valid], 6), sigmas, strict=True)
        ]
    best = np.argmax(tried)
    on_grid = brute_force(test[:n_test], samples, sigmas[best])
    assert result["grid_sigma"] == pytest.approx(sigmas[best])
    assert result["grid_log_likelihood"] == pytest.approx(on_grid.mean(), abs=1e-3)
    assert result["grid_standard_error"] == pytest.approx(on_grid.std(ddof=1) / np.sqrt(n_test))
    np.testing.assert_allclose(per_image["grid_log_likelihood"], on_grid, atol=1e-3)
    assert result["refined"] is (protocol == "disjoint")
    sigma = sigmas[best]
    if protocol == "disjoint":
        between = np.geomspace(sigmas[best - 1], sigmas[best + 1], 201)
        sigma = between[np.argmax([brute_force(valid, samples, s).mean() for s in between])]
    assert result["sigma"] == pytest.approx(sigma, rel=0.01)
    expected = brute_force(test[:n_test], samples, result["sigma"])
    assert result["validation_log_likelihood"] == pytest.approx(tried, abs=1e-3)
    assert result["log_likelihood"] == pytest.approx(expected.mean(), abs=1e-3)
    assert result["standard_error"] == pytest.approx(
        expected.std(ddof=1) / np.sqrt(n_test), rel=1e-4
    )
    np.testing.assert_allclose(per_image["log_likelihood"], expected, atol=1e-3)
    assert (result["n_valid"], result["n_test"]) == (n_valid, n_test)
    assert result["pixel_range"] == [-1, 1] and result["protocol"] == protocol
    assert {key: result[key] for key in TERMS} == TERMS
    assert result["variant"] == "tiny" and result["batch_norm"] == "moving"


def test_sigma_at_the_edge_is_reported(files, caplog):
    result, _ = scored(files, sigma_log10_min=-4.0, sigma_log10_max=-3.0, sigma_count=3)
    assert result["sigma_at_grid_edge"] and "edge of its grid" in caplog.text
    assert sigma_grid(-4, -3, 3)[-1] == result["sigma"]


@pytest.mark.parametrize("key", ["weights_sha256", "dataset_checksum"])
def test_samples_of_another_run_are_refused(files, key):
    with h5py.File(files / "samples.h5", "a") as file:
        file.attrs[key] = "another"
    with pytest.raises(UserError, match=f"another run .{key}"):
        scored(files)
    assert not (files / "parzen.json").exists()


@pytest.mark.parametrize(
    ("protocol", "n_valid", "n_test", "key"),
    [
        ("disjoint", 13, 30, r"parzen\.n_valid"),
        ("disjoint", 12, 31, r"parzen\.n_test"),
        ("paper", 6, 30, r"parzen\.n_valid"),
    ],
)
def test_more_images_than_available(files, protocol, n_valid, n_test, key):
    with pytest.raises(UserError, match=key):
        scored(files, protocol=protocol, n_valid=n_valid, n_test=n_test)


def test_fresh_draws_are_scored_like_the_samples(files, monkeypatch):
    sets = [scale(make_images(15, (8, 8, 3), seed=20 + i)) for i in range(3)]
    asked = []

    def redrawn(*arguments):
        asked.append(arguments)
        yield from sets

    with monkeypatch.context() as patched:
        patched.setattr(prior, "redrawn", redrawn)
        fresh = scored(files, fresh_draws=3)[0]["fresh_draws"]
    assert asked == [(files, SAMPLING, 3)]
    expected = []
    for samples in sets:
        with h5py.File(files / "samples.h5", "a") as file:
            file["samples"][:] = samples
        expected.append(scored(files)[0]["log_likelihood"])
    assert fresh["n"] == 3 and fresh["log_likelihood"] == expected
    assert fresh["standard_deviation"] == pytest.approx(np.std(expected, ddof=1))
    none = scored(files)[0]["fresh_draws"]
    assert none == {"n": 0, "log_likelihood": [], "standard_deviation": None}
