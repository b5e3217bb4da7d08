"""svae.load: bytes in and out, as in the pipeline, and no change of the caller's random numbers."""

import os
import random
import shutil
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import gaussian_kl, make_images
from helpers.refusals import check_one_line
from helpers.workflow import CLONE
from scipy import stats
from test_training import SHAPE, make_store, train

from svae import load
from svae.jobs.files import read_json, write_json
from svae.model import batch_norm
from svae.model.saved import load_model
from svae.pixels import to_bytes
from svae.sampling.prior import sample
from svae.settings.sampling import SamplingSettings

RUN_SEED = 3
IMAGES = make_images(7, SHAPE, seed=11)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("loaded") / "waves.h5")


@pytest.fixture(scope="module")
def run(data):
    folder = data.parent / "seed-3"
    train(data, folder, seed=RUN_SEED)
    return folder


@pytest.fixture(scope="module")
def model(run):
    return load(run)


@pytest.fixture(scope="module")
def inside(run):
    """The SpatialVAE, which computes in x."""
    return load_model(run)[0]


def refused(call, *parts):
    """The call raises a UserError with one short line that contains these parts."""
    check_one_line(lambda _: call(), None, parts)


def bytes_of(x):
    """The nearest byte of each x in [-1, 1]."""
    return np.round(127.5 * (np.asarray(x, np.float64) + 1)).astype(np.uint8)


def close(images, x):
    """Whether images are the bytes of x, but for another rounding of the last digit."""
    assert images.dtype == np.uint8 and images.shape == x.shape
    return np.abs(images.astype(int) - bytes_of(x)).max() <= 1


def to_x(images):
    return (images / 127.5 - 1).astype(np.float32)


def test_importing_load_imports_nothing_heavy():
    heavy = ("tensorflow", "keras", "numpy", "h5py")
    code = f"import sys; from svae import load; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CLONE)
    assert done.stdout.strip() == "[]", done.stderr


def draws():
    """The next numbers of all global generators."""
    return [
        random.random(),
        np.random.rand(),  # noqa: NPY002
        float(tf.random.uniform([])),
        float(tf.random.uniform([], seed=4)),  # has a counter of its own
        float(keras.random.uniform(())),
        float(tf.random.get_global_generator().uniform([])),
    ]


def test_loading_changes_no_random_numbers_of_the_caller(run, data):
    found = []
    for between in (lambda: None, lambda: load(run, data)):
        keras.utils.set_random_seed(9)
        tf.random.set_global_generator(tf.random.Generator.from_seed(1))
        first = draws()
        between()
        found.append([*first, *draws()])
    assert found[0] == found[1]
    assert len(set(found[0])) == 12


def test_seeding_works_again_after_loading(run):
    with pytest.raises(Exception, match="no finished run"):
        load(run.parent / "nothing")
    load(run)
    keras.utils.set_random_seed(5)
    first = draws()
    keras.utils.set_random_seed(5)
    assert draws()[:5] == first[:5]


@pytest.mark.parametrize("batch_norm", ["moving", "batch"])
def test_samples_of_the_runs_seed_are_those_of_the_pipeline(run, model, tmp_path, batch_norm):
    settings = SamplingSettings(n_samples=24, batch_size=8, batch_norm=batch_norm)
    sample(run, tmp_path / "samples.h5", settings)
    with h5py.File(tmp_path / "samples.h5") as file:
        expected = bytes_of(file["samples"][:])
    drawn = model.sample(24, RUN_SEED, batch_norm=batch_norm, batch_size=8)
    difference = np.abs(drawn.astype(int) - expected)
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3  # another rounding of x.5


def test_batch_statistics_leave_those_of_the_model_unchanged(model):
    before = model.sample(8, 0)
    assert (model.sample(8, 0, batch_norm="batch", batch_size=8) != before).any()
    np.testing.assert_array_equal(model.sample(8, 0), before)


def test_samples_depend_on_the_seed_only(model):
    many = model.sample(250, 0)
    assert many.shape == (250, *SHAPE) and many.dtype == np.uint8
    np.testing.assert_array_equal(model.sample(250, 0), many)
    assert np.abs(model.sample(30, 0).astype(int) - many[:30]).max() <= 1
    assert (model.sample(30, 1) != many[:30]).mean() > 0.1


