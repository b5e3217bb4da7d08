"""The linear VAE at its optimum, from the spectrum of the training images: what a run's KL weight
determines without any network. svae.scores.principal_components fits the spectrum.

With a linear encoder and decoder the minimum of SSE + w KL is known. Divided by w, and up to a
constant, the objective is the negative evidence lower bound of a Gaussian decoder of variance
v = w / 2 (see svae.model.objectives), whose model of an image of D pixels

    x = mean + W z + noise,    z ~ N(0, I),    noise ~ N(0, v I)

is probabilistic PCA (Tipping and Bishop 1999) with v given. Let u_i be the principal components of
the training images and lambda_i their variances, the eigenvalues of the maximum-likelihood
covariance (divided by n), descending. The likelihood is largest at W_i = sqrt(lambda_i - v) u_i for
the first components with lambda_i > v, at most one per latent entry; the other entries have W_i = 0
and are not used. There the posterior makes the entries independent of each other,

    q(z_i | x) = N(sqrt(lambda_i - v) / lambda_i  u_i . (x - mean),  v / lambda_i),

so that a linear encoder with a variance for each entry has it exactly, the bound equals the
likelihood, and this is the optimum of the VAE too (Dai et al. 2018, "Connections with Robust PCA
and the Role of Emergent Sparsity in Variational Autoencoder Models"; Lucas et al. 2019, "Don't
Blame the ELBO!"). Over the training images u_i . (x - mean) has the variance lambda_i. Hence, for a
used entry:

    posterior mean      has the variance (lambda_i - v) / lambda_i = 1 - v / lambda_i;
    KL, on average      0.5 ((1 - v / lambda_i) + v / lambda_i - log(v / lambda_i) - 1)
                        = 0.5 log(lambda_i / v) nats;
    SSE along u_i       the error from the posterior mean is (v / lambda_i) u_i . (x - mean), of
                        variance v^2 / lambda_i; a posterior sample adds
                        (lambda_i - v) v / lambda_i: together v.

Along all other directions the SSE is the variance of the images itself.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from svae.errors import UserError
from svae.jobs.files import checked, read_npz, replacing

# As measured ones count, svae.training.terms; that module is TensorFlow's.
ACTIVE_VARIANCE = 0.01


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The principal components of training images, with pixels on [-1, 1]."""

    mean: np.ndarray
    """float32 (D,)."""
    eigenvalues: np.ndarray
    """float64 (r,), descending: of the maximum-likelihood covariance, which divides by n."""
    components: np.ndarray
    """float32 (r, D), orthonormal rows."""
    total_variance: float
    """The sum of all eigenvalues, those left out too."""
    n_fitted: int
    """Training images that it was fitted to."""
    dataset_checksum: str

    def save(self, target: Path | str) -> None:
        """Write npz, whole or not at all."""
        with replacing(target) as temporary, temporary.open("wb") as file:
            np.savez(file, **vars(self))


def load(path: Path | str) -> Spectrum:
    """The spectrum that `Spectrum.save` wrote; UserError if the file holds none."""
    with checked(path):
        file = read_npz(path)
        return Spectrum(
            mean=file["mean"],
            eigenvalues=file["eigenvalues"],
            components=file["components"],
            total_variance=file["total_variance"].item(),
            n_fitted=file["n_fitted"].item(),
            dataset_checksum=file["dataset_checksum"].item(),
        )


def linear_vae(spectrum: Spectrum, w: float, latent_entries: int) -> dict[str, Any]:
    """What the module's docstring derives, for w = 2 v and that many latent entries.

    All are expectations over the images that were fitted, in the units of svae.training.terms:

    used_entries: those whose component has a variance above v;
    active_entries: those whose posterior mean has a variance above 0.01;
    kl_nats_per_image: 0.5 sum log(lambda_i / v) over the used ones; infinite at w = 0;
    sse_per_image: total variance - sum (lambda_i - v), from one posterior sample;
    sse_per_image_posterior_mean: total variance - sum (lambda_i - v^2 / lambda_i);
    objective_sse_plus_w_kl.

    UserError if the spectrum has too few components for that many entries.
    """
    v, used = w / 2, used_eigenvalues(spectrum, w, latent_entries)
    sse = max(0.0, spectrum.total_variance - float(np.sum(used - v)))
    kl = 0.5 * float(np.sum(np.log(used / v))) if v else math.inf
    return {
        "used_entries": len(used),
        "active_entries": int(np.sum(1 - v / used > ACTIVE_VARIANCE)),
        "kl_nats_per_image": kl,
        "sse_per_image": sse,
        "sse_per_image_posterior_mean": max(
            0.0, spectrum.total_variance - float(np.sum(used - v * v / used))
        ),
        "objective_sse_plus_w_kl": sse + w * kl if w else sse,
    }


def expectation(spectrum: Spectrum, w: float, latent_entries: int) -> dict[str, Any] | None:
    """What run.json has of the linear VAE next to a training: w, active entries, KL, SSE and
    objective. None where the KL is infinite or the spectrum has too few components."""
    try:
        terms = linear_vae(spectrum, w, latent_entries)
    except UserError:
        return None
    if math.isinf(terms["kl_nats_per_image"]):
        return None
    keys = ("active_entries", "kl_nats_per_image", "sse_per_image", "objective_sse_plus_w_kl")
    return {"kl_weight": w, **{key: terms[key] for key in keys}}


def used_eigenvalues(spectrum: Spectrum, w: float, latent_entries: int) -> np.ndarray:
    """The eigenvalues of the components that the latent entries use, float64 descending."""
    available = len(spectrum.eigenvalues)
    used = spectrum.eigenvalues[:latent_entries]
    used = used[used > w / 2]
    complete = available == min(spectrum.mean.size, spectrum.n_fitted - 1)
    if len(used) == available < latent_entries and not complete:
        raise UserError(
            f"the spectrum has {available} components, but {latent_entries} latent entries may use "
            f"more; delete spectrum.npz, and fit it with as many components"
        )
    return used
