"""Fitted priors: the file of a run, its draws against scikit-learn, and the samples that use it."""

import dataclasses

import h5py
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from helpers.builders import make_images, make_model
from helpers.scored import score_of
from sklearn.mixture import GaussianMixture
from test_training import SHAPE, make_store, train

from svae.datasets.store import Store
from svae.errors import UserError
from svae.model import aggregate, batch_norm
from svae.model.priors import StandardNormal
from svae.model.saved import load_model
from svae.sampling import file, fit, prior_file
from svae.sampling.fit import Chosen, posterior_samples
from svae.sampling.prior import redrawn, sample
from svae.sampling.prior_file import Drawn, Mixture
from svae.scores.bound import importance_weighted_bound
from svae.settings.fitted_prior import PriorSettings
from svae.settings.sampling import SamplingSettings
from svae.streams import Stream, generator

ENTRIES = 3 * 3 * 4


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A store and a finished run of it."""
    place = tmp_path_factory.mktemp("fitted")
    train(make_store(place / "waves.h5", train=40), place / "run")
    return place


@pytest.fixture
def run(place):
    """The run, without a prior of another test."""
    (place / "run" / prior_file.NAME).unlink(missing_ok=True)
    return place / "run"


def fit_to(run, prior="gaussian", components=1, statistics=False):
    settings = PriorSettings(prior=prior, components=components, statistics=statistics)
    fit.fit(run.parent / "waves.h5", run, run / prior_file.NAME, settings)
    with h5py.File(run / prior_file.NAME) as opened:
        return prior_file.mixture_in(opened) if "mean" in opened else None


def drawn(run, target, n=20, batch_size=8, **settings):
    settings = {"fitted_prior": True, **settings}
    sample(run, target, SamplingSettings(n_samples=n, batch_size=batch_size, **settings))
    with h5py.File(target) as opened:
        return opened["samples"][:], dict(opened.attrs)


def moments_of(run):
    model, _ = load_model(run)
    with Store(run.parent / "waves.h5") as store:
        return aggregate.moments(model, store.split("train"))


def random_mixture(seed=0, components=3, entries=8):
    rng = np.random.default_rng(seed)
    return Mixture(
        mean=rng.standard_normal(entries),
        axes=np.linalg.qr(rng.standard_normal((entries, entries)))[0],
        weights=rng.dirichlet(np.full(components, 3.0)),
        locations=3 * rng.standard_normal((components, entries)),
        scales=rng.uniform(0.3, 2, (components, entries)),
        description="z of a test",
    )


def as_sklearn(mixture):
    """The same distribution as a fitted GaussianMixture with full covariances."""
    axes = mixture.axes
    covariances = np.array([(axes * scale**2) @ axes.T for scale in mixture.scales])
    found = GaussianMixture(len(mixture.weights), covariance_type="full", random_state=0)
    found.weights_ = mixture.weights
    found.means_ = mixture.mean + mixture.locations @ axes.T
    found.covariances_ = covariances
    found.precisions_cholesky_ = np.array(
        [np.linalg.cholesky(np.linalg.inv(each)) for each in covariances]
    )
    return found


def test_draws_are_like_those_of_scikit_learn():
    mixture, n = random_mixture(), 20_000
    reference = as_sklearn(mixture)
    noise = np.random.default_rng(1).standard_normal((n, 2, 2, 2), np.float32)
    z = Drawn(mixture, np.random.default_rng(2)).sample(noise).numpy().reshape(n, -1)
    theirs, _ = reference.sample(n)
    # Each draw's density, and its projections, have the same distribution.
    for ours, other in [
        (reference.score_samples(z), reference.score_samples(theirs)),
        *zip(z.T, theirs.T, strict=True),
    ]:
        assert scipy.stats.ks_2samp(ours, other).pvalue > 1e-4
    members = np.bincount(reference.predict(z), minlength=3) / n
    expected = np.bincount(reference.predict(theirs), minlength=3) / n
    np.testing.assert_allclose(members, expected, atol=0.02)


def test_a_prior_that_is_standard_normal_gives_the_noise():
    mixture = random_mixture(components=1)
    plain = dataclasses.replace(
        mixture, mean=np.zeros(8), locations=np.zeros((1, 8)), scales=np.ones((1, 8))
    )
    noise = np.random.default_rng(3).standard_normal((5, 2, 2, 2)).astype(np.float32)
    found = Drawn(plain, np.random.default_rng(0)).sample(tf.constant(noise))
    np.testing.assert_allclose(found, noise, atol=1e-6)


def test_draws_do_not_depend_on_their_batches():
    mixture = random_mixture()
    noise = np.random.default_rng(4).standard_normal((50, 2, 2, 2)).astype(np.float32)
    whole = Drawn(mixture, np.random.default_rng(5)).sample(noise).numpy()
    prior = Drawn(mixture, np.random.default_rng(5))
    parts = [prior.sample(noise[start : start + 7]).numpy() for start in range(0, 50, 7)]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


@pytest.mark.slow
def test_the_gaussian_has_the_moments_of_the_posteriors(run):
    mixture = fit_to(run)
    expected = moments_of(run)
    np.testing.assert_allclose(mixture.mean, expected.mean, atol=1e-6)
    np.testing.assert_allclose(
        (mixture.axes * mixture.scales[0] ** 2) @ mixture.axes.T, expected.covariance, atol=1e-5
    )
    assert mixture.weights.tolist() == [1.0] and not mixture.locations.any()
    assert "40 training images" in mixture.description


def test_one_component_has_the_moments_of_posterior_samples(run):
    mixture = fit_to(run, "mixture", 1)
    model, record = load_model(run)
    with Store(run.parent / "waves.h5") as store:
        z = posterior_samples(model, store.split("train"), record["seed"])
    assert z.shape == (40, ENTRIES)
    center = mixture.mean + mixture.axes @ mixture.locations[0]
    np.testing.assert_allclose(center, z.mean(axis=0), atol=1e-6)
    along = (z - z.mean(axis=0)) @ mixture.axes
    np.testing.assert_allclose(mixture.scales[0] ** 2, along.var(axis=0), rtol=1e-4)


def test_posterior_samples_are_of_the_posteriors(run):
    """Of many samples of the same images, mean and variance."""
    model, _ = load_model(run)
    images = make_images(3, SHAPE, seed=2)
    z = posterior_samples(model, np.repeat(images, 200, axis=0), seed=0)
    z = z.reshape(3, 200, -1).swapaxes(0, 1)
    posterior = model.encode(tf.constant(images / 127.5 - 1, tf.float32))
    mean, variance = (each.numpy().reshape(3, -1) for each in (posterior.mean, posterior.variance))
    error = np.sqrt(variance / 200)
    assert (np.abs(z.mean(axis=0) - mean) < 5 * error).all()
    np.testing.assert_allclose(z.var(axis=0), variance, rtol=0.5)


def test_a_mixture_finds_clusters(run, monkeypatch):
    """Posterior samples in two clusters far apart: a weight, a mean and a variance each."""
    rng = np.random.default_rng(6)
    z = rng.standard_normal((40, ENTRIES))
    z[:30] += 20
    monkeypatch.setattr(fit, "posterior_samples", lambda *_: z.copy())
    mixture = fit_to(run, "mixture", 2)
    order = np.argsort(mixture.weights)
    np.testing.assert_allclose(mixture.weights[order], [0.25, 0.75], atol=1e-6)
    centers = mixture.mean + mixture.locations @ mixture.axes.T
    np.testing.assert_allclose(
        centers[order], [z[30:].mean(axis=0), z[:30].mean(axis=0)], atol=1e-6
    )


def test_more_components_than_images_are_refused(run):
    with pytest.raises(UserError, match=r"components is 41, but there are 40 .* fewer components"):
        fit_to(run, "mixture", 41)
    assert not (run / prior_file.NAME).exists()


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["gaussian", "mixture"])
def test_samples_and_further_sets_use_the_same_prior(run, tmp_path, prior):
    mixture = fit_to(run, prior, 3 if prior == "mixture" else 1)
    found, attributes = drawn(run, tmp_path / "samples.h5")
    assert attributes["prior"] == mixture.description
    model, record = load_model(run)

    def decoded(number, stream, *indices):
        noise = generator(record["seed"], stream, *indices).standard_normal(
            (20, *model.latent_shape), np.float32
        )
        draws = Drawn(mixture, generator(record["seed"], Stream.PRIOR_COMPONENTS, number))
        return model.decode(draws.sample(noise)).numpy()

    np.testing.assert_allclose(found, decoded(0, Stream.PRIOR_LATENTS), atol=1e-5)
    settings = SamplingSettings(n_samples=20, batch_size=6, fitted_prior=True)
    for number, again in enumerate(redrawn(run, settings, 2)):
        expected = decoded(1 + number, Stream.FRESH_PRIOR_LATENTS, number)
        np.testing.assert_allclose(again, expected, atol=1e-5)
    standard, _ = drawn(run, tmp_path / "standard.h5", fitted_prior=False)
    assert np.abs(standard - found).max() > 0.01


def test_latents_of_samples_have_the_moments_of_the_posteriors(run, tmp_path, monkeypatch):
    """With a decoder that shows its input, the samples are the latents."""
    fit_to(run)
    expected = moments_of(run)
    model, record = load_model(run)
    model.image_shape = (3, 3, 4)
    model.decode = lambda z, batch_statistics: z
    monkeypatch.setattr("svae.sampling.prior.load_model", lambda folder: (model, record))
    z, _ = drawn(run, tmp_path / "z.h5", n=20_000, batch_size=1000)
    z = z.reshape(20_000, -1)
    error = np.sqrt(np.diag(expected.covariance) / 20_000)
    assert (np.abs(z.mean(axis=0) - expected.mean) < 5 * error).all()
    scale = np.sqrt(np.outer(*2 * [np.diag(expected.covariance)]))
    assert (np.abs(np.cov(z.T) - expected.covariance) < 6 * np.sqrt(2 / 20_000) * scale).all()


def test_statistics_of_one_batch_are_its_own():
    model = make_model()
    z = np.random.default_rng(7).standard_normal((16, *model.latent_shape)).astype(np.float32)
    expected = model.decode(z, batch_statistics=True).numpy()
    momenta = [norm.momentum for norm in batch_norm.layers(model)]
    encoder = [block.batch_norm.moving_variance.numpy() for block in model.encoder.blocks]
    batch_norm.reestimate_decoder(model, [z])
    np.testing.assert_allclose(model.decode(z).numpy(), expected, atol=1e-4)
    assert [norm.momentum for norm in batch_norm.layers(model)] == momenta
    for block, before in zip(model.encoder.blocks, encoder, strict=True):
        np.testing.assert_array_equal(block.batch_norm.moving_variance, before)


def test_statistics_of_several_batches_are_those_of_all_latents():
    """In the first layer, whose input does not depend on other layers' statistics."""
    model = make_model()
    z = np.random.default_rng(8).standard_normal((24, *model.latent_shape)).astype(np.float32)
    z[:8] += 2
    batch_norm.reestimate_decoder(model, [z])
    first = model.decoder.blocks[0].batch_norm
    mean, variance = first.moving_mean.numpy(), first.moving_variance.numpy()
    batch_norm.reestimate_decoder(model, np.split(z, 3))
    np.testing.assert_allclose(first.moving_mean, mean, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(first.moving_variance, variance, rtol=1e-2)


@pytest.mark.slow
@pytest.mark.parametrize("prior", ["standard", "gaussian"])
def test_samples_are_decoded_with_statistics_of_the_prior(run, tmp_path, prior, monkeypatch):
    monkeypatch.setattr(fit, "STATISTICS", 64)
    mixture = fit_to(run, prior, statistics=True)
    assert (mixture is None) == (prior == "standard")
    model, record = load_model(run)
    latents = list(fit._latents(model, mixture, record["seed"]))
    assert [len(z) for z in latents] == 8 * [8]  # the batches of the training
    batch_norm.reestimate_decoder(model, latents)
    noise = generator(record["seed"], Stream.PRIOR_LATENTS).standard_normal(
        (20, *model.latent_shape), np.float32
    )
    z = noise if mixture is None else Drawn(mixture, np.random.default_rng(0)).sample(noise)
    settings = {"fitted_prior": prior != "standard", "batch_norm": "prior"}
    found, attributes = drawn(run, tmp_path / "a.h5", **settings, prior_statistics=True)
    np.testing.assert_allclose(found, model.decode(z).numpy(), atol=1e-5)
    assert attributes["batch_norm"] == "prior"
    moving, _ = drawn(run, tmp_path / "b.h5", fitted_prior=prior != "standard")
    assert np.abs(moving - found).max() > 0.01


def test_a_prior_of_another_run_is_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"prior\.h5 does not exist"):
        drawn(run, tmp_path / "samples.h5")
    fit_to(run)
    with pytest.raises(UserError, match="made for other settings"):
        drawn(run, tmp_path / "samples.h5", batch_norm="prior", prior_statistics=True)
    with h5py.File(run / prior_file.NAME, "a") as opened:
        del opened.attrs["attributes_sha256"]
        opened.attrs["weights_sha256"] = "0"
    with pytest.raises(UserError, match=r"fitted to another run .weights_sha256 differs"):
        drawn(run, tmp_path / "samples.h5")
    make_store(tmp_path / "other.h5", changes=["train"])
    settings = PriorSettings(prior="gaussian", components=1, statistics=False)
    with pytest.raises(UserError, match="other images"):
        fit.fit(tmp_path / "other.h5", run, tmp_path / "prior.h5", settings)


