"""How much memory jobs need, in MB (1e6 bytes), from the configuration: Snakemake's `mem_mb`.

Fitted to resident memory at its peak, on the CPU; see benchmarks/resources.py and
docs/cluster.md. It was (MB)

    training, batches of 100: 683 to 877 at 28x28x1, 1,002 at 32x32x3, 1,265 at 64x64x3 and 1,877
    at 128x128x3; with 2,000 images 708, 897 and 1,947; batches of 400: 1,319 at 64x64x3
    Parzen: 808 at 28x28x1, 1,231 at 32x32x3 and 2,008 at 64x64x3 with 10,000 samples, 3,754 with
    6,000 at 128x128x3
    other scores: 813 at 28x28x1, 1,654 at 64x64x3; with distances in features: 1,310 at 28x28x1,
    2,055 at 32x32x3; of the features of the data set: 1,408 and 1,940
    samples: 768 at 64x64x3
    sanity rows: 824 at 28x28x1, 2,001 at 32x32x3 and 2,387 at 64x64x3, with 10,000 samples
    principal components: 703 at 28x28x1, 1,619 at 32x32x3, 1,980 at 64x64x3; of 2,000 images 701
    at 32x32x3, 995 at 64x64x3, 1,656 at 128x128x3
    conversion with 2 workers: 147 of MNIST, 317 of mnist_5k, 602 of CIFAR-10, 110 of SVHN, 177 of
    8,000 faces in CelebA's layout, 172 of them in LSUN's; for each of 6 workers, 23 to 30 with
    images of up to 256x256x3, 106 with photographs of 12 megapixels, 185 with 24

A result is 1.1 to 2 times these, or above them by the training images as long as their number is
unknown; that of a conversion of images of unknown size, which may be photographs, by more.

store: the file of the data set, which has their number once it is there.
"""

from pathlib import Path

from svae.config.data import image_size
from svae.config.resolve import Configuration
from svae.settings.training import TrainingSettings

# As in svae.scores: the most bytes of images that are fitted or made, and of samples in the
# Parzen score, which holds at most that many.
FITTED_MB = 1000
BLOCK_MB, BLOCK, TILE = 537, 5000, 2000
# Of what was measured; a training's is in its numbers.
MARGIN = 1.15
# Of the two that a cluster starts for a job, in addition to the job's own process.
OF_SNAKEMAKE = 250


def of_conversion(config: Configuration, cores: int) -> int:
    """What a reader holds, a name for each image, and an image in each worker, which may be a
    photograph if its size is unknown."""
    dataset = config.dataset
    names = 2e-4 * sum(dataset.counts.values()) if dataset.counts else 0
    image = 190 if dataset.height is None else 30
    return round(MARGIN * (105 + dataset.reads_mb + names + cores * image))


def of_training(config: Configuration, settings: TrainingSettings, store: Path) -> int:
    """The images that are kept, and the layers of a batch, of which 100 images take the most."""
    images = _images(config, store, "train") * _image(config) / 4
    batch = settings.batch_size
    layers = (60 * min(batch, 100) + 10 * max(0, batch - 100)) * _image(config)
    return round(MARGIN * (820 + min(settings.image_memory_mb, images) + layers))


def of_samples(config: Configuration) -> int:
    return round(MARGIN * (750 + 16 * config.sampling.batch_size * _image(config)))


def of_parzen(config: Configuration) -> int:
    """A block of samples and one of images, with what is computed of them."""
    image = _image(config)
    samples = min(BLOCK_MB, BLOCK * image, config.sampling.n_samples * image)
    return round(MARGIN * (950 + 3 * (samples + min(samples, TILE * image))))


def of_scores(config: Configuration, store: Path) -> int:
    """The sets of images of the sliced Wasserstein distance are the most, or those in features."""
    images = min(config.scores["sliced_wasserstein"].images, _images(config, store, "test"))
    most = 900 + 4 * images * _image(config)
    if config.scores["feature_distances"].features is not None:
        most = max(most, _in_features(config, store))
        most += config.sampling.n_samples * _image(config)
    return round(MARGIN * most)


def of_features(config: Configuration, store: Path) -> int:
    return round(MARGIN * _in_features(config, store))


def of_sanity_rows(config: Configuration, store: Path) -> int:
    samples = min(FITTED_MB, config.sampling.n_samples * _image(config))
    return round(MARGIN * (800 + min(1200, 2.2 * _fitted(config, store)) + 0.8 * samples))


def of_spectrum(config: Configuration, store: Path) -> int:
    components = 1024 * _image(config)
    return round(MARGIN * (720 + 1.5 * _fitted(config, store) + 3.2 * components))


def _image(config: Configuration) -> float:
    """MB of one image in float32."""
    height, width = image_size(config.dataset, config.conversion)
    return 4e-6 * height * width * config.conversion.channels


def _fitted(config: Configuration, store: Path) -> float:
    """MB of the images that are fitted."""
    return min(FITTED_MB, _images(config, store, "train") * _image(config))


def _in_features(config: Configuration, store: Path) -> float:
    """MB of the network and of the images that it is given."""
    images = min(config.scores["feature_distances"].images, _images(config, store, "test"))
    return 1490 + 6 * images * _image(config)


def _images(config: Configuration, store: Path, split: str) -> float:
    """How many there are, at most: the store has those of other splits, too."""
    counts = config.dataset.counts
    if counts is not None:
        return counts[split]
    if store.exists():
        return store.stat().st_size / (1e6 * _image(config) / 4)
    return float(config.conversion.max_images or "inf")
