"""The principal components of the training images of a store, and which images are fitted."""

import math
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from svae.datasets.store import Store
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.pixels import scale
from svae.scores.spectrum import Spectrum
from svae.streams import Stream, generator

MOST_BYTES = 10**9  # of float32 images that are fitted, or that are samples
EXACT = 3200  # pixels, or images, up to which the eigenvalues are not approximated
BLOCK, BLOCK_BYTES = 1000, 1 << 26  # the most images, and bytes of them in float32, at a time


def fit(data: Path | str, most_components: int = 1024, seed: int = 0) -> Spectrum:
    """The leading principal components of the training images of the h5 store `data`.

    `most_components`: the largest number of latent entries that will be asked for; there are never
    more than D, nor than n - 1 for n images. At most `MOST_BYTES` of images are fitted, chosen at
    random. Exact if D or n is at most `EXACT`, else by a randomised method (Halko, Martinsson,
    Tropp 2011), which underestimates the last eigenvalues a little.

    UserError for fewer than 2 training images.
    """
    with Store(data) as store:
        images = fitting_images(store, seed)
        checksum = store.checksum
    n = len(images)
    if n < 2:
        raise UserError(f"{data} has {n} training images, but a covariance needs at least 2")
    mean = mean_image(images)
    x = np.empty((n, mean.size), np.float32)
    total = 0.0
    for rows in blocks(images):
        block = centred(images[rows], mean)
        x[rows] = block
        total += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
    del images
    solver = "full" if n <= EXACT else "randomized"
    if mean.size <= EXACT:
        solver = "covariance_eigh"
    pca = PCA(
        n_components=min(most_components, mean.size, n - 1),
        svd_solver=solver,
        copy=False,
        random_state=generator(seed, Stream.PRINCIPAL_COMPONENTS).integers(2**32).item(),
    ).fit(x)
    return Spectrum(
        mean=mean,
        # scikit-learn divides by n - 1.
        eigenvalues=pca.explained_variance_.astype(np.float64) * ((n - 1) / n),
        components=np.ascontiguousarray(pca.components_, np.float32),
        total_variance=total / n,
        n_fitted=n,
        dataset_checksum=checksum,
    )


def blocks(images: np.ndarray) -> list[slice]:
    """The rows of images (n, ...) that are taken at a time, in their order."""
    size = max(1, min(BLOCK, BLOCK_BYTES // (4 * math.prod(images.shape[1:]))))
    return [slice(start, start + size) for start in range(0, len(images), size)]


def most_images(store: Store) -> int:
    """Images of this store that take `MOST_BYTES` as float32, and at least one."""
    return max(1, MOST_BYTES // (4 * math.prod(store.shape)))


def training_images(store: Store, most: int, rng: np.random.Generator) -> np.ndarray:
    """All training images, or `most` of them at random without replacement, as they lie in the
    file: uint8 (n, height, width, channel)."""
    images = store.split("train")
    return subset(images, min(most, len(images)), rng)


def fitting_images(store: Store, seed: int) -> np.ndarray:
    """The training images that everything is fitted to, uint8 (n, height, width, channel)."""
    return training_images(store, most_images(store), generator(seed, Stream.FITTED_IMAGES))


def mean_image(images: np.ndarray) -> np.ndarray:
    """Mean of uint8 images (n, ...), on [-1, 1]: float32 (D,), exact where all are equal."""
    return scale(images.mean(axis=0, dtype=np.float64)).ravel()


def centred(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """uint8 images (n, ...) on [-1, 1], minus the mean (D,): float32 (n, D)."""
    return scale(images).reshape(-1, mean.size) - mean