def test_the_prior_is_standard_normal(model):
    z = model.prior.sample(3000, 1)
    assert z.shape == (3000, *model.latent_shape) and z.dtype == np.float32
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-3
    expected = stats.norm.logpdf(z.astype(np.float64)).sum(axis=(1, 2))
    np.testing.assert_allclose(model.prior.log_density(z), expected, rtol=1e-5)
    np.testing.assert_array_equal(model.prior.sample(8, 1), z[:8])


def test_posteriors_are_those_of_the_encoder(model, inside):
    posterior, expected = model.encode(IMAGES), inside.encode(to_x(IMAGES))
    assert len(posterior) == 7
    np.testing.assert_allclose(posterior.mean, expected.mean, atol=1e-5)
    np.testing.assert_allclose(posterior.variance, expected.variance, rtol=1e-4)
    mean = posterior.mean.reshape(7, 9, 4).astype(np.float64)
    variance = posterior.variance.reshape(7, 9, 4).astype(np.float64)
    kl = [[gaussian_kl(m, np.diag(v)) for m, v in zip(a.T, b.T, strict=True)]
          for a, b in zip(mean, variance, strict=True)]  # fmt: skip
    np.testing.assert_allclose(posterior.kl(), kl, rtol=1e-3, atol=1e-4)


