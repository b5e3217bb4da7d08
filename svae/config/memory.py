"""How much memory jobs need, in MB (1e6 bytes), from the configuration: Snakemake's `mem_mb`.

Fitted to resident memory at its peak, on the CPU, which was (MB)

    training, batches of 100: 1,265 at 64x64x3 and 1,877 at 128x128x3; batches of 400: 1,319
    Parzen: 2,008 with 10,000 samples at 64x64x3, 3,754 with 6,000 at 128x128x3
    other scores: 1,654 at 64x64x3; samples: 768
    sanity rows: 2,387 at 64x64x3, 2,001 at 32x32x3, with 10,000 samples
    principal components: 1,980 at 64x64x3

A result is above these by at most a third, or by the training images if their number is unknown.
"""

from svae.config.data import image_size
from svae.config.resolve import Configuration
from svae.settings.training import TrainingSettings

# As in svae.scores: the most bytes of images that are fitted or made, and of samples in the
# Parzen score, which holds at most that many.
FITTED_MB = 1000
BLOCK_MB, BLOCK, TILE = 537, 5000, 2000


def of_training(config: Configuration, settings: TrainingSettings) -> int:
    """The images that are kept, and the layers of a batch."""
    images = _training_images(config) * _image(config) / 4
    layers = 4 * settings.batch_size * _image(config)
    return round(1050 + min(settings.image_memory_mb, images) + layers)


def of_samples(config: Configuration) -> int:
    return round(750 + 16 * config.sampling.batch_size * _image(config))


def of_parzen(config: Configuration) -> int:
    """A block of samples and one of images, with what is computed of them."""
    image = _image(config)
    samples = min(BLOCK_MB, BLOCK * image, config.sampling.n_samples * image)
    return round(1000 + 3 * (samples + min(samples, TILE * image)))


def of_scores(config: Configuration) -> int:
    """The sets of images of the sliced Wasserstein distance are the most."""
    images = config.scores["sliced_wasserstein"].images
    return round(900 + 4 * images * _image(config))


def of_sanity_rows(config: Configuration) -> int:
    samples = config.sampling.n_samples * _image(config)
    return round(1700 + 0.5 * (_fitted(config) + min(FITTED_MB, samples)))


def of_spectrum(config: Configuration) -> int:
    return round(1050 + _fitted(config))


def _image(config: Configuration) -> float:
    """MB of one image in float32."""
    height, width = image_size(config.dataset, config.conversion)
    return 4e-6 * height * width * config.conversion.channels


def _fitted(config: Configuration) -> float:
    """MB of the images that are fitted."""
    return min(FITTED_MB, _training_images(config) * _image(config))


def _training_images(config: Configuration) -> float:
    counts = config.dataset.counts
    if counts is None:
        return float(config.conversion.max_images or "inf")
    return counts["train"]