def test_chosen_images_are_random_and_read_where_they_are_sliced():
    images = np.arange(30)[:, None]
    chosen = Chosen(images, 10, np.random.default_rng(0))
    rows = chosen[0:10][:, 0]
    assert len(chosen) == 10 and len(set(rows)) == 10
    assert rows.tolist() == sorted(rows) != list(range(10))
    np.testing.assert_array_equal(chosen[4:7][:, 0], rows[4:7])
    every = Chosen(images, 30, None)
    assert len(every) == 30
    np.testing.assert_array_equal(every[28:31], images[28:])


def test_samples_say_what_was_fitted(run, tmp_path):
    mixture = fit_to(run)
    for fitted in (True, False):
        path = tmp_path / f"{fitted}.h5"
        drawn(run, path, fitted_prior=fitted)
        with file.open_samples(path) as samples:
            assert file.fitted_prior(samples) == (mixture.description if fitted else None)
    assert StandardNormal.description == file.STANDARD


@pytest.mark.parametrize("fitted", [False, True])
def test_the_parzen_score_names_a_fitted_prior(run, tmp_path, fitted):
    """And its further draws are from it."""
    place = run.parent
    mixture = fit_to(run)
    settings = SamplingSettings(n_samples=15, batch_size=5, fitted_prior=fitted)
    sample(run, place / "samples.h5", settings)
    reads = {"sampling": {"n_samples": 15, "batch_size": 5, "batch_norm": "moving"}}
    if fitted:
        reads["sampling"]["fitted_prior"] = True
    found, _ = score_of(
        *("parzen", place, tmp_path, reads, "waves.h5", "run/run.json"),
        **{"protocol": "disjoint", "n_valid": 6, "n_test": 10, "refine": False, "sigma_count": 3},
        **{"sigma_log10_min": -1.0, "sigma_log10_max": 0.0, "fresh_draws": 2},
    )
    assert found.get("prior") == (mixture.description if fitted else None)
    assert ("prior" in found) == fitted


