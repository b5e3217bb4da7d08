"""One score a variant, from the scores of its seeds."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from svae.files import read_json, write_json


def combine(scores: Sequence[Path | str], target: Path | str) -> None:
    """Write the first of the parzen.json `scores`, one a seed, with the spread over all of them.

    Added are, in nats per image: `log_likelihood_by_seed`, their mean `log_likelihood_mean`, and
    `log_likelihood_standard_deviation` over the seeds (n - 1; null for one seed).
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
