"""The closed forms of a linear VAE against its objective minimised, its draws, and its files."""

import json
import math

import numpy as np
import pytest
from helpers import stores
from helpers.scored import score_of
from scipy.optimize import minimize

from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.files import write_json
from svae.pixels import scale
from svae.scores import principal_components
from svae.scores.linear_vae_samples import sample
from svae.scores.measures.linear_vae import MEASURED
from svae.scores.principal_components import fit, training_images
from svae.scores.spectrum import ACTIVE_VARIANCE, Spectrum, expectation, linear_vae, load
from svae.scores.store_score import parzen_of
from svae.settings.parzen import ParzenSettings
from svae.training import terms as evaluation

EIGENVALUES = np.array([4.0, 2.0, 0.9, 0.3, 0.1])
SETTINGS = ParzenSettings(sigma_log10_max=0.5, sigma_count=6)


def make_spectrum(eigenvalues=EIGENVALUES, dimension=5, kept=None, seed=0):
    """A spectrum in random directions; of r eigenvalues the first `kept` are known."""
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.standard_normal((dimension, dimension)))[0].T
    return Spectrum(
        mean=rng.uniform(-1, 1, dimension).astype(np.float32),
        eigenvalues=np.asarray(eigenvalues)[:kept],
        components=directions[: len(eigenvalues)][:kept].astype(np.float32),
        total_variance=float(np.sum(eigenvalues)),
        n_fitted=1000,
        dataset_checksum="c",
    )


def covariance(spectrum):
    u = spectrum.components.astype(np.float64)
    return u.T @ np.diag(spectrum.eigenvalues) @ u


def terms(parameters, cov, entries):
    """SSE, KL and the posterior means' covariance of a linear VAE, by expectation over the data.

    It encodes x (less its mean) to N(encoder x, diag exp(log_var)) and decodes z to decoder z.
    """
    d = len(cov)
    decoder = parameters[: d * entries].reshape(d, entries)
    encoder = parameters[d * entries : 2 * d * entries].reshape(entries, d)
    log_var = parameters[2 * d * entries :]
    residual = np.eye(d) - decoder @ encoder
    noise = np.square(decoder).sum(axis=0) @ np.exp(log_var)
    sse = np.trace(residual @ cov @ residual.T) + noise
    means = encoder @ cov @ encoder.T
    kl = 0.5 * np.sum(np.diag(means) + np.exp(log_var) - log_var - 1)
    return sse, kl, means, np.trace(residual @ cov @ residual.T)


@pytest.mark.parametrize(
    ("w", "entries", "used"), [(1.0, 3, 3), (0.3, 3, 3), (0.3, 1, 1), (3.0, 3, 2), (9.0, 2, 0)]
)
def test_against_the_objective_minimised(w, entries, used):
    spectrum = make_spectrum()
    cov = covariance(spectrum)

    def objective(parameters):
        sse, kl, *_ = terms(parameters, cov, entries)
        return sse + w * kl

    rng = np.random.default_rng(1)
    results = [
        minimize(objective, 0.5 * rng.standard_normal(11 * entries), method="BFGS", tol=1e-7)
        for _ in range(3)
    ]
    best = min(results, key=lambda result: result.fun)
    sse, kl, means, sse_of_mean = terms(best.x, cov, entries)
    predicted = linear_vae(spectrum, w, entries)
    assert predicted["objective_sse_plus_w_kl"] == pytest.approx(best.fun, rel=1e-5)
    assert predicted["sse_per_image"] == pytest.approx(sse, rel=2e-3)
    assert predicted["sse_per_image_posterior_mean"] == pytest.approx(sse_of_mean, rel=2e-3)
    assert predicted["kl_nats_per_image"] == pytest.approx(kl, rel=2e-3, abs=1e-4)
    assert predicted["used_entries"] == used
    assert predicted["active_entries"] == np.sum(np.diag(means) > ACTIVE_VARIANCE) == used