@pytest.mark.slow
def test_the_rate_is_split_as_the_parts_say(run, tmp_path):
    """And the ELBO of the objective rises by the second part."""
    place = run.parent
    names = ("rate", "objective")
    rate, objective = (
        score_of(name, place, tmp_path, data="waves.h5", record="run/run.json") for name in names
    )
    found, per_image = rate
    expected, each = objective
    gaussian = moments_of(run)
    model, _ = load_model(run)
    with Store(place / "waves.h5") as store:
        kl, information = aggregate.rates(model, store.split("test"), gaussian)
    np.testing.assert_allclose(per_image["information"], information, rtol=1e-8)
    np.testing.assert_allclose(per_image["rate"], each["kl"], rtol=1e-4)
    assert found["rate"] == pytest.approx(found["information"] + found["aggregate_kl"])
    assert found["aggregate_kl"] == pytest.approx(np.mean(kl - information))
    assert found["aggregate_kl_standard_error"] == pytest.approx(
        scipy.stats.sem(kl - information), rel=1e-6
    )
    assert found["aggregate_kl_of_training_images"] == pytest.approx(
        aggregate.kl_to_standard(gaussian)
    )
    assert found["decoder_variance"] == pytest.approx(expected["decoder_variance"], rel=1e-5)
    np.testing.assert_allclose(
        per_image["elbo"], each["elbo"] + kl - information, rtol=1e-4, atol=0.02
    )
    assert (found["n_fitted"], found["n_test"]) == (40, 10)


