"""Samples of the linear VAE at its optimum (svae.scores.spectrum)."""

import numpy as np

from svae.scores.spectrum import Spectrum, used_eigenvalues
from svae.streams import Stream, generator


def sample(spectrum: Spectrum, w: float, latent_entries: int, n: int, seed: int) -> np.ndarray:
    """Decoder means mean + sum_i sqrt(lambda_i - v) u_i z_i for z ~ N(0, I): float32 (n, D).

    Clipped nowhere; the first samples do not depend on n. UserError as
    svae.scores.spectrum.linear_vae.
    """
    used = used_eigenvalues(spectrum, w, latent_entries)
    decoder = np.sqrt(used - w / 2).astype(np.float32)[:, None] * spectrum.components[: len(used)]
    rng = generator(seed, Stream.LINEAR_VAE_LATENTS)
    z = rng.standard_normal((n, len(used)), np.float32)
    samples = z @ decoder
    samples += spectrum.mean
    return samples
