"""What a linear VAE gives at a run's KL weight: its optimum, which is known in closed form
(svae.scores.spectrum), its log density of test images, and the Parzen score of its samples."""

import math
from typing import Any

from svae.scores.score import Column, Run, Score
from svae.settings.parzen import ParzenSettings

# Of the measured terms, those that the linear VAE predicts, with their medians.
MEASURED = (
    *("kl_nats_per_image", "kl_nats_median", "kl_nats_largest", "active_entries"),
    *("sse_per_image", "sse_median"),
)


def measure(run: Run, settings: ParzenSettings) -> dict[str, Any]:
    """The linear VAE at the run's w and number of latent entries.

    As many draws are scored as a run has samples, or as many as
    svae.scores.principal_components.MOST_BYTES holds. A KL that is infinite (w = 0) is null, and so
    is a log density for which there is no variance.
    """
    from svae.scores.linear_vae_samples import sample
    from svae.scores.principal_components import most_images
    from svae.scores.spectrum import linear_vae
    from svae.scores.store_score import fields, images_scored, parzen_of

    record, store, spectrum = run.record, run.store, run.spectrum
    w, latent_entries = record["kl_weight"], record["test"]["latent_entries"]
    predictions = linear_vae(spectrum, w, latent_entries)
    if math.isinf(predictions["kl_nats_per_image"]):
        predictions["kl_nats_per_image"] = None
    count = min(run.setting("sampling.n_samples"), most_images(store))
    samples = sample(spectrum, w, latent_entries, count, run.seed)
    name = f"linear VAE at the w of {record['variant']}"
    result = parzen_of(samples.reshape(-1, *store.shape), store, settings, name)
    densities, per_image = _log_densities(run, images_scored(store, settings))
    return {
        "objective": record["objective"],
        "kl_weight": w,
        "latent_entries": latent_entries,
        "n_fitted": spectrum.n_fitted,
        **predictions,
        "terms_of": "the training images that were fitted, in expectation",
        "parzen": fields(result),
        **densities,
        "measured": {key: record["test"][key] for key in MEASURED},
        "per_image": per_image,
    }


def _log_densities(run: Run, images: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The log density at the variance of the run and at the optimal one: means with standard
    errors, and the values of single images, float64 (n,) each."""
    from svae.scores.linear_vae_density import log_density, optimal_variance

    record, spectrum = run.record, run.spectrum
    latent_entries = record["test"]["latent_entries"]
    own = record["decoder_variance"]
    variances = {
        "": record["kl_weight"] / 2 if own is None else own,
        "optimal_": optimal_variance(spectrum, latent_entries),
    }
    found: dict[str, Any] = {}
    per_image: dict[str, Any] = {}
    for name, variance in variances.items():
        mean = error = None
        if variance:
            values = log_density(spectrum, variance, latent_entries, images)
            per_image[f"{name}log_density"] = values
            mean, error = float(values.mean()), float(values.std(ddof=1) / math.sqrt(len(values)))
        found |= {
            f"{name}variance": variance or None,
            f"{name}log_density": mean,
            f"{name}log_density_standard_error": error,
        }
    return found | {"n_test": len(images)}, per_image


SCORE = Score(
    name="linear_vae",
    title="Linear VAE at the same w",
    meaning=(
        "A linear VAE at its optimum (probabilistic PCA) uses the principal components whose "
        "variance exceeds w / 2. Its predictions follow from w and the covariance of the training "
        "images. Each may agree with its measurement or not: a KL that agrees says nothing about "
        "active entries or the SSE."
    ),
    columns=(
        Column(
            key="kl_weight",
            label="w",
            format=".3g",
            meaning="The KL weight of the run; under the ELBO, twice the variance of its decoder.",
        ),
        Column(
            key="parzen.log_likelihood",
            label="Parzen score of its samples",
            unit="nats",
            format=".1f",
            csv="linear_vae_log_likelihood_nats",
            error="parzen.standard_error",
            shown=False,
            meaning="What this KL weight gives without a network.",
        ),
        Column(
            key="parzen.grid_log_likelihood",
            label="Parzen score of its samples at the grid's sigma",
            unit="nats",
            format=".1f",
            csv="linear_vae_grid_log_likelihood_nats",
            error="parzen.grid_standard_error",
            shown=False,
            meaning="The same with the best sigma of the grid.",
        ),
        Column(
            key="log_density",
            label="log p(x)",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="linear_vae_log_density_nats",
            error="log_density_standard_error",
            meaning=(
                "Its exact log density of test images, dequantised as for the importance-weighted "
                "bound, at the decoder variance of the run; w / 2 where the run has none."
            ),
        ),
        Column(
            key="optimal_log_density",
            label="log p(x) at its optimal variance",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="linear_vae_optimal_log_density_nats",
            error="optimal_log_density_standard_error",
            meaning=(
                "The same at the variance that maximises the likelihood of the training images for "
                "this number of latent entries."
            ),
        ),
        Column(
            key="optimal_variance",
            label="its optimal variance",
            format=".4g",
            csv="linear_vae_optimal_variance",
            meaning="That variance, of pixels on [-1, 1].",
        ),
        Column(
            key="kl_nats_per_image",
            label="KL predicted",
            unit="nats",
            format=".2f",
            csv="linear_vae_kl_nats",
            meaning="In expectation over the training images.",
        ),
        Column(
            key="measured.kl_nats_per_image",
            label="KL measured",
            unit="nats",
            format=".2f",
            median="measured.kl_nats_median",
            largest="measured.kl_nats_largest",
            meaning="Of the run, over the test images.",
        ),
        Column(
            key="active_entries",
            label="active entries predicted",
            format=",",
            csv="linear_vae_active_entries",
            meaning="Entries whose posterior mean has a variance above 0.01.",
        ),
        Column(
            key="measured.active_entries",
            label="active entries measured",
            format=",",
            meaning="Those of the run.",
        ),
        Column(
            key="sse_per_image",
            label="SSE predicted",
            format=".1f",
            meaning="From one posterior sample, in expectation over the training images.",
        ),
        Column(
            key="measured.sse_per_image",
            label="SSE measured",
            format=".1f",
            median="measured.sse_median",
            meaning="Of the run, over the test images.",
        ),
    ),
    method=(
        "Predictions are expectations over the {n_fitted} training images that were fitted, "
        "measurements means over the test images."
    ),
    measure=measure,
    settings=ParzenSettings,
    section="parzen",
    reads=("sampling.n_samples",),
    needs=("spectrum",),
)
