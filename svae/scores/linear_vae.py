"""Samples of the linear VAE at its optimum (svae.scores.spectrum), and their score."""

import math
from pathlib import Path

import numpy as np

from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.files import read_json, write_json
from svae.jobs.provenance import software
from svae.scores.principal_components import most_images
from svae.scores.spectrum import Spectrum, linear_vae, load, used_eigenvalues
from svae.scores.store_score import fields, parzen_of
from svae.settings.parzen import ParzenSettings
from svae.streams import Stream, generator

# What the record of the prediction carries over from the record of its run.
CONTEXT = ("variant", "dataset", "dataset_checksum", "seed", "objective", "kl_weight")


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


def score(
    data: Path | str,
    record: Path | str,
    spectrum: Path | str,
    settings: ParzenSettings,
    n_samples: int,
    target: Path | str,
) -> None:
    """The linear VAE beside one run, at the run's w and number of latent entries, as JSON.

    Writes its predictions, and the Parzen score of at most `n_samples` draws, fewer where
    svae.scores.principal_components.MOST_BYTES holds fewer. A KL that is infinite (w = 0) is null.
    UserError if run, spectrum and store are not of the same images.
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
        samples = sample(fitted, w, latent_entries, count, run["seed"])
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
