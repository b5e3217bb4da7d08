"""The Parzen-window log-likelihood (svae.scores.parzen_window) of the samples of a run."""

from dataclasses import dataclass
from statistics import stdev
from typing import Any

from svae.scores.score import Column, Run, Score
from svae.settings.fields import setting
from svae.settings.parzen import ParzenSettings

# What the score carries over from the record of its run.
CONTEXT = (
    "objective",
    "epochs",
    "kl_weight",
    "equivalent_variance_at_unit_beta",
    "equivalent_beta_at_unit_variance",
    "decoder_variance",
    "parameters",
    "training_seconds",
)
TERMS = ("sse_per_image", "kl_nats_per_image", "active_entries", "active_maps")


@dataclass(frozen=True, kw_only=True)
class Settings(ParzenSettings):
    """The protocol, and how often it is repeated with other samples."""

    fresh_draws: int = setting(
        3,
        "further sets of samples, each scored in the same way, for the spread between draws: none, "
        "or at least 2",
        minimum=0,
        maximum=1000,
        also={"not": {"const": 1}},
    )


def measure(run: Run, settings: Settings) -> dict[str, Any]:
    """The score, sigma chosen on validation images, and how far it moves from draw to draw.

    The whole procedure is repeated with `fresh_draws` further sets of samples. UserError if there
    are fewer images than asked for.
    """
    from svae.jobs.neutral import restored
    from svae.sampling.prior import redrawn
    from svae.scores.store_score import fields, parzen_of, per_image
    from svae.settings.sampling import SamplingSettings

    record, samples = run.record, run.samples
    result = parzen_of(samples, run.store, settings, record["variant"])
    sampling = restored(SamplingSettings, run.setting("sampling"))
    fresh = [
        parzen_of(again, run.store, settings, f"{record['variant']}, another draw").log_likelihood
        for again in redrawn(run.folder, sampling, settings.fresh_draws)
    ]
    return {
        **{key: record[key] for key in CONTEXT},
        **fields(result),
        **{key: record["test"][key] for key in TERMS},
        "terms_of": "the test images, one posterior sample each",
        "fresh_draws": {
            "n": len(fresh),
            "log_likelihood": fresh,
            "standard_deviation": stdev(fresh) if len(fresh) > 1 else None,
        },
        "batch_norm": samples.file.attrs["batch_norm"],
        **({"prior": samples.file.attrs["prior"]} if sampling.fitted_prior else {}),
        "dataset_source_note": run.store.attributes.get("source_note", ""),
        "per_image": per_image(result),
    }


SCORE = Score(
    name="parzen",
    title="Parzen-window log-likelihood",
    meaning=(
        "The samples become a density: an isotropic Gaussian of width sigma around each. Its "
        "logarithm is averaged over test images, for pixels on [-1, 1] (bytes u as u / 127.5 - 1; "
        "on [0, 1] the numbers would be larger by D ln 2). In high dimension it is a poor proxy of "
        "quality: it rewards blur, and centroids of k-means can beat real images. Scores compare "
        "only at equal pixel scale, number of samples and protocol."
    ),
    reference=("Theis, van den Oord, Bethge 2016", "https://arxiv.org/abs/1511.01844"),
    columns=(
        Column(
            key="log_likelihood",
            label="log-likelihood",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="log_likelihood_nats",
            error="standard_error",
            per_image="log_likelihood",
            meaning="The mean over the test images, in nats per image.",
        ),
        Column(
            key="fresh_draws.standard_deviation",
            label="spread over fresh draws",
            unit="nats",
            format=".2f",
            csv="spread_over_fresh_draws_nats",
            meaning="The standard deviation of the scores of further sets of samples of the model.",
        ),
        Column(
            key="bits_per_dim",
            label="bits per dimension",
            format=".3f",
            higher_is_better=False,
            csv="bits_per_dim",
            meaning=(
                "-LL / (D ln 2) + log2 127.5: the same on the scale of byte values. It bounds the "
                "length of no code, since the density is taken at the bytes without dequantisation."
            ),
        ),
        Column(
            key="sigma",
            label="sigma",
            unit="pixel units",
            format=".3f",
            csv="sigma",
            mark=("sigma_at_grid_edge", "(edge)"),
            meaning="The width of the Gaussians; at the edge of its grid, the score is a bound.",
        ),
        Column(
            key="grid_log_likelihood",
            label="at the grid's sigma",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="grid_log_likelihood_nats",
            error="grid_standard_error",
            meaning=(
                "The log-likelihood with the best sigma of the grid, as usually reported: lower "
                "by about D delta^2 for an offset delta of ln sigma."
            ),
        ),
        Column(
            key="grid_sigma",
            label="sigma of the grid",
            unit="pixel units",
            format=".3f",
            csv="grid_sigma",
            shown=False,
            meaning="The best sigma of the grid.",
        ),
        Column(
            key="sigma_at_grid_edge",
            label="sigma at the edge of its grid",
            csv="sigma_at_grid_edge",
            shown=False,
            over_seeds="any",
            meaning="Whether the best sigma may lie outside the grid.",
        ),
        Column(
            key="n_samples",
            label="samples",
            csv="n_samples",
            shown=False,
            meaning="The number of samples in the density.",
        ),
        Column(
            key="n_valid",
            label="validation images",
            csv="n_valid",
            shown=False,
            meaning="The number of images on which each sigma is tried.",
        ),
        Column(
            key="n_test",
            label="test images",
            csv="n_test",
            shown=False,
            meaning="The number of images that are scored.",
        ),
        Column(
            key="protocol",
            label="protocol",
            csv="protocol",
            shown=False,
            over_seeds="first",
            meaning="Which images choose sigma.",
        ),
    ),
    measure=measure,
    settings=Settings,
    reads=("sampling",),
    needs=("samples", "model"),
    alone=True,
)
