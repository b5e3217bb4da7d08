"""The score of a linear VAE: its log density against scipy, and its file next to a run."""

import numpy as np
import pytest
from helpers.noise import make_store
from helpers.scored import score_of
from scipy import stats
from scipy.optimize import minimize_scalar
from test_linear_vae import EIGENVALUES, covariance, make_spectrum

from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.files import read_json, write_json
from svae.pixels import scale
from svae.scores import principal_components
from svae.scores.linear_vae_density import log_density, optimal_variance
from svae.scores.linear_vae_samples import sample
from svae.scores.measures.linear_vae import MEASURED
from svae.scores.principal_components import fit
from svae.scores.spectrum import Spectrum, linear_vae, load
from svae.scores.store_score import parzen_of
from svae.settings.parzen import ParzenSettings

SETTINGS = ParzenSettings(sigma_log10_max=0.5, sigma_count=6)
STEP = 1 / 127.5  # of a byte, on [-1, 1]


def some_images(n=40):
    return np.random.default_rng(5).integers(0, 256, (n, 5), np.uint8)


def model_covariance(spectrum, variance, entries):
    """W W^T + v I, with W from the module's docstring."""
    u = spectrum.components.astype(np.float64)
    gains = np.maximum(spectrum.eigenvalues[:entries] - variance, 0)
    return u[:entries].T @ np.diag(gains) @ u[:entries] + variance * np.eye(len(u.T))


@pytest.mark.parametrize(
    ("variance", "entries"), [(0.5, 3), (0.5, 1), (0.05, 5), (1.5, 5), (9.0, 2), (0.2, 64)]
)
def test_the_log_density_is_the_normal_one(variance, entries, monkeypatch):
    monkeypatch.setattr(principal_components, "BLOCK", 7)
    spectrum, images = make_spectrum(), some_images()
    cov = model_covariance(spectrum, variance, entries)
    density = stats.multivariate_normal(spectrum.mean, cov)
    expected = density.logpdf(scale(images))
    # the noise of the bytes, uniform over a step, in expectation
    expected -= 0.5 * np.trace(np.linalg.inv(cov)) * STEP**2 / 12
    found = log_density(spectrum, variance, entries, images)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_noise_of_the_bytes_is_that_of_draws():
    """At a variance so small that it is worth nats."""
    spectrum, images = make_spectrum(1e-5 * EIGENVALUES), np.full((1, 5), 128, np.uint8)
    variance, rng = 3e-6, np.random.default_rng(6)
    density = stats.multivariate_normal(spectrum.mean, model_covariance(spectrum, variance, 3))
    x = scale(images) + STEP * (rng.random((200_000, 5)) - 0.5)
    drawn = density.logpdf(x)
    without = density.logpdf(scale(images))
    found = log_density(spectrum, variance, 3, images)[0]
    assert abs(found - drawn.mean()) < 4 * stats.sem(drawn)
    assert without - found > 0.5


def test_the_optimal_variance_maximises_the_likelihood():
    spectrum = make_spectrum()
    data = covariance(spectrum)

    def negative(log_v):
        """-2/n log likelihood of images with this covariance, but for a constant."""
        cov = model_covariance(spectrum, np.exp(log_v), 2)
        return np.linalg.slogdet(cov)[1] + np.trace(np.linalg.solve(cov, data))

    best = minimize_scalar(negative, bounds=(-4, 0.6), method="bounded", options={"xatol": 1e-8})
    assert optimal_variance(spectrum, 2) == pytest.approx(np.exp(best.x), rel=1e-4)
    assert optimal_variance(spectrum, 2) == pytest.approx(np.mean([0.9, 0.3, 0.1]))
    # Of a spectrum cut short, the total variance has the rest.
    assert optimal_variance(make_spectrum(kept=2), 2) == pytest.approx(np.mean([0.9, 0.3, 0.1]))


def test_no_optimal_variance():
    assert optimal_variance(make_spectrum(), 5) is None  # nothing is left out
    assert optimal_variance(make_spectrum(), 64) is None
    assert optimal_variance(make_spectrum(kept=2), 3) is None  # the third is not known


