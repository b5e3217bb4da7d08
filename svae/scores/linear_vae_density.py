"""The exact log density of images under a linear VAE (svae.scores.spectrum).

Its images x = mean + W z + noise, z ~ N(0, I), noise ~ N(0, v I), are normal: N(mean, W W^T + v I).
At the optimum for v, the covariance has the eigenvalues lambda_i in the directions u_i of the used
components, and v in all others (Tipping and Bishop 1999). No bound is needed, whose gap would hide
in a comparison.

The bytes are dequantised with uniform noise, as for the importance-weighted bound, of which the
expectation is known: noise of variance s^2 in every pixel adds s^2 to the expected square along
every direction. By Jensen's inequality, bits per dimension of this density are an upper bound of
the length of a code for the bytes (Theis, van den Oord, Bethge 2016).
"""

import math

import numpy as np

from svae.pixels import HALF_RANGE
from svae.scores.principal_components import blocks, centred
from svae.scores.spectrum import Spectrum, used_eigenvalues

NOISE = 1 / (12 * HALF_RANGE**2)
"""The variance of the noise that dequantises a pixel on [-1, 1]."""


def log_density(
    spectrum: Spectrum, variance: float, latent_entries: int, images: np.ndarray
) -> np.ndarray:
    """log p(x) of uint8 images (n, ...) in nats, the mean over the noise: float64 (n,).

    The linear VAE is the optimal one for this variance of its decoder, above 0, and this number of
    latent entries. UserError as svae.scores.spectrum.used_eigenvalues.
    """
    used = used_eigenvalues(spectrum, 2 * variance, latent_entries)
    axes = spectrum.components[: len(used)].T.astype(np.float64)
    d, others = spectrum.mean.size, spectrum.mean.size - len(used)
    log_determinant = float(np.sum(np.log(used))) + others * math.log(variance)
    constant = d * math.log(2 * math.pi) + log_determinant
    constant += NOISE * (float(np.sum(1 / used)) + others / variance)
    found = np.empty(len(images))
    for rows in blocks(images):
        x = centred(images[rows], spectrum.mean).astype(np.float64)
        along = np.square(x @ axes)
        rest = np.maximum(np.einsum("ij,ij->i", x, x) - along.sum(axis=1), 0)
        found[rows] = constant + (along / used).sum(axis=1) + rest / variance
    return -0.5 * found


def optimal_variance(spectrum: Spectrum, latent_entries: int) -> float | None:
    """The variance of the decoder that maximises the likelihood of the images that were fitted: the
    mean of the eigenvalues that the latent entries leave out.

    None where these are 0, with as many entries as components, and where the spectrum has fewer
    components than entries.
    """
    kept, d = spectrum.eigenvalues[:latent_entries], spectrum.mean.size
    left = spectrum.total_variance - float(kept.sum())
    complete = len(spectrum.eigenvalues) == min(d, spectrum.n_fitted - 1)
    if len(kept) < latent_entries or (complete and len(kept) == len(spectrum.eigenvalues)):
        return None
    return left / (d - len(kept)) if left > 0 else None
