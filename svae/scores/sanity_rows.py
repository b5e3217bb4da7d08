"""Sanity rows: Parzen scores of "samples" that no network made.

Following Theis, van den Oord, Bethge 2016, "A note on the evaluation of generative models": next to
them, it shows what the Parzen score of a model is worth. Everything is fitted to training images
only; sigma and score are computed as for a variant.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.linalg.lapack import dpstrf
from scipy.ndimage import gaussian_filter
from sklearn.cluster import MiniBatchKMeans
from sklearn.decomposition import PCA

from svae.datasets.store import Store
from svae.jobs.files import write_json
from svae.jobs.provenance import software
from svae.pixels import scale
from svae.scores.principal_components import (
    blocks,
    centred,
    fitting_images,
    mean_image,
    most_images,
    training_images,
)
from svae.scores.store_score import fields, parzen_of
from svae.settings.parzen import ParzenSettings
from svae.streams import Stream, generator

IMAGES_A_CENTROID = 4  # at least, on average: a centroid of one image is that image
# Principal components in which k-means measures distances, and images that they are fitted to: the
# rest of the pixels' variance hardly moves an image to another group, and takes most of the time.
COMPONENTS, FITTED = 64, 5000
LARGEST_COVARIANCE = 4096  # pixels: 134 MB
PASSES = 3  # of k-means over the images; more hardly improve it
BATCH = 1024  # images, of k-means


def real(store: Store, count: int, seed: int) -> tuple[np.ndarray, int]:
    """`count` training images at random, or all if there are fewer."""
    images = training_images(store, count, generator(seed, Stream.SANITY_IMAGES))
    samples = np.empty(images.shape, np.float32)
    for rows in blocks(images):
        samples[rows] = scale(images[rows])
    return samples, len(samples)


def centroids(store: Store, count: int, seed: int) -> tuple[np.ndarray, int]:
    """Means of groups of training images, by k-means (Sculley 2010, "Web-scale k-means").

    At most one for every `IMAGES_A_CENTROID` images. Distances are those of the first `COMPONENTS`
    principal components. It starts from random images and makes `PASSES` passes in mini-batches
    without replacement; then every image is assigned to its nearest centre, and the centroids are
    the means of these groups, of all pixels. Centres without an image are left out.
    """
    images = fitting_images(store, seed)
    pixels = _leading_components(images, generator(seed, Stream.CENTROID_COMPONENTS))
    number = max(1, min(count, len(images) // IMAGES_A_CENTROID))
    rng = generator(seed, Stream.CENTROIDS)
    size = max(BATCH, number)  # the first batch must hold all starting points
    model = MiniBatchKMeans(
        number,
        init="random",
        n_init=1,
        batch_size=size,
        compute_labels=False,
        random_state=rng.integers(2**32).item(),
    )
    for _ in range(PASSES):
        order = rng.permutation(len(pixels))
        for start in range(0, len(pixels), size):
            model.partial_fit(pixels[order[start : start + size]])
    nearest = np.concatenate(
        [model.predict(pixels[start : start + size]) for start in range(0, len(pixels), size)]
    )
    order = np.argsort(nearest, kind="stable")
    groups = np.split(order, 1 + np.flatnonzero(np.diff(nearest[order])))
    samples = np.empty((len(groups), *store.shape), np.float32)
    for sample, rows in zip(samples, groups, strict=True):
        sample[:] = scale(images[rows].mean(axis=0, dtype=np.float64))
    return samples, len(images)


def _leading_components(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (n, ...) -> float32 (n, `COMPONENTS`), or all pixels where they are no more."""
    pixels = images.reshape(len(images), -1)
    if min(pixels.shape) <= COMPONENTS:
        return scale(pixels)
    some = rng.permutation(len(pixels))[:FITTED]
    state = rng.integers(2**32).item()
    pca = PCA(COMPONENTS, svd_solver="randomized", random_state=state).fit(scale(pixels[some]))
    return np.concatenate([pca.transform(scale(pixels[rows])) for rows in blocks(pixels)])


def blurred(store: Store, count: int, seed: int) -> tuple[np.ndarray, int]:
    """The images of `real` through a Gaussian filter of an eighth of their side."""
    samples, fitted = real(store, count, seed)
    height, width, _ = store.shape
    for rows in blocks(samples):
        block = samples[rows]
        block[:] = gaussian_filter(block, (0, height / 8, width / 8, 0), mode="nearest")
    return samples, fitted