def test_against_samples_of_the_posterior():
    """Images, their latents and reconstructions drawn from the optimum that the docstring states"""
    spectrum, v, n = make_spectrum(), 0.5, 200_000
    rng = np.random.default_rng(2)
    along = rng.standard_normal((n, 5)) * np.sqrt(EIGENVALUES)  # u_i . (x - mean)
    used = EIGENVALUES[:3]
    mean = along[:, :3] * np.sqrt(used - v) / used
    z = mean + np.sqrt(v / used) * rng.standard_normal((n, 3))
    errors = np.square(along).sum(axis=1)
    errors += np.square(along[:, :3] - np.sqrt(used - v) * z).sum(axis=1)
    errors -= np.square(along[:, :3]).sum(axis=1)
    kl = 0.5 * (np.square(mean) + v / used - np.log(v / used) - 1).sum(axis=1)
    predicted = linear_vae(spectrum, 2 * v, 3)
    for values, key in [(errors, "sse_per_image"), (kl, "kl_nats_per_image")]:
        assert predicted[key] == pytest.approx(values.mean(), abs=4 * values.std() / math.sqrt(n))


def test_an_entry_is_active_if_its_posterior_mean_varies():
    eigenvalues = np.array([2.0, 1.011, 1.009, 0.99])  # 1 - v / lambda: 0.5, 0.0109, 0.0089
    predicted = linear_vae(make_spectrum(eigenvalues, 4), 2.0, 4)
    assert (predicted["used_entries"], predicted["active_entries"]) == (3, 2)
    assert ACTIVE_VARIANCE == evaluation.ACTIVE_VARIANCE


@pytest.mark.parametrize(("entries", "kept"), [(1, 1), (2, 2), (5, 5), (64, 5)])
def test_no_more_components_than_entries(entries, kept):
    predicted = linear_vae(make_spectrum(), 0.01, entries)
    assert predicted["used_entries"] == predicted["active_entries"] == kept
    assert predicted["kl_nats_per_image"] == pytest.approx(
        0.5 * np.log(EIGENVALUES[:kept] / 0.005).sum()
    )
    assert predicted["sse_per_image"] == pytest.approx(EIGENVALUES[kept:].sum() + 0.005 * kept)


def test_limits():
    spectrum = make_spectrum()
    collapsed = linear_vae(spectrum, 1e6, 3)
    assert collapsed["kl_nats_per_image"] == collapsed["active_entries"] == 0
    assert collapsed["sse_per_image"] == pytest.approx(EIGENVALUES.sum())
    np.testing.assert_array_equal(sample(spectrum, 1e6, 3, 4, 0), np.tile(spectrum.mean, (4, 1)))
    free = linear_vae(spectrum, 0.0, 3)
    assert free["kl_nats_per_image"] == math.inf and free["active_entries"] == 3
    assert free["sse_per_image"] == pytest.approx(EIGENVALUES[3:].sum())
    assert free["objective_sse_plus_w_kl"] == free["sse_per_image"]
    assert free["sse_per_image_posterior_mean"] == free["sse_per_image"]
    near = linear_vae(spectrum, 1e-9, 3)
    assert near["objective_sse_plus_w_kl"] == pytest.approx(free["sse_per_image"])


def test_a_spectrum_with_too_few_components():
    spectrum = make_spectrum(kept=2)
    with pytest.raises(UserError, match="has 2 components, but 3 latent entries"):
        linear_vae(spectrum, 1.0, 3)
    with pytest.raises(UserError, match=r"delete spectrum\.npz"):
        sample(spectrum, 1.0, 3, 1, 0)
    # The third would not be used here, whatever it is; there it is not asked for.
    assert linear_vae(spectrum, 5.0, 3)["used_entries"] == 1
    assert linear_vae(spectrum, 1.0, 2)["used_entries"] == 2


