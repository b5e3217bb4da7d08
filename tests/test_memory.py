"""The memory that jobs ask for is that of measurements, or somewhat more."""

from dataclasses import replace

import pytest
from helpers.workflow import CLONE

from svae.config import memory
from svae.config.resolve import resolve


def config(dataset, **sections):
    sources = {"images": {"archive": str(CLONE / "docs")}} if dataset == "images" else {}
    variants = {"mvn": {"posterior": "mvn"}}
    content = {"dataset": dataset, "sources": sources, "variants": variants, **sections}
    return resolve(content, CLONE)


def training(config):
    return memory.of_training(config, config.variants["mvn"])


BIG = {"conversion": {"size": 128}, "model": {"latent_size": 7}}
FACES = config("images")


# Peaks in MB that were measured.
@pytest.mark.parametrize(
    ("of", "config", "measured"),
    [
        (training, config("celeba"), 1265),
        (training, config("celeba", training={"batch_size": 400}), 1319),
        (training, config("celeba", **BIG), 1877),
        (memory.of_parzen, FACES, 2008),
        (memory.of_parzen, config("images", **BIG, sampling={"n_samples": 6000}), 3754),
        (memory.of_scores, FACES, 1654),
        (memory.of_sanity_rows, FACES, 2387),
        (memory.of_sanity_rows, config("cifar10"), 2001),
        (memory.of_spectrum, FACES, 1980),
        (memory.of_samples, FACES, 768),
    ],
)
def test_a_job_asks_for_what_was_measured(of, config, measured):
    most = 1.35 if of is not training else 1.8  # those measured had fewer images than CelebA
    assert measured <= of(config) <= most * measured


@pytest.mark.parametrize(
    ("of", "more"),
    [
        (training, {"training": {"batch_size": 1000}}),
        (training, {"conversion": {"size": 128}, "model": {"latent_size": 7}}),
        (memory.of_parzen, {"conversion": {"size": 128}, "model": {"latent_size": 7}}),
        (memory.of_scores, {"sliced_wasserstein": {"images": 10_000}}),
        (memory.of_sanity_rows, {"sampling": {"n_samples": 20_000}}),
        (memory.of_samples, {"sampling": {"batch_size": 1000}}),
    ],
)
def test_a_larger_job_asks_for_more(of, more):
    assert of(config("images", **more)) > of(FACES)


@pytest.mark.parametrize("of", [training, memory.of_parzen, memory.of_sanity_rows])
def test_what_is_held_in_blocks_is_bounded(of):
    """At 256x256x3, where one image has 0.8 MB in float32."""
    large = config("images", conversion={"size": 256}, model={"latent_size": 15})
    assert of(large) < 4500
    assert of(large) == of(replace(large, sampling=replace(large.sampling, n_samples=10**6)))