def gaussian(store: Store, count: int, seed: int) -> tuple[np.ndarray, int]:
    """Draws from the Gaussian with the mean and the full covariance of the training images.

    With X the n images less their mean, (n, D), the maximum-likelihood covariance is X^T X / n, and

        x = mean + X^T g / sqrt(n),    g ~ N(0, I_n),

    has just that covariance, X^T I X / n: the draws are exact, singular covariances (n <= D)
    included. Where there are more images than pixels, Cholesky's factor of the covariance takes
    the place of X^T / sqrt(n). They are not clipped.
    """
    images = fitting_images(store, seed)
    mean = mean_image(images)
    rng = generator(seed, Stream.GAUSSIAN)
    samples = np.zeros((count, mean.size), np.float32)
    if mean.size < min(len(images), LARGEST_COVARIANCE):
        factor = _factor(images, mean)
        for rows in blocks(samples):
            block = samples[rows]
            noise = rng.standard_normal((len(block), factor.shape[1]), np.float32)
            block[:] = mean + noise @ factor.T
        return samples.reshape(-1, *store.shape), len(images)
    for some in blocks(images):
        x = centred(images[some], mean)
        for rows in blocks(samples):
            block = samples[rows]
            block += rng.standard_normal((len(block), len(x)), np.float32) @ x
    samples /= np.sqrt(np.float32(len(images)))
    samples += mean
    return samples.reshape(-1, *store.shape), len(images)


def _factor(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """L, float32 (D, rank), with L L^T the covariance of the images.

    By Cholesky's method with pivoting, which stops at the rank: pixels that never change, or are
    functions of others, make the covariance singular.
    """
    covariance = np.zeros((mean.size, mean.size))
    for rows in blocks(images):
        x = centred(images[rows], mean)
        covariance += x.T @ x
    factor, pivots, rank, _ = dpstrf(covariance / len(images), lower=1)
    lower = np.zeros((mean.size, rank), np.float32)
    lower[pivots - 1] = np.tril(factor)[:, :rank]
    return lower


class Row(NamedTuple):
    name: str
    meaning: str
    make: Callable[[Store, int, int], tuple[np.ndarray, int]]
    """(store, count, seed) -> samples float32 (at most count, height, width, channel), pixels on
    [-1, 1], and the number of training images that they come from."""


ROWS = (
    Row(
        "training images",
        "Real images as samples, than which no generator's can look better: whatever scores "
        "higher does so for another reason.",
        real,
    ),
    Row(
        "k-means centroids",
        "Averages of groups of similar training images, neither new nor sharp: if they score above "
        "the training images, the score rewards averages that cover the data, not realism.",
        centroids,
    ),
    Row(
        "blurred training images",
        "The very training images of the first row without their detail: if they score above it, "
        "the score rewards blur.",
        blurred,
    ),
    Row(
        "Gaussian",
        "Draws from one Gaussian with the mean and covariance of the training images, in which no "
        "object is seen: a variant that scores no higher shows by its score nothing beyond these.",
        gaussian,
    ),
)


def baselines(
    data: Path | str,
    settings: ParzenSettings,
    n_samples: int,
    seed: int,
    target: Path | str,
) -> None:
    """Score every row of `ROWS` on the h5 store `data` and write the scores to `target` (JSON).

    Each row has `n_samples` samples, or fewer, as its file says: as many as there are, and as fit
    into `svae.scores.principal_components.MOST_BYTES`. UserError if there are fewer images than
    asked for.
    """
    rows = []
    with Store(data) as store:
        count = min(n_samples, most_images(store))
        for row in ROWS:
            samples, fitted = row.make(store, count, seed)
            result = parzen_of(samples, store, settings, row.name)
            del samples  # before the next are made
            rows.append(
                {"name": row.name, "meaning": row.meaning, "n_fitted": fitted, **fields(result)}
            )
        dataset, checksum = store.attributes["dataset"], store.checksum
    write_json(
        target,
        {
            "dataset": dataset,
            "dataset_checksum": checksum,
            "seed": seed,
            "rows": rows,
            "software": software("numpy", "scikit-learn", "scipy", "threadpoolctl"),
        },
    )
