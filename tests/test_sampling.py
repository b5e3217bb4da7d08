"""Samples are decoder means of z ~ N(0, I) with the statistics of the finished run."""

import h5py
import numpy as np
import pytest
from test_training import SHAPE, make_store, train

from svae.model.saved import load_model
from svae.sampling.prior import redrawn, sample
from svae.settings.sampling import SamplingSettings
from svae.streams import Stream, generator


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sampling")
    train(make_store(folder / "waves.h5"), folder / "seed-0")
    return folder / "seed-0"


def drawn(run, target, n=20, batch_size=8, batch_norm="moving"):
    sample(run, target, SamplingSettings(n_samples=n, batch_size=batch_size, batch_norm=batch_norm))
    with h5py.File(target) as file:
        return file["samples"][:], dict(file.attrs)


def test_samples_are_decoder_means_of_the_prior(run, tmp_path):
    samples, attributes = drawn(run, tmp_path / "samples.h5")
    model, record = load_model(run)
    rng = generator(record["seed"], Stream.PRIOR_LATENTS)
    z = rng.standard_normal((20, 3, 3, 4), np.float32)
    np.testing.assert_allclose(samples, model.decode(z).numpy(), atol=1e-5)
    assert samples.shape == (20, *SHAPE) and samples.dtype == np.float32
    assert attributes["weights_sha256"] == record["weights_sha256"]
    assert attributes["dataset_checksum"] == record["dataset_checksum"]


def test_latents_are_standard_normal(run, tmp_path, monkeypatch):
    """With a decoder that shows its input, the samples are the latents."""
    model, record = load_model(run)
    model.image_shape = (3, 3, 4)
    model.decode = lambda z, batch_statistics: z
    monkeypatch.setattr("svae.sampling.prior.load_model", lambda folder: (model, record))
    z, _ = drawn(run, tmp_path / "z.h5", n=4000, batch_size=1000)
    assert abs(z.mean()) < 4 / np.sqrt(z.size)
    assert abs(z.var() - 1) < 4 * np.sqrt(2 / z.size)
    correlation = np.corrcoef(z.reshape(4000, -1), rowvar=False) - np.eye(36)
    assert np.abs(correlation).max() < 5 / np.sqrt(4000)


def test_samples_depend_neither_on_their_number_nor_on_the_batch_size(run, tmp_path):
    """With batch statistics, each sample would depend on the others in its batch."""
    first, _ = drawn(run, tmp_path / "first.h5")
    more, _ = drawn(run, tmp_path / "more.h5", n=30)
    np.testing.assert_array_equal(more[:16], first[:16])
    one, _ = drawn(run, tmp_path / "one.h5", batch_size=5)
    np.testing.assert_allclose(one, first, atol=1e-5)


def test_further_sets_are_different_and_reproducible(run, tmp_path):
    settings = SamplingSettings(n_samples=6, batch_size=4)
    first, _ = drawn(run, tmp_path / "first.h5")
    sets = [again.copy() for again in redrawn(run, settings, 2)]
    assert [again.shape for again in sets] == [(6, *SHAPE)] * 2
    model, record = load_model(run)
    for number, again in enumerate(sets):
        rng = generator(record["seed"], Stream.FRESH_PRIOR_LATENTS, number)
        z = rng.standard_normal((6, 3, 3, 4), np.float32)
        np.testing.assert_allclose(again, model.decode(z).numpy(), atol=1e-5)
        assert np.abs(again - first[:6]).max() > 0.01
    for again, before in zip(redrawn(run, settings, 2), sets, strict=True):
        np.testing.assert_array_equal(again, before)
    assert list(redrawn(run, settings, 0)) == []


def test_batch_statistics_on_request(run, tmp_path):
    moving, _ = drawn(run, tmp_path / "moving.h5")
    batch, attributes = drawn(run, tmp_path / "batch.h5", batch_norm="batch")
    assert attributes["batch_norm"] == "batch"
    assert np.abs(moving - batch).max() > 0.01
    model, record = load_model(run)
    rng = generator(record["seed"], Stream.PRIOR_LATENTS)
    z = rng.standard_normal((8, 3, 3, 4), np.float32)
    np.testing.assert_allclose(batch[:8], model.decode(z, batch_statistics=True).numpy(), atol=1e-5)


def test_a_failed_sampling_leaves_no_file(run, tmp_path, monkeypatch):
    model, record = load_model(run)

    def fail(z, batch_statistics):
        raise RuntimeError("broken")

    model.decode = fail
    monkeypatch.setattr("svae.sampling.prior.load_model", lambda folder: (model, record))
    with pytest.raises(RuntimeError):
        drawn(run, tmp_path / "samples.h5")
    assert list(tmp_path.iterdir()) == []
