"""The tables of docs/study.md that several sections have: lines of Markdown."""

import statistics
from collections.abc import Sequence

from contrasts import (
    ENDPOINTS,
    NAMES,
    Row,
    adequate,
    differences,
    gaps,
    of_runs,
    paired_t,
    verdict,
)

COLUMNS = (
    ("ELBO, test (nats)", "test_elbo_at_optimal_variance_nats"),
    ("J, test", "test_j"),
    ("bound with 64 latents (nats)", "importance_weighted_bound_nats"),
    ("effective sample size", "effective_sample_size"),
    ("SSE", "test_sse"),
    ("KL (nats)", "test_kl_nats"),
    ("linear VAE (nats)", "linear_vae_optimal_log_density_nats"),
)


def spread(values: list[float], form: str = ",.1f") -> str:
    """Mean ± standard deviation over seeds."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):{form}}"


def header(*labels: str) -> list[str]:
    """The first two lines of a table."""
    return [f"| {' | '.join(labels)} |", "|" + " --- |" * len(labels)]


def contrast(pair: tuple[str, str]) -> str:
    """A comparison, with its name if it was fixed beforehand."""
    name = f"{NAMES[pair]}: " if pair in NAMES else ""
    return f"{name}`{pair[0]}` - `{pair[1]}`"


def interval(mean: float, low: float, high: float) -> str:
    """Two cells: a difference, and its interval."""
    return f"{mean:+,.1f} | {low:+,.1f} to {high:+,.1f}"


def decided(row: Row) -> str:
    """`interval` of a row that has both."""
    return interval(*(float(row[key]) for key in ("difference", "lower", "upper")))


def variants_table(runs: list[Row]) -> list[str]:
    """A line for each variant: means over seeds ± their standard deviation."""
    columns = [(label, key) for label, key in COLUMNS if any(row.get(key) for row in runs)]
    lines = header("variant", *(label for label, _ in columns))
    for variant in dict.fromkeys(row["variant"] for row in runs):
        cells = [spread(of_runs(runs, variant, key)) for _, key in columns]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return lines


def contrasts_table(pairs: list[Row], runs: list[Row], endpoint: str) -> list[str]:
    """Every comparison by the endpoint, with the interval that decides it."""
    measure, column, label, smallest = ENDPOINTS[endpoint]
    lines = header(
        *("contrast", f"difference of {label}", "interval that decides", "p (Holm)"),
        *("smallest effect", "verdict", "better variant reaches the linear VAE"),
    )
    for row in pairs:
        if row["measure"] != measure:
            continue
        pair = row["variant"], row["less"]
        least = smallest(statistics.mean(of_runs(runs, pair[1], column)))
        lines.append(
            f"| {contrast(pair)} | {decided(row)} | "
            f"{float(row['p_holm']):.2g} | {least:.1f} | {verdict(row, least)} | "
            f"{adequate(runs, pair)} |"
        )
    return lines


def paired_t_table(pairs: Sequence[tuple[str, str]], runs: list[Row], endpoint: str) -> list[str]:
    """A line for each exploratory comparison, with the interval of a paired t-test over seeds."""
    _, column, label, _ = ENDPOINTS[endpoint]
    lines = header(
        *("contrast", "seeds", f"difference of {label}", "95 % interval, paired t", "by seed")
    )
    for pair in pairs:
        each = differences(pair, runs, column)
        lines.append(
            f"| {contrast(pair)} | {len(each)} | "
            f"{interval(statistics.mean(each), *paired_t(each))} | "
            f"{', '.join(f'{value:+,.0f}' for value in each)} |"
        )
    return lines


def with_t2_table(found: list[Row], of_t2: list[Row], endpoint: str) -> list[str]:
    """A line for each difference from a variant of T2."""
    _, column, label, smallest = ENDPOINTS[endpoint]
    lines = header(
        *("contrast with T2", f"difference of {label}", "interval that decides"),
        *("by seed", "smallest effect", "verdict"),
    )
    for row in found:
        least = smallest(statistics.mean(of_runs(of_t2, row["less"], column)))
        each = (f"{float(value):+,.0f}" for value in row["by_seed"].split())
        lines.append(
            f"| {contrast((row['variant'], row['less']))} | {decided(row)} | "
            f"{', '.join(each)} | {least:.1f} | {verdict(row, least)} |"
        )
    return lines


def gap_table(runs: list[Row], endpoint: str) -> list[str]:
    """Training less test images, by the endpoint."""
    test = ENDPOINTS[endpoint][1]
    train = test.replace("test_", "train_", 1)
    lines = header("variant", "training", "test", "training less test", "encoder parameters")
    for variant in dict.fromkeys(row["variant"] for row in runs):
        seen, new = (of_runs(runs, variant, key) for key in (train, test))
        gap = gaps([row for row in runs if row["variant"] == variant], endpoint)
        size = of_runs(runs, variant, "encoder_parameters")[0]
        cells = [spread(seen), spread(new), spread(gap), f"{size:,.0f}"]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return lines
