"""Priors that are fitted to the posteriors of training images, after the training.

    gaussian  N(m, C) with the mean and the covariance of the aggregate posterior
              (svae.model.aggregate), in closed form
    mixture   scikit-learn's mixture of Gaussians, fitted to one posterior sample per image; the
              covariances are diagonal along the eigenvectors of C

(Dai and Wipf 2019, "Diagnosing and Enhancing VAE Models"; Ghosh et al. 2020, "From Variational to
Deterministic Autoencoders".) One component is the Gaussian again, up to the noise of the posterior
samples. Full covariances are out of reach: 50 of a latent with 576 entries have 8.3 million
parameters, more than posteriors of most data sets determine, and a step of the fit to 5,000 images
takes a minute where a diagonal one to 20,000 images takes a second.

Batch-norm statistics of prior samples replace those of posterior samples if the section `sampling`
asks for it: where prior and aggregate posterior differ, so do the activations of the decoder.
"""

import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from svae.datasets.store import Store
from svae.errors import UserError
from svae.model import aggregate, batch_norm
from svae.model.saved import load_model
from svae.model.vae import SpatialVAE
from svae.sampling import prior_file
from svae.sampling.prior_file import Drawn, Mixture
from svae.settings.fitted_prior import PriorSettings
from svae.streams import Stream, generator

log = logging.getLogger(__name__)

GAUSSIAN_IMAGES = 50_000  # whose posteriors N(m, C) is of, at most
MIXTURE_IMAGES = 20_000  # with a posterior sample each for the mixture, at most: 92 MB for L = 576
STATISTICS = 10_000  # prior samples for the batch-norm statistics


class Chosen:
    """`most` random images of a split, or all if there are fewer, in their stored order.

    They are read where they are sliced [a:b]: uint8 (b - a, height, width, channel).
    """

    def __init__(self, images: np.ndarray | h5py.Dataset, most: int, rng: np.random.Generator):
        self._images, self._rows = images, None
        if most < len(images):
            self._rows = np.sort(rng.choice(len(images), most, replace=False))

    def __len__(self) -> int:
        return len(self._images) if self._rows is None else len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        if self._rows is None:
            return self._images[rows]
        # One by one: h5py selects many rows at once slowly.
        return np.stack([self._images[row] for row in self._rows[rows].tolist()])


def fit(data: Path | str, folder: Path | str, target: Path | str, settings: PriorSettings) -> None:
    """Write prior.h5 (svae.sampling.prior_file) of the run in `folder`, from the h5 store `data`.

    UserError if the run is of another data set, if a mixture has more components than there are
    training images, and as svae.model.aggregate.moments.
    """
    model, record = load_model(folder)
    mixture = None
    if settings.prior != "standard":
        with Store(data) as store:
            if store.checksum != record["dataset_checksum"]:
                raise UserError(
                    f"{folder} has a run of other images than {data}; delete it, run snakemake"
                )
            mixture = fitted(model, store.split("train"), record["seed"], settings)
        log.info("%s: %s", record["variant"], mixture.description)
    statistics = None
    if settings.statistics:
        batch_norm.reestimate_decoder(model, _latents(model, mixture, record["seed"]))
        norms = [block.batch_norm for block in model.decoder.blocks]
        statistics = [(norm.moving_mean.numpy(), norm.moving_variance.numpy()) for norm in norms]
        log.info("%s: batch-norm statistics of %d prior samples", record["variant"], STATISTICS)
    prior_file.write(target, record, mixture, statistics)


def gaussian(
    model: SpatialVAE, train: np.ndarray | h5py.Dataset, seed: int
) -> tuple[aggregate.Gaussian, int]:
    """The Gaussian with the moments of the aggregate posterior of training images, and their
    number: uint8 (n, height, width, channel), all or `GAUSSIAN_IMAGES` of them."""
    images = Chosen(train, GAUSSIAN_IMAGES, generator(seed, Stream.FITTED_PRIOR_IMAGES, 0))
    return aggregate.moments(model, images), len(images)


def fitted(
    model: SpatialVAE, train: np.ndarray | h5py.Dataset, seed: int, settings: PriorSettings
) -> Mixture:
    """The prior that the settings name, gaussian or mixture."""
    fitted, n = gaussian(model, train, seed)
    mean = fitted.mean
    variances, axes = np.linalg.eigh(fitted.covariance)
    weights, locations = np.ones(1), np.zeros((1, len(mean)))
    scales = np.sqrt(variances)[None]
    description = f"z ~ N(m, C), the moments of the posteriors of {n:,} training images"
    if settings.prior == "mixture":
        images = Chosen(train, MIXTURE_IMAGES, generator(seed, Stream.FITTED_PRIOR_IMAGES, 1))
        if len(images) < settings.components:
            raise UserError(
                f"sampling.components is {settings.components}, but there are {len(images)} "
                f"training images to fit a mixture to; use fewer components"
            )
        z = posterior_samples(model, images, seed)
        z -= mean
        found = _mixture(z @ axes, settings.components, seed)
        weights, locations = found.weights_, found.means_
        scales = np.sqrt(found.covariances_)
        description = (
            f"z from a mixture of {settings.components} Gaussians, fitted to posterior samples of "
            f"{len(images):,} training images"
        )
    return Mixture(mean, axes, weights, locations, scales, description)


def posterior_samples(
    model: SpatialVAE, images: np.ndarray | h5py.Dataset | Chosen, seed: int
) -> np.ndarray:
    """One posterior sample of each image, float64 (n, L)."""
    rng = generator(seed, Stream.FITTED_PRIOR_LATENTS)
    z = np.empty((len(images), int(np.prod(model.latent_shape))))
    for rows, posterior in aggregate.posteriors(model, images):
        noise = rng.standard_normal((rows.stop - rows.start, *model.latent_shape))
        z[rows] = posterior.sample(tf.constant(noise)).numpy().reshape(len(noise), -1)
    return z


def _mixture(z: np.ndarray, components: int, seed: int) -> Any:
    """A fitted sklearn.mixture.GaussianMixture."""
    # Imported here, since a Gaussian needs none of it and the import takes a second.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    start = generator(seed, Stream.FITTED_PRIOR_MIXTURE).integers(2**32).item()
    mixture = GaussianMixture(components, covariance_type="diag", random_state=start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture.fit(z)
    if not mixture.converged_:
        log.warning(
            "the mixture's likelihood still rises after %d steps of its fit", mixture.n_iter_
        )
    return mixture


def _latents(model: SpatialVAE, mixture: Mixture | None, seed: int) -> Iterator[np.ndarray]:
    """Batches of prior samples of the size that the run was trained with."""
    noise_rng, rng = (generator(seed, Stream.PRIOR_STATISTICS, i) for i in range(2))
    prior = model.prior if mixture is None else Drawn(mixture, rng)
    size = model.settings.batch_size
    for _ in range(-(-STATISTICS // size)):
        noise = noise_rng.standard_normal((size, *model.latent_shape), np.float32)
        yield prior.sample(tf.constant(noise)).numpy()
