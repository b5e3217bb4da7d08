"""How long jobs may take, in minutes, from the configuration: Snakemake's `runtime`.

What a job exceeds ends it, so these are several times what was measured; benchmarks/resources.py
prints both. One thread of an AMD EPYC (Zen 5) took, with start and evaluations,

    training: 468 s for 10 epochs of 45,000 images of 32x32x3, three million values a second
    scores: 127 s at 32x32x3 with 10,000 samples, of which 29 s for Parzen; features: 117 s
    sanity rows: 103 s at 32x32x3, 293 s at 64x64x3
    principal components: 11 s at 32x32x3
"""

from pathlib import Path

from svae.config.data import image_size
from svae.config.resolve import Configuration
from svae.settings.training import TrainingSettings

START = 10  # minutes: of Snakemake and TensorFlow from a slow disk, and of small jobs
DAY = 24 * 60
# Values of pixels that a training takes per minute on a slow core: a quarter of what was measured.
TRAINED = 45e6
# Of the largest data set, where the number of images is unknown.
MOST_IMAGES = 3_000_000
CONVERTED = 15_000  # images per minute


def of_training(config: Configuration, settings: TrainingSettings, store: Path) -> int:
    """All epochs, but at most a day at a time: what is stopped by then resumes when it is submitted
    again. At least an epoch and a half: no checkpoint divides the end, which takes 1.3."""
    bytes_of_images = (
        store.stat().st_size
        if store.exists()
        else _values(config) * (config.dataset.counts or {}).get("train", 0)
    )
    epoch = bytes_of_images / TRAINED
    everything = (settings.epochs + 1.5) * epoch if epoch else DAY
    return round(START + max(1.5 * epoch, min(everything, DAY)))


def of_conversion(config: Configuration) -> int:
    counts = config.dataset.counts
    images = sum(counts.values()) if counts else config.conversion.max_images or MOST_IMAGES
    return round(START + images / CONVERTED)


def of_samples(config: Configuration) -> int:
    return round(START + _scored(config))


def of_scores(config: Configuration) -> int:
    return round(START + 8 * _scored(config))


def of_spectrum(config: Configuration) -> int:
    return of_samples(config)


def _scored(config: Configuration) -> float:
    """The samples, as a multiple of 10,000 images of 32x32x3."""
    return config.sampling.n_samples * _values(config) / (10_000 * 32 * 32 * 3)


def _values(config: Configuration) -> int:
    height, width = image_size(config.dataset, config.conversion)
    return height * width * config.conversion.channels
