"""Principal components against the covariance matrix, and their file."""

import numpy as np
import pytest
from helpers.noise import make_splits, make_store
from test_linear_vae import make_spectrum

from svae.datasets.store import Store
from svae.errors import UserError
from svae.pixels import scale
from svae.scores import principal_components
from svae.scores.principal_components import blocks, fit, training_images
from svae.scores.spectrum import load


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


@pytest.mark.parametrize("value", [0, 7, 255])
@pytest.mark.parametrize("exact", [100, 30, 10])
def test_images_that_are_all_equal(tmp_path, monkeypatch, exact, value):
    monkeypatch.setattr(principal_components, "EXACT", exact)
    images = np.full_like(make_splits(train=60)["train"], value)
    make_store(tmp_path / "data.h5", train=images)
    spectrum = fit(tmp_path / "data.h5", 7)
    np.testing.assert_allclose(spectrum.eigenvalues, 0, atol=1e-12)
    assert spectrum.total_variance == 0 and np.isfinite(spectrum.components).all()


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
def test_other_files_are_refused(tmp_path, content):
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
    with pytest.raises(UserError, match=r"spectrum\.npz is damaged"):
        load(path)


@pytest.mark.parametrize(
    ("shape", "size"),
    [((28, 28, 1), 1000), ((64, 64, 3), 1000), ((128, 128, 3), 341), ((256, 256, 3), 85)],
)
def test_blocks_are_bounded_in_bytes(shape, size):
    images = np.broadcast_to(np.uint8(0), (2500, *shape))
    rows = blocks(images)
    assert {len(images[each]) for each in rows[:-1]} == {size}
    covered = [row for each in rows for row in range(2500)[each]]
    assert covered == list(range(2500))


def test_an_image_larger_than_a_block_is_taken_alone():
    assert len(blocks(np.broadcast_to(np.uint8(0), (3, 4096, 4096, 3)))) == 3
