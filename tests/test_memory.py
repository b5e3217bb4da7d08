"""The memory that jobs ask for is that of measurements, or somewhat more."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from helpers.workflow import CLONE

from svae.config import memory
from svae.config.resolve import resolve


def config(dataset, **sections):
    sources = {"images": {"archive": str(CLONE / "docs")}} if dataset == "images" else {}
    variants = {"mvn": {"posterior": "mvn"}}
    content = {"dataset": dataset, "sources": sources, "variants": variants, **sections}
    return resolve(content, CLONE)


ABSENT = Path("absent.h5")


def training(config, store=ABSENT):
    return memory.of_training(config, config.variants["mvn"], store)


def scores(config, store=ABSENT):
    return memory.of_scores(config, store)


def features(config, store=ABSENT):
    return memory.of_features(config, store)


def sanity_rows(config, store=ABSENT):
    return memory.of_sanity_rows(config, store)


def spectrum(config, store=ABSENT):
    return memory.of_spectrum(config, store)


NO_FEATURES = {"feature_distances": {"features": None}}
BIG = {"conversion": {"size": 128}, "model": {"latent_size": 7}}
FACES = config("images")
DIGITS, COLOURS = config("mnist_5k"), config("cifar10")


# Peaks in MB that were measured.
@pytest.mark.parametrize(
    ("of", "config", "measured"),
    [
        (training, DIGITS, 683),
        (training, DIGITS, 877),  # with a full covariance of all maps
        (training, COLOURS, 1002),
        (training, config("celeba"), 1265),
        (training, config("celeba", training={"batch_size": 400}), 1319),
        (training, config("celeba", **BIG), 1877),
        (partial(memory.of_conversion, cores=1), DIGITS, 318),
        (partial(memory.of_conversion, cores=1), COLOURS, 578),
        (memory.of_parzen, DIGITS, 808),
        (memory.of_parzen, config("images", conversion={"size": 32}), 737),
        (memory.of_parzen, COLOURS, 1231),
        (memory.of_parzen, FACES, 1151),
        (memory.of_parzen, FACES, 2008),
        (memory.of_parzen, config("images", **BIG, sampling={"n_samples": 6000}), 3754),
        (scores, config("mnist_5k", **NO_FEATURES), 813),
        (scores, config("images", **NO_FEATURES), 1654),
        (scores, DIGITS, 1310),
        (scores, COLOURS, 2055),
        (features, DIGITS, 1408),
        (features, COLOURS, 1940),
        (sanity_rows, DIGITS, 824),
        (sanity_rows, COLOURS, 2001),
        (sanity_rows, FACES, 2387),
        (spectrum, DIGITS, 703),
        (spectrum, COLOURS, 1619),
        (spectrum, FACES, 1980),
        (memory.of_samples, FACES, 768),
    ],
)
def test_a_job_asks_for_what_was_measured(of, config, measured):
    assert 1.1 * measured <= of(config) <= 2 * measured


@pytest.mark.parametrize(
    ("config", "cores", "measured", "times"),
    [
        (config("mnist"), 2, 147, 2),
        (config("mnist_5k"), 2, 317, 2),
        (config("cifar10"), 2, 602, 2),
        (config("svhn"), 2, 110, 2),
        (config("celeba"), 2, 177, 2),
        (config("lsun"), 2, 172, 4),
        (config("images", conversion={"size": 256}, model={"latent_size": 15}), 6, 257, 6),
        (FACES, 2, 438, 2),  # photographs of 24 megapixels
        (FACES, 6, 1220, 2),
    ],
)
def test_a_conversion_asks_for_its_workers(config, cores, measured, times):
    """More than twice what it needs only where images of unknown size are not photographs."""
    assert times < 3 or config.dataset.height is None
    assert 1.1 * measured <= memory.of_conversion(config, cores) <= times * measured


@pytest.mark.parametrize(
    ("of", "more"),
    [
        (training, {"training": {"batch_size": 1000}}),
        (training, {"conversion": {"size": 128}, "model": {"latent_size": 7}}),
        (memory.of_parzen, {"conversion": {"size": 128}, "model": {"latent_size": 7}}),
        (scores, {"feature_distances": {"images": 10_000}}),
        (scores, {"sampling": {"n_samples": 20_000}}),
        (sanity_rows, {"sampling": {"n_samples": 20_000}}),
        (memory.of_samples, {"sampling": {"batch_size": 1000}}),
    ],
)
def test_a_larger_job_asks_for_more(of, more):
    assert of(config("images", **more)) > of(FACES)


# Peaks in MB that were measured with a store of 2,000 colour images.
@pytest.mark.parametrize(
    ("of", "side", "measured"),
    [
        (training, 32, 708),
        (training, 64, 897),
        (training, 128, 1947),
        (sanity_rows, 32, 904),
        (sanity_rows, 64, 1048),
        (sanity_rows, 128, 1948),
        (spectrum, 32, 701),
        (spectrum, 64, 995),
        (spectrum, 128, 1656),
        (features, 64, 1347),
        (features, 128, 2957),
        (scores, 64, 2451),
        (scores, 128, 4347),
    ],
)
def test_a_job_asks_for_the_images_of_a_small_store(tmp_path, of, side, measured):
    latent_size = 7 if side == 128 else 3
    images = config("images", conversion={"size": side}, model={"latent_size": latent_size})
    (tmp_path / "images.h5").write_bytes(bytes(2000 * side * side * 3))
    assert 1.1 * measured <= of(images, tmp_path / "images.h5") <= 2 * measured
    assert of(images, tmp_path / "images.h5") < of(images)


@pytest.mark.parametrize(
    ("of", "most"), [(training, 8000), (memory.of_parzen, 5000), (sanity_rows, 5000)]
)
def test_what_is_held_in_blocks_is_bounded(of, most):
    """At 256x256x3, where one image has 0.8 MB in float32."""
    large = config("images", conversion={"size": 256}, model={"latent_size": 15})
    assert of(large) < most
    assert of(large) == of(replace(large, sampling=replace(large.sampling, n_samples=10**6)))
