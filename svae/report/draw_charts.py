"""The charts of all runs of one data set, from their JSON files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svae.figures import charts
from svae.figures.charts import Scored, SigmaChoice
from svae.jobs.files import read_json
from svae.report.paired_differences import all_pairs, read_scores
from svae.report.seeds import by_variant
from svae.report.study import Files

IMAGES = {"disjoint": "validation images", "paper": "blocks of test images (protocol paper)"}


def draw(files: Files, targets: Sequence[Path | str]) -> None:
    """Write four PNGs: sigma_curves, paired_differences, score_against_kl_weight, kl_per_map."""
    records = _read(files, files.records)
    scores = _read(files, files.scores["parzen"])
    linear_vaes = _read(files, files.scores["linear_vae"])
    pairs = all_pairs(read_scores(files.variants, files.per_image))
    rows = read_json(files.baselines)["rows"]
    first = records[files.variants[0]][0]
    seeds = f"seed{'s' if len(files.seeds) > 1 else ''} {', '.join(map(str, files.seeds))}"
    images = IMAGES[scores[files.variants[0]][0]["protocol"]]

    def title(words: str) -> str:
        return f"{first['dataset']}: {words} ({seeds})"

    sigma_curves, paired_differences, score_against_kl_weight, kl_per_map = targets
    charts.sigma_curves(
        {variant: list(map(_choice, each)) for variant, each in scores.items()},
        title(f"choice of sigma on {images}"),
        sigma_curves,
    )
    charts.paired_differences(
        pairs, title("paired differences of Parzen scores"), paired_differences
    )
    charts.score_against_kl_weight(
        {
            variant: list(map(_scored, records[variant], scores[variant], linear_vaes[variant]))
            for variant in files.variants
        },
        {row["name"]: row["log_likelihood"] for row in rows},
        title("Parzen score against KL weight"),
        score_against_kl_weight,
    )
    charts.kl_per_map(
        {
            variant: [record["test"]["kl_nats_per_map"] for record in each]
            for variant, each in records.items()
        },
        title("KL of each latent map, mean over test images"),
        kl_per_map,
    )


def _read(files: Files, paths: Sequence[Path | str]) -> dict[str, list[dict[str, Any]]]:
    """Variant -> contents of its JSON files, one per seed."""
    shared = by_variant(files.variants, paths)
    return {variant: list(map(read_json, each)) for variant, each in shared.items()}


def _choice(score: dict[str, Any]) -> SigmaChoice:
    return SigmaChoice(
        score["sigma_grid"],
        score["validation_log_likelihood"],
        score["sigma"],
        score["sigma_at_grid_edge"],
    )


def _scored(run: dict[str, Any], score: dict[str, Any], linear_vae: dict[str, Any]) -> Scored:
    return Scored(
        run["kl_weight"],
        score["log_likelihood"],
        score["standard_error"],
        linear_vae["parzen"]["log_likelihood"],
    )
