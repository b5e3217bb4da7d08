"""Write the results of the study into docs/study.md, from the files in docs/study/.

    python studies/pages.py [--check]

Between `<!-- NAME -->` and `<!-- end of NAME -->` stands what follows from docs/study/NAME/, made
here and by nothing else; `studies/run.py` makes those files. --check writes nothing, and fails if
the page is not what the files say.
"""

import argparse
import csv
import re
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

from svae.figures.differences import Difference, paired_differences

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "study.md"
STUDY = DOCS / "study"

Row = dict[str, str]

# The endpoint of each table: measure of paired_differences.csv, column of runs.csv, what it is, and
# the smallest effect of interest, from the value of the variant that is compared with.
ENDPOINTS: dict[str, tuple[str, str, str, Callable[[float], float]]] = {
    "elbo": ("objective.elbo", "test_elbo_at_optimal_variance_nats", "ELBO, nats", lambda _: 15.0),
    "j": ("objective.j", "test_j", "J", lambda j: 0.01 * j),
}
TABLES = {"t1": "j", "t2": "elbo", "t5": "j", "t6": "elbo"}
NAMES = {
    ("naive", "naive_dense"): "C1",
    ("mvn", "naive"): "C2",
    ("low_rank", "mvn"): "C3",
    ("low_rank", "low_rank_permuted"): "C4",
}


def rows(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def of_runs(runs: list[Row], variant: str, column: str) -> list[float]:
    """The values of a column for the seeds of a variant, in order."""
    chosen = sorted(
        (row for row in runs if row["variant"] == variant), key=lambda r: int(r["seed"])
    )
    return [float(row[column]) for row in chosen if row.get(column)]


def spread(values: list[float], form: str = ",.1f") -> str:
    """Mean ± standard deviation over seeds."""
    if not values:
        return "-"
    mean = f"{statistics.mean(values):{form}}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):{form}}"


COLUMNS = (
    ("ELBO, test (nats)", "test_elbo_at_optimal_variance_nats"),
    ("J, test", "test_j"),
    ("bound with 64 latents (nats)", "importance_weighted_bound_nats"),
    ("effective sample size", "effective_sample_size"),
    ("SSE", "test_sse"),
    ("KL (nats)", "test_kl_nats"),
    ("linear VAE (nats)", "linear_vae_optimal_log_density_nats"),
)


def variants_table(runs: list[Row]) -> list[str]:
    """A line for each variant: means over seeds ± their standard deviation."""
    columns = [(label, key) for label, key in COLUMNS if any(row.get(key) for row in runs)]
    lines = ["| variant | " + " | ".join(label for label, _ in columns) + " |"]
    lines.append("| --- |" + " --- |" * len(columns))
    for variant in dict.fromkeys(row["variant"] for row in runs):
        cells = [spread(of_runs(runs, variant, key)) for _, key in columns]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return lines


def gap_table(runs: list[Row], endpoint: str) -> list[str]:
    """Training less test images, by the endpoint."""
    test = ENDPOINTS[endpoint][1]
    train = test.replace("test_", "train_", 1)
    lines = ["| variant | training | test | training less test | encoder parameters |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for variant in dict.fromkeys(row["variant"] for row in runs):
        seen, new = (of_runs(runs, variant, key) for key in (train, test))
        gap = [a - b for a, b in zip(seen, new, strict=True)]
        size = of_runs(runs, variant, "encoder_parameters")[0]
        cells = [spread(seen), spread(new), spread(gap), f"{size:,.0f}"]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return lines


def verdict(row: Row, smallest: float) -> str:
    """What was said beforehand to follow from an interval."""
    low, high = float(row["lower"]), float(row["upper"])
    inside = -smallest <= low and high <= smallest
    if row["established"] == "True":
        return "established, and within the smallest effect" if inside else "established"
    return "equivalent" if inside else "undecided"


def contrasts_table(pairs: list[Row], runs: list[Row], endpoint: str) -> list[str]:
    """Every comparison by the endpoint, with the interval that decides it."""
    measure, column, label, smallest = ENDPOINTS[endpoint]
    lines = [
        f"| contrast | difference of {label} | interval that decides | p (Holm) "
        "| smallest effect | verdict | better variant reaches the linear VAE |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in pairs:
        if row["measure"] != measure:
            continue
        pair = row["variant"], row["less"]
        name = f"{NAMES[pair]}: " if pair in NAMES else ""
        least = smallest(statistics.mean(of_runs(runs, pair[1], column)))
        lines.append(
            f"| {name}`{pair[0]}` - `{pair[1]}` | {float(row['difference']):+,.1f} | "
            f"{float(row['lower']):+,.1f} to {float(row['upper']):+,.1f} | "
            f"{float(row['p_holm']):.2g} | {least:.1f} | {verdict(row, least)} | "
            f"{adequate(runs, pair)} |"
        )
    return lines


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


def forest(table: str, pairs: list[Row], runs: list[Row], endpoint: str) -> None:
    """A row for each contrast, with the band of the smallest effect."""
    measure, column, label, smallest = ENDPOINTS[endpoint]
    chosen = [row for row in pairs if row["measure"] == measure]
    if not chosen:
        return
    differences = []
    for row in chosen:
        first, second = (of_runs(runs, row[key], column) for key in ("variant", "less"))
        name = NAMES.get((row["variant"], row["less"]))
        differences.append(
            Difference(
                f"{name}: {row['variant']}" if name else row["variant"],
                row["less"],
                float(row["difference"]),
                (float(row["lower"]), float(row["upper"])),
                [a - b for a, b in zip(first, second, strict=True)],
                row["established"] == "True",
            )
        )
    figure = paired_differences(differences, f"{label} of test images", table.upper())
    least = smallest(statistics.mean(of_runs(runs, chosen[0]["less"], column)))
    figure.axes[0].axvspan(-least, least, color="#4477aa", alpha=0.15, linewidth=0, zorder=0.5)
    figure.savefig(STUDY / table / "forest.png")


def section(table: str, draw: bool) -> str:
    """The Markdown of one table of the study."""
    folder, endpoint = STUDY / table, TABLES[table]
    runs, pairs = rows(folder / "runs.csv"), rows(folder / "paired_differences.csv")
    if draw:
        forest(table, pairs, runs, endpoint)
    files = f"[runs](study/{table}/runs.csv), [differences](study/{table}/paired_differences.csv)"
    return "\n".join(
        [
            *variants_table(runs),
            "",
            f"Means over seeds ± their standard deviation; {files}.",
            "",
            *contrasts_table(pairs, runs, endpoint),
            "",
            f"![Contrasts of {table.upper()}](study/{table}/forest.png)",
            "",
            "*The band is the smallest effect of interest; small points are single seeds.*",
            "",
            *gap_table(runs, endpoint),
        ]
    )


def page(text: str, draw: bool) -> str:
    """The page with every section whose files exist."""
    for table in TABLES:
        if not (STUDY / table / "runs.csv").exists():
            continue
        begin, end = f"<!-- {table} -->", f"<!-- end of {table} -->"
        pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        if not pattern.search(text):
            sys.exit(f"Error: {PAGE} has no place for {table}: add {begin} and {end}")
        content = f"{begin}\n{section(table, draw)}\n{end}"
        text = pattern.sub(lambda _, content=content: content, text)
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    before = PAGE.read_text(encoding="utf-8")
    after = page(before, draw=not check)
    if check and after != before:
        sys.exit(f"Error: {PAGE} differs from docs/study/: run python studies/pages.py")
    if not check:
        PAGE.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
