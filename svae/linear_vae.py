"""The linear VAE at its optimum: what a run's KL weight decides without any network.

With a linear encoder and decoder the minimum of SSE + w KL is known. Divided by w, and up to a
constant, the objective is the negative evidence lower bound of a Gaussian decoder of variance
v = w / 2 (see svae.objectives), whose model of an image of D pixels

    x = mean + W z + noise,    z ~ N(0, I),    noise ~ N(0, v I)

is probabilistic PCA (Tipping and Bishop 1999) with v given. Let u_i be the principal components of
the training images and lambda_i their variances, the eigenvalues of the maximum-likelihood
covariance (divided by n), descending. The likelihood is largest at W_i = sqrt(lambda_i - v) u_i for
the first components with lambda_i > v, at most one a latent entry; the other entries have W_i = 0
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
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.decomposition import PCA

from svae.datasets.store import Store, scale
from svae.datasets.subset import subset
from svae.errors import UserError
from svae.files import read_json, replacing, write_json
from svae.provenance import software
from svae.settings.parzen import ParzenSettings
from svae.store_score import fields, parzen_of

# As measured ones count, svae.evaluation; that module is TensorFlow's.
ACTIVE_VARIANCE = 0.01

MOST_BYTES = 10**9  # of float32 images that are fitted, or that are samples
EXACT = 3200  # pixels, or images, up to which the eigenvalues are not approximated
BLOCK = 1000  # images

# Streams of random numbers, next to those of svae.sampling.
FITTED, COMPONENTS, DRAWS = 2, 3, 4

# What numpy raises for a file that is empty, cut, of other content, or no zip at all.
_UNREADABLE = (OSError, EOFError, KeyError, ValueError, TypeError, zipfile.BadZipFile)

# What the record of the prediction carries over from the record of its run.
CONTEXT = ("variant", "dataset", "dataset_checksum", "seed", "objective", "kl_weight")


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
    try:
        with np.load(path, allow_pickle=False) as file:
            return Spectrum(
                mean=file["mean"],
                eigenvalues=file["eigenvalues"],
                components=file["components"],
                total_variance=file["total_variance"].item(),
                n_fitted=file["n_fitted"].item(),
                dataset_checksum=file["dataset_checksum"].item(),
            )
    except _UNREADABLE as error:
        raise UserError(f"{path} holds no spectrum ({error}); delete it, run snakemake") from error


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
    for start in range(0, n, BLOCK):
        block = centred(images[start : start + BLOCK], mean)
        x[start : start + BLOCK] = block
        total += float(np.einsum("ij,ij->", block, block, dtype=np.float64))
    del images
    solver = "full" if n <= EXACT else "randomized"
    if mean.size <= EXACT:
        solver = "covariance_eigh"
    pca = PCA(
        n_components=min(most_components, mean.size, n - 1),
        svd_solver=solver,
        copy=False,
        random_state=np.random.default_rng([seed, COMPONENTS]).integers(2**32).item(),
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


def linear_vae(spectrum: Spectrum, w: float, latent_entries: int) -> dict[str, Any]:
    """What the module's docstring derives, for w = 2 v and so many latent entries.

    All are expectations over the images that were fitted, in the units of svae.evaluation:

    used_entries: those whose component has a variance above v;
    active_entries: those whose posterior mean has a variance above 0.01;
    kl_nats_per_image: 0.5 sum log(lambda_i / v) over the used ones; infinite at w = 0;
    sse_per_image: total variance - sum (lambda_i - v), from one posterior sample;
    sse_per_image_posterior_mean: total variance - sum (lambda_i - v^2 / lambda_i);
    objective_sse_plus_w_kl.

    UserError if the spectrum has too few components for so many entries.
    """
    v, used = w / 2, _used(spectrum, w, latent_entries)
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


def draw(
    spectrum: Spectrum, w: float, latent_entries: int, n: int, seed: int | list[int]
) -> np.ndarray:
    """Decoder means mean + sum_i sqrt(lambda_i - v) u_i z_i for z ~ N(0, I): float32 (n, D).

    Clipped nowhere; the first samples do not depend on n. UserError as `linear_vae`.
    """
    used = _used(spectrum, w, latent_entries)
    decoder = np.sqrt(used - w / 2).astype(np.float32)[:, None] * spectrum.components[: len(used)]
    z = np.random.default_rng(seed).standard_normal((n, len(used)), np.float32)
    samples = z @ decoder
    samples += spectrum.mean
    return samples


def score(
    data: Path | str,
    record: Path | str,
    spectrum: Path | str,
    settings: ParzenSettings,
    n_samples: int,
    target: Path | str,
) -> None:
    """The linear VAE beside one run, at the run's w and number of latent entries, as JSON.

    Writes its predictions, and the Parzen score of as many draws as `MOST_BYTES` hold, at most
    `n_samples`. A KL that is infinite (w = 0) is null. UserError if run, spectrum and store are not
    of the same images.
    """
    run, fitted = read_json(record), load(spectrum)
    w, latent_entries = run["kl_weight"], run["test"]["latent_entries"]
    predictions = linear_vae(fitted, w, latent_entries)
    if math.isinf(predictions["kl_nats_per_image"]):
        predictions["kl_nats_per_image"] = None
    with Store(data) as store:
        for path, checksum in {
            record: run["dataset_checksum"],
            spectrum: fitted.dataset_checksum,
        }.items():
            if checksum != store.checksum:
                raise UserError(f"{path} is of other images than {data}; delete it, run snakemake")
        count = min(n_samples, most_images(store))
        samples = draw(fitted, w, latent_entries, count, [run["seed"], DRAWS])
        name = f"linear VAE beside {run['variant']}"
        result = parzen_of(samples.reshape(-1, *store.shape), store, settings, name)
    write_json(
        target,
        {
            **{key: run[key] for key in CONTEXT},
            "latent_entries": latent_entries,
            "n_fitted": fitted.n_fitted,
            **predictions,
            "terms_of": "the training images that were fitted, in expectation",
            "parzen": fields(result),
            "software": software("numpy", "scikit-learn", "scipy", "threadpoolctl"),
        },
    )


def most_images(store: Store) -> int:
    """Images of this store that take `MOST_BYTES` as float32, and at least one."""
    return max(1, MOST_BYTES // (4 * math.prod(store.shape)))


def training_images(store: Store, most: int, seed: int | list[int]) -> np.ndarray:
    """All training images, or `most` of them at random without replacement, as they lie in the
    file: uint8 (n, height, width, channel)."""
    images = store.split("train")
    return subset(images, min(most, len(images)), np.random.default_rng(seed))


def fitting_images(store: Store, seed: int) -> np.ndarray:
    """The training images that everything is fitted to, uint8 (n, height, width, channel)."""
    return training_images(store, most_images(store), [seed, FITTED])


def mean_image(images: np.ndarray) -> np.ndarray:
    """Mean of uint8 images (n, ...), on [-1, 1]: float32 (D,), exact where all are equal."""
    return scale(images.mean(axis=0, dtype=np.float64)).ravel()


def centred(images: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """uint8 images (n, ...) on [-1, 1], minus the mean (D,): float32 (n, D)."""
    return scale(images).reshape(-1, mean.size) - mean


def _used(spectrum: Spectrum, w: float, latent_entries: int) -> np.ndarray:
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