def test_what_a_run_records():
    spectrum = make_spectrum(kept=2)
    terms = linear_vae(spectrum, 1.0, 2)
    found = expectation(spectrum, 1.0, 2)
    assert found.pop("kl_weight") == 1.0 and found.items() <= terms.items()
    assert set(terms) - set(found) == {"used_entries", "sse_per_image_posterior_mean"}
    # Too few components, and an infinite KL.
    assert expectation(spectrum, 1.0, 3) is expectation(spectrum, 0.0, 2) is None


def test_samples_have_the_model_s_mean_and_covariance():
    spectrum, w, n = make_spectrum(), 1.2, 400_000
    samples = sample(spectrum, w, 3, n, 3)
    assert samples.dtype == np.float32 and samples.shape == (n, 5)
    u = spectrum.components[:3].astype(np.float64)
    expected = u.T @ np.diag(EIGENVALUES[:3] - w / 2) @ u
    np.testing.assert_allclose(samples.mean(axis=0), spectrum.mean, atol=5 * 2 / math.sqrt(n))
    np.testing.assert_allclose(np.cov(samples.T), expected, atol=5 * 5 / math.sqrt(n))
    np.testing.assert_allclose(samples[:7], sample(spectrum, w, 3, 7, 3), atol=1e-6)
    assert not np.allclose(samples[:7], sample(spectrum, w, 3, 7, 4))


def make_splits(shape=(4, 5, 2), train=60, seed=0):
    """Correlated random images; the first pixel is constant, at another value in each split."""
    rng = np.random.default_rng(seed)
    d = math.prod(shape)
    mixing = rng.standard_normal((d, d)) * np.linspace(0.2, 3, d)[:, None]
    splits = {}
    for place, (name, n) in enumerate({"train": train, "valid": 12, "test": 30}.items()):
        images = np.clip(128 + 10 * rng.standard_normal((n, d)) @ mixing, 0, 255)
        images[:, 0] = 77 + place
        splits[name] = images.round().astype(np.uint8).reshape(n, *shape)
    return splits


def make_store(path, **changes):
    """A store, and the checksum that it got; `changes`: other images for some of its splits."""
    splits = make_splits() | changes
    return stores.write(path, splits, {"dataset": "noise", "padding": 0})["checksum"]


@pytest.mark.parametrize(
    ("exact", "train", "most", "components"),
    [
        (100, 60, 1024, 40),  # by the covariance
        (100, 60, 7, 7),
        (100, 20, 1024, 19),  # fewer images than pixels
        (30, 20, 1024, 19),  # by a singular value decomposition
        (10, 60, 7, 7),  # by the randomised method
        (10, 60, 1024, 40),
        (10, 20, 1024, 19),
    ],
)
def test_fit_against_the_covariance_matrix(tmp_path, monkeypatch, exact, train, most, components):
    monkeypatch.setattr(principal_components, "EXACT", exact)
    monkeypatch.setattr(principal_components, "BLOCK", 17)
    images = make_splits(train=train)["train"]
    checksum = make_store(tmp_path / "data.h5", train=images)
    spectrum = fit(tmp_path / "data.h5", most)
    x = scale(images).reshape(train, -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(x.T, bias=True))
    values, vectors = values[::-1][:components], vectors[:, ::-1].T[:components]
    assert spectrum.components.shape == (components, 40) and spectrum.mean.shape == (40,)
    assert spectrum.components.dtype == spectrum.mean.dtype == np.float32
    assert (spectrum.n_fitted, spectrum.dataset_checksum) == (train, checksum)
    np.testing.assert_allclose(spectrum.mean, x.mean(axis=0), atol=1e-6)
    assert spectrum.mean[0] == scale(np.uint8(77))  # exactly
    assert spectrum.total_variance == pytest.approx(x.var(axis=0).sum(), rel=1e-6)
    approximate = exact == 10 and most == 7
    np.testing.assert_allclose(
        spectrum.eigenvalues, values, rtol=1e-2 if approximate else 1e-4, atol=1e-6 * values[0]
    )
    np.testing.assert_allclose(
        spectrum.components @ spectrum.components.T, np.eye(components), atol=1e-5
    )
    if not approximate:
        for i in range(5):
            assert abs(spectrum.components[i] @ vectors[i]) == pytest.approx(1, abs=1e-4)


