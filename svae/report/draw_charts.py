"""The charts of all runs of one data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from svae.figures.differences import Difference, paired_differences
from svae.figures.kl_per_map import kl_per_map
from svae.figures.score_against_kl_weight import Scored, score_against_kl_weight
from svae.figures.sigma_curves import SigmaChoice, sigma_curves
from svae.report.intervals import Comparison
from svae.report.numbers import Document
from svae.report.png import save
from svae.report.study import Run, Study

IMAGES = {"disjoint": "validation images", "paper": "blocks of test images (protocol paper)"}


def draw(study: Study, targets: Sequence[Path | str]) -> None:
    """Write four PNGs: sigma_curves, paired_differences, score_against_kl_weight, kl_per_map.

    study: with the scores objective, parzen and linear_vae.
    """
    measure = study.deciding()
    values = study.values(measure)
    differences = [_difference(each, values) for each in study.differences(measure)]
    rows = {row["name"]: row["log_likelihood"] for row in study.baselines.get("rows")}
    first, *_ = study.scores(study.variants[0], "parzen")
    seeds = f"seed{'s' if study.several else ''} {', '.join(map(str, study.seeds))}"

    def title(words: str) -> str:
        return f"{study.title}: {words} ({seeds})"

    figures = (
        sigma_curves(
            {
                variant: list(map(_choice, study.scores(variant, "parzen")))
                for variant in study.variants
            },
            title(f"choice of sigma on {IMAGES[first.get('protocol')]}"),
        ),
        paired_differences(
            differences,
            measure.label,
            title(f"paired differences of {measure.column.label}"),
        ),
        score_against_kl_weight(
            {variant: list(map(_scored, runs)) for variant, runs in study.runs.items()},
            rows,
            title("Parzen score against KL weight"),
        ),
        kl_per_map(
            {
                variant: [record.get("test.kl_nats_per_map") for record in study.records(variant)]
                for variant in study.variants
            },
            title("KL of each latent map, mean over test images"),
        ),
    )
    for figure, target in zip(figures, targets, strict=True):
        save(figure, target)


def _choice(score: Document) -> SigmaChoice:
    return SigmaChoice(
        score.get("sigma_grid"),
        score.get("validation_log_likelihood"),
        score.get("sigma"),
        score.get("validation_log_likelihood_at_sigma"),
        score.get("sigma_at_grid_edge"),
    )


def _difference(comparison: Comparison, values: Mapping[str, np.ndarray]) -> Difference:
    """A comparison with the interval that decides it; with one seed, none does.

    values: variant -> (n_seeds, n_images).
    """
    mean, error = comparison.difference, comparison.error_over_images
    interval = comparison.deciding_interval
    if interval is None and mean is not None and error is not None:
        interval = mean - error, mean + error
    by_seed = (values[comparison.first] - values[comparison.second]).mean(axis=1)
    return Difference(
        comparison.first,
        comparison.second,
        mean,
        interval,
        by_seed.tolist(),
        comparison.established,
    )


def _scored(run: Run) -> Scored:
    return Scored(
        run.record.get("kl_weight"),
        run.scores["parzen"].get("log_likelihood"),
        run.scores["parzen"].get("standard_error"),
        run.scores["linear_vae"].get("parzen.log_likelihood"),
    )
