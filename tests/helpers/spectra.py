"""Small images with principal components, and their spectrum by NumPy."""

import numpy as np

from svae.scores.spectrum import Spectrum


def make_spectrum(images, kept=None, checksum="c"):
    """Of uint8 images (n, ...), with the first `kept` components."""
    x = images.reshape(len(images), -1) / 127.5 - 1
    values, vectors = np.linalg.eigh(np.cov(x.T, ddof=0))
    return Spectrum(
        mean=x.mean(axis=0).astype(np.float32),
        eigenvalues=values[::-1][:kept],
        components=vectors.T[::-1][:kept].astype(np.float32),
        total_variance=float(values.sum()),
        n_fitted=len(images),
        dataset_checksum=checksum,
    )


def make_images(n, seed):
    """uint8 (n, 3, 4, 1): three directions of large variance, and noise in all twelve."""
    rng = np.random.default_rng(seed)
    waves = rng.standard_normal((n, 3)) @ np.random.default_rng(0).uniform(-40, 40, (3, 12))
    noise = rng.normal(0, 6, (n, 12))
    return np.clip(128 + waves + noise, 0, 255).astype(np.uint8).reshape(n, 3, 4, 1)
