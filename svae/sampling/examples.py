"""The pictures of one finished run: reconstructions, interpolations, samples, neighbours.

pictures.h5 contains uint8 images (.., height, width, channel):

originals        the first test images
reconstructions  of these, decoded from the means of their posteriors
interpolated     (rows, 2): the two test images at the ends of each row
interpolations   (rows, steps): decoded at equal steps from one posterior mean to the other
samples          the first samples
neighbours       the training images nearest to the first of these; `neighbour_distances`, float64,
                 has the Euclidean distances, of pixels on [-1, 1]

Posterior means are decoded with batch-norm statistics of means over random training images. The
samples are those of samples.h5.
"""

import logging
from pathlib import Path

import h5py
import numpy as np
import tensorflow as tf

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.jobs.files import replacing
from svae.jobs.hdf5 import new_hdf5
from svae.model import batch_norm
from svae.model.saved import load_model
from svae.model.vae import SpatialVAE
from svae.pixels import scale, to_bytes
from svae.sampling.file import samples_of
from svae.sampling.nearest import nearest
from svae.streams import Stream, generator

log = logging.getLogger(__name__)

SHOWN = 10  # test images, and samples with a neighbour
ROWS, STEPS = 3, 9  # of interpolations; the steps include both ends
SAMPLES = 64
STATISTICS, BATCH = 2000, 100  # training images for the statistics of means: at most, per batch


def write(
    data: Path | str, folder: Path | str, samples: Path | str, threads: int, target: Path | str
) -> None:
    """Write pictures.h5 of the run in `folder`, from the h5 store `data` and the run's `samples`.

    threads: for NumPy; their number does not affect the result. UserError if the samples are not of
    this run.
    """
    model, record = load_model(folder)
    with Store(data) as store, samples_of(samples, record, store.checksum) as drawn:
        train = store.split("train")
        numbers, distances = nearest(drawn[:SHOWN], train, threads)
        neighbours = np.stack([train[i] for i in numbers.tolist()])
        make(model, store, drawn, neighbours, distances, target)
    log.info("%s: examples", record["variant"])


def make(
    model: SpatialVAE,
    store: Store,
    samples: np.ndarray | h5py.Dataset,
    neighbours: np.ndarray,
    distances: np.ndarray,
    target: Path | str,
) -> None:
    """Write pictures.h5 of a model.

    samples: of this model, float32 on [-1, 1]; neighbours: uint8, the training images nearest to
    the first samples; distances: of these pairs.
    """
    originals = store.images("test", SHOWN)
    means = model.encode(tf.constant(scale(originals))).mean
    # From the first to the second, from the third to the fourth: rows share no image.
    rows = min(ROWS, len(originals) // 2)
    ends = [means[0 : 2 * rows : 2], means[1 : 2 * rows : 2]]
    shares = np.linspace(0, 1, STEPS, dtype=np.float32)
    between = tf.stack([(1 - share) * ends[0] + share * ends[1] for share in shares], axis=1)
    path = tf.reshape(between, [-1, *model.latent_shape])
    shape = store.shape
    train = store.split("train")
    rng = generator(0, Stream.MEANS_STATISTICS)
    chosen = subset(train, min(STATISTICS, len(train)), rng)
    batches = np.array_split(chosen, -(-len(chosen) // BATCH))
    with batch_norm.statistics_of_means(model, batches):
        reconstructions, interpolations = (
            to_bytes(model.decode(latents).numpy()) for latents in (means, path)
        )
    content = {
        "originals": originals,
        "reconstructions": reconstructions,
        "interpolated": originals[: 2 * rows].reshape(rows, 2, *shape),
        "interpolations": interpolations.reshape(rows, STEPS, *shape),
        "samples": to_bytes(samples[:SAMPLES]),
        "neighbours": neighbours,
        "neighbour_distances": distances,
    }
    with replacing(target) as temporary, new_hdf5(temporary) as file:
        for name, values in content.items():
            file.add(name, values)
        file.attrs["title"] = store.attributes["title"]