def test_only_training_images_are_fitted(tmp_path):
    other = make_splits(seed=1)
    make_store(tmp_path / "data.h5")
    make_store(tmp_path / "other.h5", valid=other["valid"], test=other["test"])
    one, two = (vars(fit(tmp_path / name)) for name in ("data.h5", "other.h5"))
    assert one.pop("dataset_checksum") != two.pop("dataset_checksum")
    for key, value in one.items():
        np.testing.assert_array_equal(value, two[key])


def test_images_that_do_not_fit_into_memory_are_left_out(tmp_path, monkeypatch):
    make_store(tmp_path / "data.h5")
    images, rng = make_splits()["train"], np.random.default_rng(0)
    with Store(tmp_path / "data.h5") as store:
        np.testing.assert_array_equal(training_images(store, 60, rng), images)
        chosen = training_images(store, 13, rng)
        assert not np.array_equal(chosen, training_images(store, 13, rng))
    rows = [np.flatnonzero((images == image).all(axis=(1, 2, 3))).item() for image in chosen]
    assert len(set(rows)) == 13 and rows == sorted(rows)  # without replacement
    monkeypatch.setattr(principal_components, "MOST_BYTES", 4 * 40 * 13)
    spectrum = fit(tmp_path / "data.h5")
    assert spectrum.n_fitted == 13 and len(spectrum.eigenvalues) == 12


def test_too_few_images(tmp_path):
    make_store(tmp_path / "data.h5", train=make_splits()["train"][:1])
    with pytest.raises(UserError, match="1 training images"):
        fit(tmp_path / "data.h5")


def test_the_file_of_a_spectrum(tmp_path):
    spectrum = make_spectrum()
    spectrum.save(tmp_path / "spectrum.npz")
    for key, value in vars(load(tmp_path / "spectrum.npz")).items():
        np.testing.assert_array_equal(value, vars(spectrum)[key])
        assert type(value) is type(vars(spectrum)[key])


@pytest.mark.parametrize("content", ["nothing", "text", "cut", "other", "pickled"])
def test_a_file_that_is_no_spectrum(tmp_path, content):
    path = tmp_path / "spectrum.npz"
    make_spectrum().save(path)
    if content == "nothing":
        path.write_bytes(b"")
    elif content == "text":
        path.write_text("components")
    elif content == "cut":
        path.write_bytes(path.read_bytes()[:-40])
    elif content == "other":
        np.savez(path, log_likelihood=np.zeros(3))
    else:
        np.savez(path, **vars(make_spectrum()) | {"mean": np.array([None])})
    with pytest.raises(UserError, match=r"spectrum\.npz holds no spectrum"):
        load(path)


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
        "weights_sha256": "w",
        "test": dict.fromkeys(MEASURED, 1.5) | {"latent_entries": 6},
        "software": {},
    }
    write_json(tmp_path / "run.json", record)
    return tmp_path


def scored(folder, **changes):
    if changes:
        run = json.loads((folder / "run.json").read_text()) | changes
        write_json(folder / "run.json", run)
    reads = {"sampling.n_samples": 50}
    return score_of("linear_vae", folder, folder, reads, **vars(SETTINGS))[0]


def test_the_file_beside_a_run(files):
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
    first = (files / "linear_vae.json").read_bytes()
    scored(files)
    assert (files / "linear_vae.json").read_bytes() == first


def test_a_weight_of_zero_and_fewer_draws(files, monkeypatch):
    monkeypatch.setattr(principal_components, "MOST_BYTES", 4 * 40 * 20)
    content = scored(files, kl_weight=0.0)
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
