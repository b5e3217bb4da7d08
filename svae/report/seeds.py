"""Several seeds: lists of paths by variant and seed, and scores combined over seeds."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import TypeVar

from svae.jobs.files import read_json, write_json

T = TypeVar("T")


def by_variant(variants: Sequence[str], paths: Sequence[T]) -> dict[str, list[T]]:
    """Return variant -> its paths (or anything else), one per seed, from a list in the order of

        for variant in variants: for seed in seeds

    ValueError if the number of paths is not a multiple of the number of variants.
    """
    seeds, rest = divmod(len(paths), len(variants))
    if rest or not seeds:
        raise ValueError(f"{len(paths)} paths for {len(variants)} variants")
    return {
        variant: list(paths[index * seeds : (index + 1) * seeds])
        for index, variant in enumerate(variants)
    }


def combine(scores: Sequence[Path | str], target: Path | str) -> None:
    """Write the first of the parzen.json `scores`, one per seed, with the spread over all seeds.

    These keys are added, in nats per image: `log_likelihood_by_seed`, its mean
    `log_likelihood_mean`, and `log_likelihood_standard_deviation` (n - 1; null for one seed).
    """
    first, *others = (read_json(path) for path in scores)
    values = {str(score["seed"]): score["log_likelihood"] for score in (first, *others)}
    spread = stdev(values.values()) if others else None
    write_json(
        target,
        {
            **first,
            "log_likelihood_by_seed": values,
            "log_likelihood_mean": mean(values.values()),
            "log_likelihood_standard_deviation": spread,
        },
    )
