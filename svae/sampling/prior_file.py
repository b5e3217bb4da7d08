"""The h5 file prior.h5 of a run: a prior fitted to its posteriors, batch-norm statistics, or both.

svae.sampling.fit makes it where the section `sampling` asks for it. It contains, with L = d d N,

mean, axes                    float64 (L,) and (L, L): the columns of `axes` are orthonormal
weights, locations, scales    float64 (K,), (K, L), (K, L): a mixture of K Gaussians along the axes
moving_means_i, moving_variances_i    of the batch-norm layer i of the decoder, for prior samples

and, as attributes, the description of the prior and the checksums of weights and data set.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import tensorflow as tf

from svae.errors import UserError
from svae.jobs.files import replacing
from svae.jobs.hdf5 import File, new_hdf5
from svae.model.vae import SpatialVAE
from svae.streams import Stream, generator

NAME = "prior.h5"


@dataclass(frozen=True, eq=False)
class Mixture:
    """z = mean + axes (location of a component + its scale * noise): a mixture of Gaussians that
    are independent along common axes. One component: N(m, C) with the eigenvectors of C."""

    mean: np.ndarray
    """float64 (L,)."""
    axes: np.ndarray
    """float64 (L, L), orthonormal columns."""
    weights: np.ndarray
    """float64 (K,), with sum 1."""
    locations: np.ndarray
    """float64 (K, L), along the axes."""
    scales: np.ndarray
    """float64 (K, L): standard deviations along the axes."""
    description: str


class Drawn:
    """A mixture as the prior of a model, with the generator of the components.

    Every call of `sample` continues that generator, so that the latents drawn one after the other
    do not depend on how they are divided into batches.
    """

    def __init__(self, mixture: Mixture, rng: np.random.Generator):
        self.description = mixture.description
        self._mixture, self._rng = mixture, rng

    def sample(self, noise: tf.Tensor | np.ndarray) -> tf.Tensor:
        """z (n, d, d, N), float32, from noise iid N(0, 1) of the same shape.

        The noise is turned into the axes: a prior that equals N(0, I) gives the noise itself.
        """
        mixture = self._mixture
        shape = tf.shape(noise).numpy()
        limits = np.cumsum(mixture.weights)
        places = self._rng.random(shape[0]) * limits[-1]
        k = np.minimum(np.searchsorted(limits, places, side="right"), len(limits) - 1)
        along = np.asarray(noise, np.float64).reshape(shape[0], -1) @ mixture.axes
        along = mixture.locations[k] + mixture.scales[k] * along
        z = mixture.mean + along @ mixture.axes.T
        return tf.constant(z.reshape(shape), tf.float32)


def write(
    target: Path | str,
    record: dict[str, Any],
    mixture: Mixture | None,
    statistics: list[tuple[np.ndarray, np.ndarray]] | None,
) -> None:
    """Write the file for the run of `record` (run.json), whole or not at all.

    statistics: moving mean and variance of each batch-norm layer of the decoder.
    """
    with replacing(target) as temporary, new_hdf5(temporary) as file:
        if mixture is not None:
            for name in ("mean", "axes", "weights", "locations", "scales"):
                file.add(name, getattr(mixture, name))
            file.attrs["description"] = mixture.description
        for number, (mean, variance) in enumerate(statistics or []):
            file.add(f"moving_means_{number}", mean)
            file.add(f"moving_variances_{number}", variance)
        for key in ("variant", "dataset", "dataset_checksum", "weights_sha256", "seed"):
            file.attrs[key] = record[key]


def mixture_in(file: h5py.File) -> Mixture:
    """The prior in an open prior.h5; KeyError if it has none."""
    names = ("mean", "axes", "weights", "locations", "scales")
    return Mixture(**{name: file[name][:] for name in names}, description=file.attrs["description"])


def use(
    folder: Path | str,
    model: SpatialVAE,
    record: dict[str, Any],
    number: int,
    latents: bool,
    statistics: bool,
) -> None:
    """Let a model draw its latents from the prior of prior.h5 in `folder`, or decode with the
    batch-norm statistics there, or both.

    record: run.json of the model; number: of the set of samples, 0 for samples.h5. UserError if
    the file is not of this run, or lacks what is asked for.
    """
    path = Path(folder, NAME)
    with File(path, "delete it and run snakemake again") as file:
        for key in ("weights_sha256", "dataset_checksum"):
            if file.attrs[key] != record[key]:
                raise UserError(
                    f"{path} was fitted to another run ({key} differs); delete it and run snakemake"
                )
        if (latents and "mean" not in file) or (statistics and "moving_means_0" not in file):
            raise UserError(f"{path} was made for other settings; delete it and run snakemake")
        if latents:
            rng = generator(record["seed"], Stream.PRIOR_COMPONENTS, number)
            model.prior = Drawn(mixture_in(file), rng)  # type: ignore[assignment]  # samples only
        if statistics:
            for i, block in enumerate(model.decoder.blocks):
                block.batch_norm.moving_mean.assign(file[f"moving_means_{i}"][:])
                block.batch_norm.moving_variance.assign(file[f"moving_variances_{i}"][:])
