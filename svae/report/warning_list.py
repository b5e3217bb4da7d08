"""What a reader must know before believing a number: warnings of trainings, sigmas and sources."""

from collections.abc import Mapping
from typing import Any

from svae.report.numbers import Code, Document, Pieces, value
from svae.report.study import Study


def warnings(study: Study, attributes: Mapping[str, Any]) -> list[Pieces]:
    """Of trainings, of sigmas at the edge of their grid, and of the source files. A sentence that
    several trainings share, such as a remedy, stands with the first of them."""
    found: list[Pieces] = []
    said: set[str] = set()
    for variant, runs in study.runs.items():
        for seed, run in zip(study.seeds, runs, strict=True):
            name: Pieces = [Code(variant), f", seed {seed}: " if study.several else ": "]
            for text in run.record.get("warnings") or []:
                first, *others = text.split(". ")
                new = [first, *(sentence for sentence in others if sentence not in said)]
                said.update(others)
                found.append([*name, f"{'. '.join(new)}."])
            own, linear = run.scores["parzen"], run.scores["linear_vae"]
            if own.get("sigma_at_grid_edge"):
                found.append([*name, *_edge(own, "sigma")])
            if linear.get("parzen.sigma_at_grid_edge"):
                found.append([*name, "of its linear VAE, ", *_edge(linear, "parzen.sigma")])
    for index, row in enumerate(study.baselines.get("rows") or []):
        if row.get("sigma_at_grid_edge"):
            edge = _edge(study.baselines, f"rows.{index}.sigma")
            found.append([f"sanity row {row['name']}: ", *edge])
    noted = {run.scores["parzen"].get("dataset_source_note") for run in study.everything()}
    notes = sorted(filter(None, noted | {attributes.get("source_note")}))
    found += [[f"{note}."] for note in notes]
    if attributes.get("source_matches_official") is False and not notes:
        found.append(["The source files are not the official ones."])
    return found


def _edge(document: Document, key: str) -> Pieces:
    return [
        "sigma = ",
        value(document, key, ".3f"),
        " lies at the edge of its grid, so that the score is a lower bound; widen "
        "parzen.sigma_log10_min or parzen.sigma_log10_max.",
    ]
