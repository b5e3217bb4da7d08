"""What is compared in the study, and what follows from it: rows of runs.csv in, numbers out."""

import math
import statistics
from collections.abc import Callable

import numpy as np
import scipy.stats

from svae.report.intervals import seed_variances

Row = dict[str, str]
# The endpoint of each table: measure of paired_differences.csv, column of runs.csv, what it is, and
# the smallest effect of interest, from the value of the variant that is compared with.
ENDPOINTS: dict[str, tuple[str, str, str, Callable[[float], float]]] = {
    "elbo": ("objective.elbo", "test_elbo_at_optimal_variance_nats", "ELBO, nats", lambda _: 15.0),
    "j": ("objective.j", "test_j", "J", lambda j: 0.01 * j),
}
NAMES = {
    ("naive", "naive_dense"): "C1",
    ("mvn", "naive"): "C2",
    ("low_rank", "mvn"): "C3",
    ("low_rank", "low_rank_permuted"): "C4",
}
# What is of interest in a table, and in none of its contrasts.
EXPLORATORY = {"t2": (("naive", "vector"), ("naive_separable", "naive"))}
# What T6 compares with variants of T2.
WITH_T2 = (
    ("mvn_dense", "mvn"),
    ("mvn_dense_dense", "naive_dense"),
    ("isotropic", "naive"),
    ("low_rank_3", "low_rank"),
    ("naive_d7", "naive"),
)


def of_runs(runs: list[Row], variant: str, column: str) -> list[float]:
    """The values of a column for the seeds of a variant, in order."""
    chosen = sorted(
        (row for row in runs if row["variant"] == variant), key=lambda r: int(r["seed"])
    )
    return [float(row[column]) for row in chosen if row.get(column)]


def differences(pair: tuple[str, str], runs: list[Row], column: str) -> list[float]:
    """The first variant less the second, by seed."""
    first, second = (of_runs(runs, name, column) for name in pair)
    return [a - b for a, b in zip(first, second, strict=True)]


def paired_t(each: list[float]) -> tuple[float, float]:
    """The 95 % interval of a mean difference, by a paired t-test over seeds."""
    low, high = scipy.stats.ttest_1samp(each, 0).confidence_interval()
    return float(low), float(high)


def differences_from_t2(
    runs: list[Row], of_t2: list[Row], endpoint: str
) -> list[dict[str, str | float]]:
    """Differences from variants of T2 with the same seeds. Their variance over seeds is pooled over
    the variants of both tables; the intervals have Bonferroni's level for their number."""
    column = ENDPOINTS[endpoint][1]
    both = [*runs, *of_t2]
    variance, freedom = pooled_variance(both, column)
    quantile = scipy.stats.t.ppf(1 - 0.025 / len(WITH_T2), freedom)
    found: list[dict[str, str | float]] = []
    for pair in WITH_T2:
        each = differences(pair, both, column)
        mean, half = statistics.mean(each), quantile * math.sqrt(variance * 2 / len(each))
        found.append(
            {
                **dict(zip(("variant", "less"), pair, strict=True)),
                **{"difference": mean, "lower": mean - half, "upper": mean + half},
                "established": str(abs(mean) > half),
                "by_seed": " ".join(f"{value:.1f}" for value in each),
            }
        )
    return found


def pooled_variance(runs: list[Row], column: str) -> tuple[float, float]:
    """Of one run over seeds, the mean over variants; and its degrees of freedom."""
    names = dict.fromkeys(row["variant"] for row in runs)
    of_each, freedom = seed_variances(np.array([of_runs(runs, name, column) for name in names]))
    return float(of_each.mean()), freedom * len(names)


def verdict(row: Row, smallest: float) -> str:
    """What was said beforehand to follow from an interval."""
    low, high = float(row["lower"]), float(row["upper"])
    inside = -smallest <= low and high <= smallest
    if row["established"] == "True":
        return "established, and within the smallest effect" if inside else "established"
    return "equivalent" if inside else "undecided"


def adequate(runs: list[Row], pair: tuple[str, str]) -> str:
    """The gate: whether the better of two variants reaches the linear VAE of as many entries."""
    means = {
        name: tuple(
            statistics.mean(of_runs(runs, name, column))
            for column in (
                "test_elbo_at_optimal_variance_nats",
                "linear_vae_optimal_log_density_nats",
            )
        )
        for name in pair
    }
    elbo, linear = max(means.values())
    return "yes" if elbo >= linear else f"no: {elbo:,.0f} of {linear:,.0f} nats"


def gaps(runs: list[Row], endpoint: str) -> list[float]:
    """Of each run: training images less test images."""
    test = ENDPOINTS[endpoint][1]
    return [float(row[test.replace("test_", "train_", 1)]) - float(row[test]) for row in runs]
