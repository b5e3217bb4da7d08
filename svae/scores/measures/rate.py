"""The two parts of the rate, and bounds under a fitted prior (svae.model.aggregate)."""

import math
from typing import Any

from svae.scores.measures.importance_weighted_bound import (
    IMAGES,
    NOISE_SEED,
    Settings,
    latents_at_once,
)
from svae.scores.score import Column, Run, Score


def measure(run: Run, settings: Settings) -> dict[str, Any]:
    """The parts on test images, with a Gaussian fitted to the posteriors of training images.

    settings: those of the score importance_weighted_bound, whose images and latents are the same.
    """
    from svae.model import aggregate
    from svae.sampling.fit import gaussian
    from svae.scores.bound import importance_weighted_bound
    from svae.scores.image_terms import elbo, means_and_errors, terms_by_image
    from svae.scores.scored_images import scored_images

    model, test = run.model, run.store.split("test")
    if (reason := aggregate.refusal(model)) is not None:
        return {"refused": reason}
    fitted, n_fitted = gaussian(model, run.store.split("train"), run.seed)
    kl, information = aggregate.rates(model, test, fitted)
    variance = run.record["train"]["mse_per_pixel"]
    most = IMAGES if settings.images == "auto" else settings.images
    values = {"rate": kl, "information": information, "aggregate_kl": kl - information}
    if variance > 0:
        sse, _ = terms_by_image(model, test)
        values["elbo"] = elbo(sse, information, variance, model.dimension)
        chosen = scored_images(run.store, "test", most)
        k, at_once = settings.importance_samples, latents_at_once(model.dimension)
        bound = importance_weighted_bound(
            model, chosen, k, math.log(variance), NOISE_SEED, at_once, fitted
        )
        values["bound"] = bound.per_image
    found: dict[str, Any] = {
        "aggregate_kl_of_training_images": aggregate.kl_to_standard(fitted),
        "decoder_variance": variance,
        "n_fitted": n_fitted,
        "n_test": len(test),
        "n_bound": min(most, len(test)),
        "k_bound": settings.importance_samples,
    }
    return {**found, **means_and_errors(values), "per_image": values}


SCORE = Score(
    name="rate",
    title="Information and prior in the rate",
    meaning=(
        "The rate, the mean KL, is the mutual information of image and latent plus the KL of the "
        "aggregate posterior to the prior: of two models with equal rates, one may know more of "
        "the image. A Gaussian fitted to the posteriors bounds both parts. As the prior, it lowers "
        "the rate, and raises every bound on log p(x), by the second part."
    ),
    reference=("Alemi et al. 2018", "https://arxiv.org/abs/1711.00464"),
    columns=(
        Column(
            key="rate",
            label="rate",
            unit="nats",
            format=".2f",
            csv="rate_nats",
            error="rate_standard_error",
            meaning="The mean of KL(q(z | x) || N(0, I)) over the test images.",
        ),
        Column(
            key="information",
            label="information, at most",
            unit="nats",
            format=".2f",
            csv="rate_information_nats",
            error="information_standard_error",
            meaning=(
                "The rate under the fitted Gaussian, an upper bound on the mutual information of "
                "image and latent."
            ),
        ),
        Column(
            key="aggregate_kl",
            label="KL of the aggregate posterior to the prior, at least",
            unit="nats",
            format=".2f",
            csv="rate_aggregate_kl_nats",
            error="aggregate_kl_standard_error",
            meaning=(
                "The rate less the information: what the fitted Gaussian saves on test images. "
                "Below 0, it fits them worse than N(0, I) does."
            ),
        ),
        Column(
            key="aggregate_kl_of_training_images",
            label="the same of training images",
            unit="nats",
            format=".2f",
            csv="rate_aggregate_kl_of_training_images_nats",
            meaning=(
                "KL(N(m, C) || N(0, I)) of the Gaussian with the mean and the covariance of the "
                "aggregate posterior of training images: 0 for a linear VAE at its optimum."
            ),
        ),
        Column(
            key="elbo",
            label="ELBO under the fitted Gaussian",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="rate_elbo_nats",
            error="elbo_standard_error",
            meaning=(
                "The ELBO of test images with the fitted Gaussian as the prior, at the decoder "
                "variance that is best for the training images."
            ),
        ),
        Column(
            key="bound",
            label="importance-weighted bound under the fitted Gaussian",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="rate_importance_weighted_bound_nats",
            error="bound_standard_error",
            meaning="The importance-weighted bound with the fitted Gaussian as the prior.",
        ),
    ),
    method=(
        "Over {n_test} test images; fitted to the posteriors of {n_fitted} training images. The "
        "importance-weighted bound is of {n_bound} test images with {k_bound} latents each."
    ),
    measure=measure,
    settings=Settings,
    section="importance_weighted_bound",
    needs=("model",),
)
