"""The sanity rows against slow formulas, and what they say of themselves."""

import json
import math

import numpy as np
import pytest
from helpers import stores

from svae.datasets.store import Store
from svae.pixels import scale
from svae.scores import principal_components, sanity_rows
from svae.scores.store_score import parzen_of
from svae.settings.parzen import ParzenSettings

SETTINGS = ParzenSettings(sigma_log10_max=0.5, sigma_count=6)
SHAPE = (8, 8, 3)
NAMES = ["training images", "k-means centroids", "blurred training images", "Gaussian"]


def make_splits(shape=SHAPE, train=60, seed=0):
    """Random images around a few different ones; the first pixel is constant in each split."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(60, 200, (5, *shape))
    splits = {}
    for place, (name, n) in enumerate({"train": train, "valid": 12, "test": 30}.items()):
        images = centres[rng.integers(5, size=n)] + 12 * rng.standard_normal((n, *shape))
        images[:, 0, 0, 0] = 77 + place
        splits[name] = np.clip(images, 0, 255).round().astype(np.uint8)
    return splits


def make_store(folder, name="data.h5", **changes):
    """Write a store, and open it; `changes`: other images for some of its splits."""
    attributes = {"dataset": "blobs", "padding": 0}
    stores.write(folder / name, make_splits() | changes, attributes)
    return Store(folder / name)


def rows_of(images, samples):
    """Where each sample lies among uint8 images."""
    return [
        np.flatnonzero((scale(images) == sample).all(axis=(1, 2, 3))).item() for sample in samples
    ]


@pytest.mark.parametrize(("count", "drawn"), [(13, 13), (60, 60), (1000, 60)])
def test_training_images(tmp_path, monkeypatch, count, drawn):
    monkeypatch.setattr(principal_components, "BLOCK", 7)
    with make_store(tmp_path) as store:
        samples, fitted = sanity_rows.real(store, count, 0)
        again, other = (sanity_rows.real(store, count, seed)[0] for seed in (0, 1))
    assert samples.dtype == np.float32 and fitted == drawn
    assert len(set(rows_of(make_splits()["train"], samples))) == drawn  # without replacement
    np.testing.assert_array_equal(samples, again)
    assert np.array_equal(samples, other) == (drawn == 60)


def gaussian_matrix(side, sigma):
    """(side, side): a normalised Gaussian over the pixels, cut at 4 sigma; beyond the border the
    last pixel goes on."""
    matrix = np.zeros((side, side))
    radius = int(4 * sigma + 0.5)
    weights = [math.exp(-0.5 * (offset / sigma) ** 2) for offset in range(-radius, radius + 1)]
    for pixel in range(side):
        for offset, weight in zip(range(-radius, radius + 1), weights, strict=True):
            matrix[pixel, min(max(pixel + offset, 0), side - 1)] += weight / sum(weights)
    return matrix


def test_blur_against_a_direct_convolution(tmp_path, monkeypatch):
    monkeypatch.setattr(principal_components, "BLOCK", 7)
    splits = make_splits((8, 12, 3))
    with make_store(tmp_path, **splits) as store:
        sharp, _ = sanity_rows.real(store, 20, 0)
        samples, fitted = sanity_rows.blurred(store, 20, 0)
    down, right = gaussian_matrix(8, 1.0), gaussian_matrix(12, 1.5)
    expected = np.einsum("yi,xj,nijc->nyxc", down, right, sharp.astype(np.float64))
    np.testing.assert_allclose(samples, expected, atol=1e-5)
    assert samples.dtype == np.float32 and fitted == 20


@pytest.mark.parametrize(("train", "count", "most"), [(60, 6, 6), (60, 1000, 15), (3, 10, 1)])
def test_centroids_are_means_of_groups(tmp_path, monkeypatch, train, count, most):
    monkeypatch.setattr(sanity_rows, "BATCH", 16)
    images = make_splits(train=train)["train"]
    with make_store(tmp_path, train=images) as store:
        samples, fitted = sanity_rows.centroids(store, count, 0)
        again, other = (sanity_rows.centroids(store, count, seed)[0] for seed in (0, 1))
    assert fitted == train and 1 <= len(samples) <= most and samples.dtype == np.float32
    np.testing.assert_array_equal(samples, again)
    if most > 1:
        assert len(samples) > 1
        assert len(samples) != len(other) or not np.array_equal(samples, other)
    x = scale(images).reshape(train, -1).astype(np.float64)
    centres = samples.reshape(len(samples), -1).astype(np.float64)
    # The groups are all the images: with the right sizes, the centroids average to their mean.
    sizes, *_ = np.linalg.lstsq(centres.T, x.sum(axis=0), rcond=None)
    np.testing.assert_allclose(sizes, sizes.round(), atol=1e-2)
    assert sizes.round().min() >= 1 and sizes.round().sum() == train
    np.testing.assert_allclose(sizes.round() @ centres, x.sum(axis=0), atol=1e-4)


@pytest.mark.parametrize("shape", [SHAPE, (5, 5, 1)])
def test_centroids_are_the_clusters(tmp_path, shape):
    """Of clusters far apart, and more starting points than clusters, none is mixed or missed; also
    of images with no more pixels than the principal components in which distances are measured."""
    rng = np.random.default_rng(0)
    centres = rng.integers(30, 220, (5, *shape))
    belongs = rng.integers(5, size=200)
    images = (centres[belongs] + rng.integers(-3, 4, (200, *shape))).astype(np.uint8)
    others = {} if shape == SHAPE else make_splits(shape, 20)
    with make_store(tmp_path, **{**others, "train": images}) as store:
        samples, _ = sanity_rows.centroids(store, 30, 0)
    distances = np.abs(samples[:, None] - scale(centres)).max(axis=(2, 3, 4))
    assert distances.min(axis=1).max() < 4 / 127.5
    assert set(distances.argmin(axis=1)) == set(range(5))


def test_one_centroid_is_the_mean(tmp_path):
    with make_store(tmp_path) as store:
        samples, _ = sanity_rows.centroids(store, 1, 0)
    expected = scale(make_splits()["train"]).mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(samples, expected[None], atol=1e-6)


@pytest.mark.parametrize("train", [500, 20])
def test_gaussian_has_the_covariance_of_the_images(tmp_path, monkeypatch, train):
    """Full rank, and more pixels than images."""
    monkeypatch.setattr(principal_components, "BLOCK", 333)
    shape, count = (3, 4, 2), 15_000
    images = make_splits(shape, train)
    with make_store(tmp_path, **images) as store:
        samples, fitted = sanity_rows.gaussian(store, count, 0)
        np.testing.assert_array_equal(samples, sanity_rows.gaussian(store, count, 0)[0])
        assert not np.allclose(samples[:9], sanity_rows.gaussian(store, 9, 1)[0])
    assert samples.shape == (count, *shape) and samples.dtype == np.float32 and fitted == train
    assert (samples[:, 0, 0, 0] == scale(np.uint8(77))).all()  # it is constant, so it stays so
    x = scale(images["train"]).reshape(train, -1).astype(np.float64)
    flat = samples.reshape(count, -1).astype(np.float64)
    expected = np.cov(x.T, bias=True)
    variances = np.diag(expected)
    error = np.sqrt((np.outer(variances, variances) + expected**2) / count)
    assert (np.abs(np.cov(flat.T) - expected) <= 5 * error + 1e-9).all()
    difference = np.abs(flat.mean(axis=0) - x.mean(axis=0))
    assert (difference <= 5 * np.sqrt(variances / count) + 1e-6).all()
    if train == 20:  # nothing leaves the space that the images span
        null = np.linalg.svd(x - x.mean(axis=0))[2][19:]
        assert np.abs((flat - x.mean(axis=0)) @ null.T).max() < 1e-4
    # Normal: beside its variance, the fourth moment.
    standard = (flat[:, 1:] - x.mean(axis=0)[1:]) / np.sqrt(variances[1:])
    np.testing.assert_allclose(np.mean(standard**4, axis=0), 3, atol=0.4)


@pytest.mark.parametrize("row", sanity_rows.ROWS, ids=lambda row: row.name)
def test_only_training_images_are_used(tmp_path, row):
    other = make_splits(seed=1)
    with (
        make_store(tmp_path) as store,
        make_store(tmp_path, "other.h5", valid=other["valid"], test=other["test"]) as changed,
    ):
        assert store.checksum != changed.checksum
        np.testing.assert_array_equal(row.make(store, 12, 0)[0], row.make(changed, 12, 0)[0])


def run(folder, n_samples=14, seed=2):
    sanity_rows.baselines(
        data=folder / "data.h5",
        settings=SETTINGS,
        n_samples=n_samples,
        seed=seed,
        target=folder / "baselines.json",
    )
    return json.loads((folder / "baselines.json").read_text())


def test_the_file(tmp_path):
    with make_store(tmp_path) as store:
        content = run(tmp_path)
        expected = [
            parzen_of(row.make(store, 14, 2)[0], store, SETTINGS, "") for row in sanity_rows.ROWS
        ]
        assert (content["dataset"], content["dataset_checksum"]) == ("blobs", store.checksum)
    assert [row["name"] for row in content["rows"]] == NAMES
    assert [row["n_fitted"] for row in content["rows"]] == [14, 60, 14, 60]
    for row, result in zip(content["rows"], expected, strict=True):
        assert row["log_likelihood"] == pytest.approx(result.log_likelihood)
        assert row["standard_error"] == pytest.approx(result.standard_error)
        assert row["bits_per_dim"] == pytest.approx(result.bits_per_dim)
        assert row["sigma"] == result.sigma and row["refined"]
        assert row["grid_sigma"] == result.grid_sigma and row["grid_sigma"] in row["sigma_grid"]
        assert row["grid_log_likelihood"] == pytest.approx(result.grid_log_likelihood)
        assert row["grid_standard_error"] == pytest.approx(result.grid_standard_error)
        assert row["sigma_at_grid_edge"] == result.sigma_at_grid_edge
        assert row["validation_log_likelihood"] == pytest.approx(result.validation_log_likelihood)
        assert row["n_samples"] == result.n_samples
        assert (row["n_valid"], row["n_test"], row["protocol"]) == (12, 30, "disjoint")
        assert row["meaning"].endswith(".") and not {"per_image", "grid_per_image"} & set(row)
    assert [row["n_samples"] for row in content["rows"]][::2] == [14, 14]
    first = (tmp_path / "baselines.json").read_bytes()
    run(tmp_path)
    assert (tmp_path / "baselines.json").read_bytes() == first


def test_what_does_not_fit_into_memory_is_left_out(tmp_path, monkeypatch):
    monkeypatch.setattr(principal_components, "MOST_BYTES", 4 * math.prod(SHAPE) * 40)
    with make_store(tmp_path):
        rows = run(tmp_path, n_samples=1000)["rows"]
    assert [row["n_fitted"] for row in rows] == [40, 40, 40, 40]
    assert rows[0]["n_samples"] == rows[2]["n_samples"] == rows[3]["n_samples"] == 40
    assert 1 <= rows[1]["n_samples"] <= 10
