"""The importance-weighted bound on log p(x) of test images (svae.scores.bound)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from svae.scores.score import Column, Run, Score
from svae.settings.fields import setting

IMAGES = 500  # test images under `auto`
PIXELS = 2**19  # decoded at once: with fewer, the calls cost more than their work
NOISE_SEED = 0  # the same noise for every run
SETTING = "importance_weighted_bound.decoder_variance"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many latents of how many images, and the variance of the decoder."""

    importance_samples: int = setting(
        64, "latents per image for the bound on log p(x)", minimum=1, maximum=1_000_000
    )
    images: Literal["auto"] | int = setting(
        "auto", "test images on which the bound is computed", minimum=2
    )
    decoder_variance: Literal["optimal", "from_weight", "trained"] | float | None = setting(
        "optimal", "variance of the decoder; null is the same as trained", exclusive_minimum=0
    )


def measure(run: Run, settings: Settings) -> dict[str, Any]:
    """The bound, or the reason why there is none."""
    from svae.scores import bound
    from svae.scores.scored_images import scored_images

    variance, source = variance_of(run.record, settings.decoder_variance)
    if variance is None:
        return {"refused": source}
    model = run.model
    most = IMAGES if settings.images == "auto" else settings.images
    images = scored_images(run.store, "test", most)
    k, at_once = settings.importance_samples, latents_at_once(model.dimension)
    found = bound.importance_weighted_bound(
        model, images, k, math.log(variance), NOISE_SEED, at_once
    )
    return {
        **bound.summary(found, model.dimension, variance, source, NOISE_SEED),
        "per_image": {
            "log_likelihood": found.per_image,
            "effective_sample_size": found.effective_sample_size,
        },
    }


def latents_at_once(dimension: int) -> int:
    """How many latents are decoded at once, of a model of `dimension` pixel values."""
    return max(64, PIXELS // dimension)


def variance_of(record: Mapping[str, Any], given: str | float | None) -> tuple[float | None, str]:
    """The decoder's variance on [-1, 1] pixels and what it is, or None and why there is none.

    record: run.json; given: the setting.
    """
    w, trained = record["kl_weight"], record["decoder_variance"]
    if given == "optimal":
        found = record["train"]["mse_per_pixel"]
        source = "the mean squared error of the training images, which is optimal for them"
    elif given == "from_weight":
        found, source = w / 2, "w / 2, at which SSE + w KL is proportional to the ELBO"
    elif given == "trained" or given is None:
        found, source = trained, "that of the training"
    else:
        found, source = float(given), f"{SETTING} in config.yaml"
    if found is None:
        return None, (
            f"SSE + w KL has no decoder variance of its own, and {SETTING} asks for that of the "
            f"training; set it to optimal, or to from_weight, which is w / 2 = {w / 2:.4g} here"
        )
    if not found > 0:
        return None, f"the decoder variance is {found:g} ({source}); set {SETTING} to another one"
    return found, source


SCORE = Score(
    name="importance_weighted_bound",
    title="Importance-weighted bound",
    meaning=(
        "A lower bound on log p(x) of test images, from k posterior samples each. It needs the "
        "variance of the decoder, which training by SSE + w KL does not give: by default it is the "
        "mean squared error of the training images, the best one for them."
    ),
    reference=("Burda, Grosse, Salakhutdinov 2016", "https://arxiv.org/abs/1509.00519"),
    columns=(
        Column(
            key="log_likelihood",
            label="bound on log p(x)",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="importance_weighted_bound_nats",
            error="standard_error",
            per_image="log_likelihood",
            meaning="The mean over the test images, in nats per image, for pixels on [-1, 1].",
        ),
        Column(
            key="decoder_variance",
            label="decoder variance",
            format=".4g",
            csv="importance_weighted_bound_decoder_variance",
            meaning="The variance that the bound is computed with, of pixels on [-1, 1].",
        ),
        Column(
            key="bits_per_dim",
            label="bits per dimension",
            format=".3f",
            higher_is_better=False,
            csv="importance_weighted_bound_bits_per_dim",
            meaning=(
                "-bound / (D ln 2) + log2 127.5: since the bytes are dequantised, an upper bound "
                "on the length of a code for them, comparable with those of discrete models."
            ),
        ),
        Column(
            key="effective_sample_size",
            label="effective sample size",
            format=".1f",
            higher_is_better=True,
            csv="effective_sample_size",
            meaning=(
                "Between 1 and k, how many of the k samples carry the weight: near 1 the bound may "
                "lie far below log p(x)."
            ),
        ),
    ),
    method=(
        "k = {k} posterior samples per image on {n_images} test images, dequantised with uniform "
        "noise. The variance of the decoder is {variance_from}."
    ),
    measure=measure,
    settings=Settings,
    needs=("model",),
)