@pytest.fixture
def files(tmp_path):
    """A store, its spectrum, and the record of a run."""
    checksum = make_store(tmp_path / "data.h5")
    fit(tmp_path / "data.h5", seed=1).save(tmp_path / "spectrum.npz")
    record = {
        "variant": "tiny",
        "dataset": "noise",
        "dataset_checksum": checksum,
        "seed": 3,
        "objective": "elbo",
        "kl_weight": 0.4,
        "decoder_variance": 0.2,
        "weights_sha256": "w",
        "test": dict.fromkeys(MEASURED, 1.5) | {"latent_entries": 6},
        "software": {},
    }
    write_json(tmp_path / "run.json", record)
    return tmp_path


def measured(folder, **changes):
    """The JSON file and the values of single images."""
    if changes:
        run = read_json(folder / "run.json") | changes
        write_json(folder / "run.json", run)
    reads = {"sampling.n_samples": 50}
    return score_of("linear_vae", folder, folder, reads, **vars(SETTINGS))


def scored(folder, **changes):
    return measured(folder, **changes)[0]


def test_the_file_of_a_run(files):
    content = scored(files)
    spectrum = load(files / "spectrum.npz")
    predicted = linear_vae(spectrum, 0.4, 6)
    assert predicted["used_entries"] == 6
    assert {key: content[key] for key in predicted} == pytest.approx(predicted)
    assert {key: content[key] for key in ("variant", "seed", "kl_weight", "latent_entries")} == {
        "variant": "tiny",
        "seed": 3,
        "kl_weight": 0.4,
        "latent_entries": 6,
    }
    assert content["n_fitted"] == 60 and content["measured"] == dict.fromkeys(MEASURED, 1.5)
    samples = sample(spectrum, 0.4, 6, 50, 3).reshape(50, 4, 5, 2)
    with Store(files / "data.h5") as store:
        expected = parzen_of(samples, store, SETTINGS, "")
    parzen = content["parzen"]
    assert parzen["log_likelihood"] == pytest.approx(expected.log_likelihood)
    assert parzen["standard_error"] == pytest.approx(expected.standard_error)
    assert parzen["grid_log_likelihood"] == pytest.approx(expected.grid_log_likelihood)
    assert (parzen["n_samples"], parzen["n_valid"], parzen["n_test"]) == (50, 12, 30)
    assert len(parzen["sigma_grid"]) == len(parzen["validation_log_likelihood"]) == 6
    assert parzen["protocol"] == "disjoint" and parzen["pixel_range"] == [-1, 1]
    assert (content["variance"], content["n_test"]) == (0.2, 30)
    first = (files / "linear_vae.json").read_bytes()
    scored(files)
    assert (files / "linear_vae.json").read_bytes() == first


def test_log_densities_of_the_file(files):
    """Of a run with a variance, and of one without, at w / 2."""
    spectrum = load(files / "spectrum.npz")
    with Store(files / "data.h5") as store:
        test = store.images("test")
    for own, variance in ((0.3, 0.3), (None, 0.2)):
        content, per_image = measured(files, decoder_variance=own)
        best = optimal_variance(spectrum, 6)
        assert (content["variance"], content["optimal_variance"]) == (variance, best)
        for name, v in (("", variance), ("optimal_", best)):
            expected = log_density(spectrum, v, 6, test)
            assert content[f"{name}log_density"] == pytest.approx(expected.mean())
            error = content[f"{name}log_density_standard_error"]
            assert error == pytest.approx(stats.sem(expected))
            np.testing.assert_allclose(per_image[f"{name}log_density"], expected)


def test_a_weight_of_zero_and_fewer_draws(files, monkeypatch):
    monkeypatch.setattr(principal_components, "MOST_BYTES", 4 * 40 * 20)
    content = scored(files, kl_weight=0.0, decoder_variance=None)
    assert content["variance"] is content["log_density"] is None
    assert content["optimal_log_density"] is not None
    assert content["kl_nats_per_image"] is None and content["used_entries"] == 6
    assert content["parzen"]["n_samples"] == 20


def test_files_of_other_images_are_refused(files):
    with pytest.raises(UserError, match=r"run\.json is of other images"):
        scored(files, dataset_checksum="another")
    spectrum = load(files / "spectrum.npz")
    checksum, new = spectrum.dataset_checksum, vars(spectrum) | {"dataset_checksum": "another"}
    Spectrum(**new).save(files / "spectrum.npz")
    with pytest.raises(UserError, match=r"spectrum\.npz is of other images"):
        scored(files, dataset_checksum=checksum)
    assert not (files / "linear_vae.json").exists()
