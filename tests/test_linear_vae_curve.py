"""Rate and distortion of linear VAEs on images: closed form, draws, and the way back to w."""

import math

import numpy as np
import pytest
from helpers.spectra import make_images, make_spectrum

from svae.errors import UserError
from svae.scores.linear_vae_curve import LinearVaes, coordinates, expected
from svae.scores.spectrum import linear_vae

EIGENVALUES = np.array([3.0, 1.2, 0.6, 0.15, 0.02])
WEIGHTS = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 9.0)


TRAIN, TEST = make_images(500, 1), make_images(60, 2)


@pytest.mark.parametrize("entries", [1, 3, 12, 64])
@pytest.mark.parametrize("w", WEIGHTS)
def test_on_the_training_images_it_is_the_known_optimum(entries, w):
    spectrum = make_spectrum(TRAIN)
    known = linear_vae(spectrum, w, entries)
    known = known["kl_nats_per_image"], known["sse_per_image"]
    assert expected(spectrum, entries).terms(w) == pytest.approx(known, rel=1e-9, abs=1e-12)
    measured = coordinates(spectrum, TRAIN, entries).mean()
    assert measured.terms(w) == pytest.approx(known, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("entries", "w"), [(2, 0.3), (3, 0.05), (12, 0.01), (3, 1.0)])
def test_against_latents_drawn_for_each_image(entries, w):
    """Encode, sample, decode, with the matrices of probabilistic PCA."""
    spectrum, v = make_spectrum(TRAIN), w / 2
    used = [value for value in spectrum.eigenvalues[:entries] if value > v]
    lam, u = np.array(used), spectrum.components[: len(used)].astype(float)
    loadings = u.T * np.sqrt(lam - v)
    x = TEST.reshape(60, -1) / 127.5 - 1 - spectrum.mean.astype(float)
    inverse = np.linalg.inv(loadings.T @ loadings + v * np.eye(len(lam)))
    mean, cov = x @ loadings @ inverse.T, v * inverse
    draws = np.random.default_rng(3).multivariate_normal(np.zeros(len(lam)), cov, (4000, 60))
    sse = np.square(x - (mean + draws) @ loadings.T).sum(axis=2)
    trace = np.trace(cov) - len(lam) - np.linalg.slogdet(cov)[1]
    rate, distortion = coordinates(spectrum, TEST, entries).terms(w)
    np.testing.assert_allclose(rate, 0.5 * (np.square(mean).sum(axis=1) + trace), rtol=1e-4)
    error = sse.std(axis=0) / math.sqrt(len(sse))
    assert np.all(np.abs(distortion - sse.mean(axis=0)) < 4.5 * error + 1e-6)
    whole = coordinates(spectrum, TEST, entries).mean().terms(w)
    assert whole == pytest.approx((rate.mean(), distortion.mean()))


def test_fewer_entries_are_the_first_of_more():
    spectrum = make_spectrum(TRAIN)
    many, few = coordinates(spectrum, TEST, 12), coordinates(spectrum, TEST, 2)
    for w in WEIGHTS:
        np.testing.assert_allclose(many.first(2).terms(w), few.terms(w), rtol=1e-5)
    assert many.first(64).terms(0.1)[0].tolist() == many.terms(0.1)[0].tolist()


@pytest.mark.parametrize("squares", [EIGENVALUES, EIGENVALUES[::-1], 3 * EIGENVALUES])
def test_the_distortion_at_a_rate(squares):
    linear = LinearVaes(EIGENVALUES, np.array(squares), 0.7)
    rates = [linear.terms(w)[0] for w in WEIGHTS]
    assert rates == sorted(rates, reverse=True)
    for w in WEIGHTS:
        rate, distortion = linear.terms(w)
        if rate:
            assert linear.weight_at(rate) == pytest.approx(w, rel=1e-9)
        assert linear.distortion_at(rate) == pytest.approx(distortion, rel=1e-9)
    assert linear.distortion_at(0) == pytest.approx(np.sum(squares) + 0.7)
    assert linear.distortion_at(1e6) == pytest.approx(0.7)


def test_the_slope_is_minus_w_on_the_training_images():
    linear = expected(make_spectrum(TRAIN), 3)
    for w in (0.05, 0.3, 1.0):
        (r1, d1), (r2, d2) = linear.terms(w * 0.9999), linear.terms(w * 1.0001)
        assert (d2 - d1) / (r2 - r1) == pytest.approx(-w, rel=1e-3)


def test_too_few_components_are_refused():
    with pytest.raises(UserError, match="the spectrum has 2 components, but 3"):
        expected(make_spectrum(TRAIN, kept=2), 3)
    with pytest.raises(UserError, match="the spectrum has 2 components, but 3"):
        coordinates(make_spectrum(TRAIN, kept=2), TEST, 3)
