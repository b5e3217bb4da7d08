"""What is measured of one finished run beside its Parzen score, from files to files."""

import logging
import math
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.jobs.files import write_json
from svae.jobs.provenance import software
from svae.model.saved import load_model
from svae.model.vae import SpatialVAE
from svae.sampling import examples
from svae.sampling.file import samples_of
from svae.scores import bound, memorisation, wasserstein
from svae.settings.evaluation import EvaluationSettings
from svae.streams import Stream, generator

log = logging.getLogger(__name__)

BOUND_IMAGES = 500  # test images of the bound under `auto`
JUDGED = 10_000  # samples, and test images, at most, whose nearest images are looked for
LATENTS = 100  # decoded at once
NOISE_SEED = 0  # of the noise of the bound: the same images for every run


def measure(
    data: Path | str,
    folder: Path | str,
    samples: Path | str,
    settings: EvaluationSettings,
    threads: int,
    target: Path | str,
    pictures_target: Path | str,
) -> None:
    """Measure the run in `folder` with the h5 store `data` and its own `samples`.

    Writes evaluation.json: the importance-weighted bound (svae.scores.bound), or why there is none;
    the sliced Wasserstein distance (svae.scores.wasserstein); and the shares of memorisation
    (svae.scores.memorisation). And examples.h5 (svae.sampling.examples). `threads`: of numpy's
    arithmetic, which decide nothing of the result. UserError if the samples are not of this run.
    """
    model, record = load_model(folder)
    with Store(data) as store, samples_of(samples, record, store.checksum) as drawn:
        value, refused = _bound(model, store, settings)
        content = {
            "variant": record["variant"],
            "dataset": record["dataset"],
            "dataset_checksum": store.checksum,
            "seed": record["seed"],
            "weights_sha256": record["weights_sha256"],
            "importance_weighted_bound": value,
            "importance_weighted_bound_refused": refused,
            "sliced_wasserstein": _distances(drawn, store, settings, record["seed"], threads),
            "memorisation": memorisation.shares(
                drawn[:JUDGED],
                store.images("test", JUDGED),
                store.split("train"),
                store.split("valid"),
                record["seed"],
                threads,
            ),
            "software": software("tensorflow", "keras", "numpy", "scipy", "h5py"),
        }
        shown = drawn[: examples.SHOWN]
        numbers, distances = memorisation.nearest(shown, store.split("train"), threads)
        neighbours = np.stack([store.split("train")[i] for i in numbers.tolist()])
        examples.make(model, store, drawn, neighbours, distances, pictures_target)
    write_json(target, content)
    log.info("%s: evaluated", record["variant"])


def _bound(
    model: SpatialVAE, store: Store, settings: EvaluationSettings
) -> tuple[dict[str, Any] | None, str | None]:
    """The bound, or the reason why there is none."""
    variance, source = bound.variance_of(model, settings.decoder_variance)
    if variance is None:
        return None, source
    asked = BOUND_IMAGES if settings.bound_images == "auto" else settings.bound_images
    images = store.images("test", asked)
    found = bound.importance_weighted_bound(
        model, images, settings.importance_samples, math.log(variance), NOISE_SEED, LATENTS
    )
    return bound.summary(found, model.dimension, variance, source, NOISE_SEED), None


def _distances(
    drawn: h5py.Dataset, store: Store, settings: EvaluationSettings, seed: int, threads: int
) -> dict[str, Any]:
    """Of as many samples as there are test and training images, each chosen at random."""
    train, test = store.split("train"), store.split("test")
    count = min(settings.distance_images, len(drawn), len(train), len(test))
    chosen = (
        subset(images, count, generator(seed, stream))
        for images, stream in ((test, Stream.WASSERSTEIN_TEST), (train, Stream.WASSERSTEIN_TRAIN))
    )
    return wasserstein.compare(drawn[:count], *chosen, seed, threads)