def test_samples_and_densities_of_posteriors(model):
    """Noise is found again from many samples, and has the density that scipy says."""
    posterior = model.encode(np.repeat(IMAGES[:1], 2000, axis=0))
    z = posterior.sample(4)
    deviation = np.sqrt(posterior.variance.astype(np.float64))
    noise = (z - posterior.mean) / deviation
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    expected = stats.norm.logpdf(z, posterior.mean, deviation).sum(axis=(1, 2))
    np.testing.assert_allclose(posterior.log_density(z), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(posterior.sample(4), z)
    np.testing.assert_allclose(model.encode(IMAGES[:1]).sample(4), z[:1], atol=1e-5)
    assert (posterior.sample(5) != z).all()


def test_the_noise_of_posteriors_is_not_that_of_the_prior(model):
    posterior = model.encode(IMAGES)
    noise = (posterior.sample(0) - posterior.mean) / np.sqrt(posterior.variance)
    assert np.abs(noise - model.prior.sample(7, 0)).min(axis=(1, 2, 3)).max() < 1
    assert np.abs(noise - model.prior.sample(7, 0)).mean() > 0.5


def test_decoding(model, inside):
    z = np.random.default_rng(0).standard_normal((5, *model.latent_shape))
    assert close(model.decode(z), inside.decode(z.astype(np.float32)).numpy())


def test_reconstructions_decode_posterior_means(model, inside):
    x = inside.decode(inside.encode(to_x(IMAGES)).mean).numpy()
    assert close(model.reconstruct(IMAGES), x)


def test_with_the_data_means_are_decoded_with_their_statistics(run, data, inside):
    model = load(run, data)
    means = inside.encode(to_x(IMAGES)).mean
    with h5py.File(data) as file:
        batches = [file["train"][:]]
    with batch_norm.statistics_of_means(inside, batches):
        x = inside.decode(means).numpy()
    assert close(model.reconstruct(IMAGES), x)
    assert close(model.interpolate(IMAGES[:1], IMAGES[1:2], 2)[0], x[:2])
    # Samples are decoded as without the data.
    np.testing.assert_array_equal(model.sample(9, 2), load(run).sample(9, 2))
    assert not close(load(run).reconstruct(IMAGES), x)


def test_interpolations_go_from_one_mean_to_the_other(model, inside):
    paths = model.interpolate(IMAGES[:3], IMAGES[3:6], steps=5)
    assert paths.shape == (3, 5, *SHAPE)
    mean = model.encode(IMAGES).mean
    for share, images in zip((0, 0.25, 0.5, 0.75, 1), paths.transpose(1, 0, 2, 3, 4), strict=True):
        assert close(images, inside.decode(mean[:3] + share * (mean[3:6] - mean[:3])).numpy())


def test_more_images_than_a_block_and_open_data_sets(model, tmp_path):
    many = make_images(230, SHAPE, seed=5)
    with h5py.File(tmp_path / "many.h5", "w") as file:
        file["images"] = many
        mean = model.encode(file["images"]).mean
    for part in (slice(0, 3), slice(98, 104), slice(228, 230)):
        np.testing.assert_allclose(mean[part], model.encode(many[part]).mean, atol=1e-5)


FLOATS = (IMAGES / 255).astype(np.float32)
WRONG_IMAGES = {
    "on [0, 1]": (FLOATS, ["uint8", "float32 from ", "np.rint(255 * images).astype(np.uint8)"]),
    "on [-1, 1]": (2 * FLOATS - 1, ["np.rint(127.5 * (images + 1)).astype(np.uint8)"]),
    "floats to 255": (255 * FLOATS, ["np.rint(images).astype(np.uint8)"]),
    "integers": (IMAGES.astype(int), ["int64", "np.rint(images).astype(np.uint8)"]),
    "zeros and ones": (IMAGES // 128, ["all pixels are 0 or 1", "multiply by 255"]),
    "without a channel": (IMAGES[..., 0], ["(n, 32, 32, 1)", "(7, 32, 32)", "images[..., None]"]),
    "one image": (IMAGES[0], ["(32, 32, 1)", "give images[None]"]),
    "one plane": (IMAGES[0, ..., 0], ["give images[None, ..., None]"]),
    "channels first": (IMAGES.transpose(0, 3, 1, 2), ["images.transpose(0, 2, 3, 1)"]),
    "colour": (np.repeat(IMAGES, 3, axis=-1), ["(n, 32, 32, 1)", "(7, 32, 32, 3)"]),
    "another size": (IMAGES[:, :28, :28], ["(7, 28, 28, 1)", "crop and resize"]),
    "none": (IMAGES[:0], ["there are none", "at least one"]),
    "text": ("picture.png", ["uint8", "<U11"]),
    "ragged": ([[1, 2], [3]], ["cannot be read as one array"]),
    "nothing": (None, ["uint8", "object"]),
}


@pytest.mark.parametrize("method", ["encode", "reconstruct"])
@pytest.mark.parametrize("name", WRONG_IMAGES)
def test_wrong_images_are_refused(model, name, method):
    images, parts = WRONG_IMAGES[name]
    refused(lambda: getattr(model, method)(images), *parts)


def test_black_and_white_images_are_images(model):
    for image in (np.zeros, np.ones):
        model.encode(255 * image((1, *SHAPE), np.uint8))


def test_wrong_ends_of_interpolations_are_refused(model):
    refused(lambda: model.interpolate(IMAGES, FLOATS), "b: pixels must be uint8")
    refused(lambda: model.interpolate(IMAGES[0], IMAGES[0]), "a: the shape", "give a[None]")
    refused(lambda: model.interpolate(IMAGES, IMAGES[:2]), "a has 7 images and b has 2")
    refused(lambda: model.interpolate(IMAGES, IMAGES, 1), "steps must be", "at least 2", "not 1")


Z = np.zeros((4, 3, 3, 4))
WRONG_LATENTS = {
    "without images": (Z[:0], ["(n, 3, 3, 4)", "n at least 1", "(0, 3, 3, 4)"]),
    "one latent": (Z[0], ["(n, 3, 3, 4)", "but is (3, 3, 4)"]),
    "maps first": (Z.transpose(0, 3, 1, 2), ["(n, 3, 3, 4)", "(4, 4, 3, 3)"]),
    "NaN": (np.where(np.arange(4)[:, None, None, None] == 2, np.nan, Z), ["latent 2", "NaN"]),
    "infinite": (Z - np.inf, ["latent 0"]),
    "too large": (Z + 1e300, ["latent 0", "too large for float32"]),
    "complex": (Z * 1j, ["real numbers", "complex128"]),
    "text": ([["a"]], ["real numbers"]),
}


@pytest.mark.parametrize("name", WRONG_LATENTS)
def test_wrong_latents_are_refused(model, name):
    z, parts = WRONG_LATENTS[name]
    refused(lambda: model.decode(z), *parts)
    refused(lambda: model.prior.log_density(z), *parts)
    refused(lambda: model.encode(IMAGES[:4]).log_density(z), *[p for p in parts if "n" not in p])


def test_densities_need_one_latent_per_image(model):
    refused(lambda: model.encode(IMAGES).log_density(Z), "(7, 3, 3, 4)", "but is (4, 3, 3, 4)")


@pytest.mark.parametrize("n", [0, -3, 1.5, "7", None, True])
def test_wrong_counts_are_refused(model, n):
    refused(lambda: model.sample(n), "n must be a whole number, at least 1", repr(n))


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, None])
def test_wrong_seeds_are_refused(model, seed):
    for draw in (lambda: model.sample(1, seed), lambda: model.encode(IMAGES).sample(seed)):
        refused(draw, "seed must be a whole number, from 0 to 4294967295", repr(seed))