@pytest.mark.slow
def test_the_bound_under_the_fitted_gaussian(run, tmp_path):
    """With one latent it is the ELBO, up to noise; with N(0, I) it is the bound."""
    model, record = load_model(run)
    log_variance = np.log(record["train"]["mse_per_pixel"])
    length = int(np.prod(model.latent_shape))
    standard = aggregate.Gaussian(np.zeros(length), np.eye(length))
    found, per_image = score_of(
        "rate", run.parent, tmp_path, data="waves.h5", record="run/run.json"
    )
    with Store(run.parent / "waves.h5") as store:
        test = store.split("test")[:]
        priors = (None, standard, moments_of(run))
        plain, same, fitted = (
            importance_weighted_bound(model, test, 64, log_variance, 0, 100, prior)
            for prior in priors
        )
        kl, information = aggregate.rates(model, test, priors[2])
    np.testing.assert_allclose(same.per_image, plain.per_image, rtol=1e-10)
    np.testing.assert_allclose(per_image["bound"], fitted.per_image, rtol=1e-6)
    assert found["bound"] == pytest.approx(fitted.per_image.mean())
    gain = (fitted.elbo - plain.elbo).mean()
    spread = scipy.stats.sem(fitted.elbo - plain.elbo)
    assert gain == pytest.approx((kl - information).mean(), abs=5 * spread)
    assert abs(gain) > 1e-3
