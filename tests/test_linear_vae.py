"""The closed forms of a linear VAE against its objective minimised, and its draws."""

import math

import numpy as np
import pytest
from scipy.optimize import minimize

from svae.errors import UserError
from svae.scores.linear_vae_samples import sample
from svae.scores.spectrum import ACTIVE_VARIANCE, Spectrum, expectation, linear_vae
from svae.training import terms as evaluation

EIGENVALUES = np.array([4.0, 2.0, 0.9, 0.3, 0.1])


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