def test_wrong_batches_are_refused(model):
    refused(lambda: model.sample(8, batch_norm="batches"), "'moving' or 'batch'", "'batches'")
    refused(lambda: model.sample(8, batch_norm="batch", batch_size=1), "at least 2", "1 and 8")
    refused(lambda: model.sample(8, batch_norm="batch", batch_size=3), "multiple", "3 and 8")
    refused(lambda: model.sample(8, batch_size=0), "batch_size must be")


def test_folders_without_a_usable_run_are_refused(run, data, tmp_path):
    refused(lambda: load(tmp_path / "none"), "has no finished run (no run.json)")
    refused(lambda: load(run / "run.json"), "has no finished run")
    other = tmp_path / "other"
    for change, parts in (
        (lambda record: record.pop("settings"), ["cannot be loaded by svae", "settings"]),
        (lambda record: record["settings"].update(later=1), ["cannot be loaded by svae", "later"]),
        (lambda record: record.update(weights_sha256="0"), ["is not the file that run.json"]),
    ):
        shutil.copytree(run, other, dirs_exist_ok=True)
        record = read_json(other / "run.json")
        change(record)
        write_json(other / "run.json", record)
        refused(lambda: load(other), *parts)
    (other / "run.json").write_text("{")
    refused(lambda: load(other), "run.json is damaged", "delete it and run snakemake again")
    inverted = make_store(tmp_path / "inverted.h5", changes=["train"])
    refused(lambda: load(run, inverted), "has other images than the run was trained on (waves)")
    refused(lambda: load(run, tmp_path / "none.h5"), "none.h5 does not exist")


PROBE = """
import sys
sys.modules["svae"] = None  # an import of svae is an error
import numpy as np
import tensorflow as tf
here = sys.argv[1]
given = np.load(f"{here}/given.npz")
run = tf.saved_model.load(f"{here}/saved").signatures
found = {
    **{f"sample_{key}": value for key, value in run["sample"](
        n=tf.constant(5, tf.int64), seed=tf.constant(2, tf.int64)).items()},
    "again": run["sample"](n=tf.constant(5, tf.int64), seed=tf.constant(2, tf.int64))["images"],
    "other": run["sample"](n=tf.constant(5, tf.int64), seed=tf.constant(3, tf.int64))["images"],
    **run["encode"](images=tf.constant(given["images"])),
    "decoded": run["decode"](z=tf.constant(given["z"]))["images"],
    "reconstructed": run["reconstruct"](images=tf.constant(given["images"]))["images"],
}
np.savez(f"{here}/found.npz", **{key: value.numpy() for key, value in found.items()})
"""


@pytest.mark.slow
def test_the_saved_model_runs_without_svae(run, data, tmp_path):
    model = load(run, data)
    model.save_tensorflow(tmp_path / "saved")
    z = model.prior.sample(6, 1)
    np.savez(tmp_path / "given.npz", images=IMAGES, z=z)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = np.load(tmp_path / "found.npz")
    posterior = model.encode(IMAGES)
    np.testing.assert_allclose(found["mean"], posterior.mean, atol=1e-5)
    np.testing.assert_allclose(found["variance"], posterior.variance, rtol=1e-4)
    np.testing.assert_allclose(found["kl"], posterior.kl(), rtol=1e-3, atol=1e-5)
    for name, expected in (
        ("decoded", model.decode(z)),
        ("reconstructed", model.reconstruct(IMAGES)),
        ("sample_images", model.decode(found["sample_z"])),
    ):
        assert found[name].dtype == np.uint8 and found[name].shape == expected.shape
        assert np.abs(found[name].astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(found["again"], found["sample_images"])
    assert (found["other"] != found["sample_images"]).any()
    assert np.abs(found["sample_z"]).max() < 6 and 0.7 < found["sample_z"].std() < 1.3
    refused(lambda: model.save_tensorflow(tmp_path / "saved"), "exists; delete it")


def test_a_failed_export_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(tf.saved_model, "save", fail)
    with pytest.raises(RuntimeError, match="broken"):
        model.save_tensorflow(tmp_path / "saved")
    assert list(tmp_path.iterdir()) == []


def test_bytes_are_those_of_the_package():
    x = np.linspace(-1, 1, 1000, dtype=np.float32)
    np.testing.assert_array_equal(bytes_of(x), to_bytes(x))
