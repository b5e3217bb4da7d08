"""Write the results of the study into docs/study.md, from the files in docs/study/.

    python studies/pages.py [--check]

Between `<!-- NAME -->` and `<!-- end of NAME -->` stands what follows from docs/study/NAME/, made
here and by nothing else; `studies/run.py` makes those files. --check writes nothing, and fails if
the page is not what the files say.
"""

import argparse
import json
import math
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import closed_form
import numpy as np
import prior_hole
import scipy.stats
from csv_files import read as rows
from csv_files import write
from matplotlib.lines import Line2D

from svae.figures.differences import Difference, paired_differences
from svae.figures.frame import framed
from svae.figures.style import sign
from svae.report.intervals import seed_variances

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


def paired_t_table(pairs: Sequence[tuple[str, str]], runs: list[Row], endpoint: str) -> list[str]:
    """A line for each exploratory comparison, with the interval of a paired t-test over seeds."""
    _, column, label, _ = ENDPOINTS[endpoint]
    lines = [
        f"| contrast | seeds | difference of {label} | 95 % interval, paired t | by seed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for pair in pairs:
        each, low, high = paired_t(pair, runs, column)
        name = f"{NAMES[pair]}: " if pair in NAMES else ""
        lines.append(
            f"| {name}`{pair[0]}` - `{pair[1]}` | {len(each)} | "
            f"{statistics.mean(each):+,.1f} | {low:+,.1f} to {high:+,.1f} | "
            f"{', '.join(f'{value:+,.0f}' for value in each)} |"
        )
    return lines


def paired_t(
    pair: tuple[str, str], runs: list[Row], column: str
) -> tuple[list[float], float, float]:
    """The differences of a column by seed, and the 95 % interval of their mean by a paired t-test."""
    first, second = (of_runs(runs, name, column) for name in pair)
    low, high = scipy.stats.ttest_rel(first, second).confidence_interval()
    return [a - b for a, b in zip(first, second, strict=True)], float(low), float(high)


def gap_table(runs: list[Row], endpoint: str) -> list[str]:
    """Training less test images, by the endpoint."""
    test = ENDPOINTS[endpoint][1]
    train = test.replace("test_", "train_", 1)
    lines = ["| variant | training | test | training less test | encoder parameters |"]
    lines.append("| --- | --- | --- | --- | --- |")
    for variant in dict.fromkeys(row["variant"] for row in runs):
        seen, new = (of_runs(runs, variant, key) for key in (train, test))
        gap = gaps([row for row in runs if row["variant"] == variant], endpoint)
        size = of_runs(runs, variant, "encoder_parameters")[0]
        cells = [spread(seen), spread(new), spread(gap), f"{size:,.0f}"]
        lines.append(f"| `{variant}` | " + " | ".join(cells) + " |")
    return lines


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


def differences_from_t2(runs: list[Row], endpoint: str) -> list[dict[str, str | float]]:
    """Differences from variants of T2 with the same seeds. Their variance over seeds is pooled over
    the variants of both tables; the intervals have Bonferroni's level for their number."""
    column = ENDPOINTS[endpoint][1]
    both = [*runs, *rows(STUDY / "t2/runs.csv")]
    variance, freedom = pooled_variance(both, column)
    quantile = scipy.stats.t.ppf(1 - 0.025 / len(WITH_T2), freedom)
    found: list[dict[str, str | float]] = []
    for pair in WITH_T2:
        first, second = (of_runs(both, name, column) for name in pair)
        each = [a - b for a, b in zip(first, second, strict=True)]
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


def with_t2_table(differences: list[Row], endpoint: str) -> list[str]:
    """A line for each of them."""
    _, column, label, smallest = ENDPOINTS[endpoint]
    lines = [
        f"| contrast with T2 | difference of {label} | interval that decides | by seed "
        "| smallest effect | verdict |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in differences:
        of_t2 = of_runs(rows(STUDY / "t2/runs.csv"), row["less"], column)
        least = smallest(statistics.mean(of_t2))
        each = (f"{float(value):+,.0f}" for value in row["by_seed"].split())
        lines.append(
            f"| `{row['variant']}` - `{row['less']}` | {float(row['difference']):+,.1f} | "
            f"{float(row['lower']):+,.1f} to {float(row['upper']):+,.1f} | "
            f"{', '.join(each)} | {least:.1f} | {verdict(row, least)} |"
        )
    return lines


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
    name, _, unit = label.partition(", ")
    measured = f"{name} of test images" + (f", {unit}" if unit else "")
    figure = paired_differences(differences, measured, table.upper())
    least = smallest(statistics.mean(of_runs(runs, chosen[0]["less"], column)))
    figure.axes[0].axvspan(-least, least, color="#4477aa", alpha=0.15, linewidth=0, zorder=0.5)
    figure.savefig(STUDY / table / "forest.png")


def points(
    runs: list[Row], x: list[float], y: list[float], labels: tuple[str, str], target: Path
) -> None:
    """One point for each run, with the colour and the sign of its variant; labels: of x and y."""
    variants = list(dict.fromkeys(row["variant"] for row in runs))
    styles = {name: {**sign(variants, name), "linestyle": "none"} for name in variants}
    keys = [Line2D([], [], label=name, **style) for name, style in styles.items()]
    across_name, up_name = (label.partition(", nats")[0] for label in labels)
    figure, axes = framed(keys, f"{up_name} against {across_name}")
    for row, across, up in zip(runs, x, y, strict=True):
        axes.plot([across], [up], **styles[row["variant"]])
    axes.set_xlabel(labels[0], fontsize=9)
    axes.set_ylabel(labels[1], fontsize=9)
    figure.savefig(target)


def gaps(runs: list[Row], endpoint: str) -> list[float]:
    """Of each run: training images less test images."""
    test = ENDPOINTS[endpoint][1]
    return [float(row[test.replace("test_", "train_", 1)]) - float(row[test]) for row in runs]


def point_figures(table: str, runs: list[Row], endpoint: str) -> None:
    """The gap against the size of the encoder, and the Parzen score against the bound."""
    label = ENDPOINTS[endpoint][2]
    sizes = [float(row["encoder_parameters"]) for row in runs]
    name, _, unit = label.partition(", ")
    gap = f"{name} of training images less that of test images" + (f", {unit}" if unit else "")
    names = ("encoder parameters", gap)
    points(runs, sizes, gaps(runs, endpoint), names, STUDY / table / "gap.png")
    keys = "importance_weighted_bound_nats", "log_likelihood_nats"
    scored = [row for row in runs if all(row.get(key) for key in keys)]
    if scored:
        bound, parzen = ([float(row[key]) for row in scored] for key in keys)
        names = ("importance-weighted bound, nats", "Parzen score, nats")
        points(scored, bound, parzen, names, STUDY / table / "parzen_against_bound.png")


def curves_section(table: str) -> str:
    """The Markdown of the rates and distortions: a row for each run, and one for each family."""
    folder = STUDY / table
    found = json.loads((folder / "rate_distortion.json").read_text(encoding="utf-8"))
    lines = ["| family | mean of ln D - ln D of PCA | ± over test images | by seed |"]
    lines.append("| --- | --- | --- | --- |")
    for family in found["families"]:
        if family["mean_log_ratio"] is None:
            lines.append(f"| `{family['name']}` | - | - | - |")
            continue
        seeds = ", ".join(f"{each:+.3f}" for each in family["mean_log_ratio_by_seed"])
        error = family["mean_log_ratio_standard_error_over_images"]
        lines.append(
            f"| `{family['name']}` | {family['mean_log_ratio']:+.3f} | {error:.3f} | {seeds} |"
        )
    lowest, highest = (found[f"{which}_common_rate_nats"] for which in ("lowest", "highest"))
    lines += [""]
    if lowest is not None:
        lines += [f"The rates that all families share: {lowest:,.0f} to {highest:,.0f} nats.", ""]
    lines += ["| run | rate (nats) | SSE | ln D - ln D of PCA | training images |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    for row in rows(folder / "rate_distortion.csv"):
        ratios = (
            f"{float(row[key]):+.3f}" if row[key] else "-"
            for key in ("test_log_ratio_to_linear_vae", "train_log_ratio_to_linear_vae")
        )
        lines.append(
            f"| `{row['variant']}` | {float(row['test_rate_nats']):,.1f} "
            f"| {float(row['test_sse']):,.1f} | {' | '.join(ratios)} |"
        )
    files = ", ".join(
        f"[{text}](study/{table}/rate_distortion.{kind})"
        for text, kind in (("runs", "csv"), ("families", "json"))
    )
    return "\n".join([*lines, "", f"{files}.", "", f"![Rates](study/{table}/rate_distortion.png)"])


def closed_form_section(table: str) -> str:
    """The linear VAEs, and the Parzen scores of samples that need no model, of both data sets."""
    lines = ["| data set | entries | w | active | SSE | KL (nats) | J | ELBO (nats) |"]
    lines.append("| --- |" + " --- |" * 7)
    for dataset in closed_form.DATASETS:
        for row in rows(STUDY / table / f"{dataset}.csv"):
            w = f"{float(row['w']):.3g}" + (", the best" if row["optimal"] == "True" else "")
            sse, kl, j, elbo = (float(row[key]) for key in ("sse", "kl_nats", "j", "elbo_nats"))
            lines.append(
                f"| {dataset} | {row['latent_entries']} | {w} | {row['active_entries']} | "
                f"{sse:,.1f} | {kl:,.1f} | {j:,.1f} | {elbo:,.1f} |"
            )
    lines += ["", "| data set | samples | number | Parzen score (nats) |", "| --- |" + " --- |" * 3]
    for dataset in closed_form.DATASETS:
        for row in rows(STUDY / table / f"{dataset}_rows.csv"):
            score, error = float(row["log_likelihood"]), float(row["standard_error"])
            lines.append(
                f"| {dataset} | {row['name']} | {int(row['n_samples']):,} | "
                f"{score:,.1f} ± {error:,.1f} |"
            )
    files = (
        f"[{dataset}{part}](study/{table}/{dataset}{part}.csv)"
        for dataset in closed_form.DATASETS
        for part in ("", "_rows")
    )
    return "\n".join([*lines, "", f"{', '.join(files)}."])


# What T4 compares: title, column of runs.csv, format.
OF_SAMPLES = (
    ("Parzen score, nats; higher is better", "log_likelihood_nats", ",.0f"),
    ("sliced Wasserstein distance", "sliced_wasserstein", ".2f"),
    ("Fréchet distance in EfficientNet-Lite0 features", "feature_frechet_distance", ",.0f"),
)


def samples_section(table: str) -> str:
    """A table for each measure of the samples: a row for each variant, a column for each cell that
    was run."""
    files = {cell: STUDY / table / cell / "runs.csv" for cell in prior_hole.CELLS}
    cells = {cell: rows(file) for cell, file in files.items() if file.exists()}
    lines = []
    for title, column, form in OF_SAMPLES:
        lines += [f"**{title}**", ""]
        lines.append("| variant | " + " | ".join(map(prior_hole.label, cells)) + " |")
        lines.append("| --- |" + " --- |" * len(cells))
        for variant in dict.fromkeys(row["variant"] for row in cells[prior_hole.T2_ITSELF]):
            shown = [spread(of_runs(runs, variant, column), form) for runs in cells.values()]
            lines.append(f"| `{variant}` | {' | '.join(shown)} |")
        lines.append("")
    differences = samples_differences(cells)
    lines += [*differences, ""] if differences else []
    return "\n".join([*lines, f"![Samples](study/{table}/prior_hole.png)"])


def samples_differences(cells: dict[str, list[Row]]) -> list[str]:
    """By each measure of the samples, maps less the same latent behind a dense map, in the cells
    that have several seeds."""
    pair = ("naive", "naive_dense")
    shown = {
        cell: runs
        for cell, runs in cells.items()
        if len(of_runs(runs, pair[1], OF_SAMPLES[0][1])) > 1
    }
    if not shown:
        return []
    lines = [
        f"Exploratory, not fixed beforehand: `{pair[0]}` - `{pair[1]}`, mean over seeds and 95 % "
        "interval, paired t",
        "",
        "| measure | " + " | ".join(map(prior_hole.label, shown)) + " |",
        "| --- |" + " --- |" * len(shown),
    ]
    for title, column, form in OF_SAMPLES:
        found = []
        for runs in shown.values():
            each, low, high = paired_t(pair, runs, column)
            numbers = (f"{value:+{form}}" for value in (statistics.mean(each), low, high))
            found.append("{} ({} to {})".format(*numbers))
        lines.append(f"| {title} | {' | '.join(found)} |")
    return lines


def more_seeds_section(table: str) -> str:
    """The contrasts of T2 over its seeds and those of a follow-up."""
    runs = [row for name in ("t2", table) for row in rows(STUDY / name / "runs.csv")]
    lines = paired_t_table((("naive", "naive_dense"), ("mvn", "naive")), runs, "elbo")
    return "\n".join([*lines, "", f"[runs](study/{table}/runs.csv), and those of T2."])


def more_epochs_section(table: str) -> str:
    """The same variant and seed with T2's epochs and with those of a follow-up."""
    _, column, label, _ = ENDPOINTS["elbo"]
    short, long = (rows(STUDY / name / "runs.csv") for name in ("t2", table))
    lines = [
        f"| variant | {label}, 18 epochs | 72 epochs | gain | linear VAE (nats) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in long:
        (before,) = (
            each for each in short if all(each[key] == row[key] for key in ("variant", "seed"))
        )
        old, new = float(before[column]), float(row[column])
        linear = float(before["linear_vae_optimal_log_density_nats"])
        lines.append(
            f"| `{row['variant']}` | {old:,.1f} | {new:,.1f} | {new - old:+,.1f} | {linear:,.1f} |"
        )
    return "\n".join([*lines, "", f"[runs](study/{table}/runs.csv)."])


# The tables that are not compared by an endpoint, of which e1 and e2 are exploratory.
SECTIONS = {
    "t0": closed_form_section,
    "t3": curves_section,
    "t4": samples_section,
    "e1": more_seeds_section,
    "e2": more_epochs_section,
}
# What is written last of a table.
LAST = {
    **dict.fromkeys(TABLES, "paired_differences.csv"),
    **{"t0": "celeba_rows.csv", "t4": "prior_hole.png"},
}


FURTHER_FIGURES = (
    ("Parzen score and bound", "parzen_against_bound"),
    ("Rate and distortion", "rate_distortion"),
    ("The first samples of seed 0", "comparison"),
)


def section(table: str, draw: bool) -> str:
    """The Markdown of one table of the study."""
    if table in SECTIONS:
        return SECTIONS[table](table)
    folder, endpoint = STUDY / table, TABLES[table]
    runs, pairs = (rows(folder / f"{name}.csv") for name in ("runs", "paired_differences"))
    if draw:
        point_figures(table, runs, endpoint)
        forest(table, pairs, runs, endpoint)
    further, others = folder / "differences_from_t2.csv", []
    if table == "t6":
        if draw:
            write(further, differences_from_t2(runs, endpoint))
        others = ["", *with_t2_table(rows(further), endpoint)]
    if table in EXPLORATORY:
        found = paired_t_table(EXPLORATORY[table], runs, endpoint)
        others = ["", "Exploratory, not fixed beforehand:", "", *found]
    shown = [
        f"![{text}](study/{table}/{name}.png)"
        for text, name in FURTHER_FIGURES
        if (folder / f"{name}.png").exists()
    ]
    return "\n".join(
        [
            *variants_table(runs),
            "",
            "Means over seeds ± their standard deviation; "
            f"[runs](study/{table}/runs.csv), "
            f"[differences](study/{table}/paired_differences.csv).",
            "",
            *contrasts_table(pairs, runs, endpoint),
            *others,
            "",
            f"![Contrasts of {table.upper()}](study/{table}/forest.png)",
            "",
            "*The band is the smallest effect of interest; small points are single seeds.*",
            "",
            *gap_table(runs, endpoint),
            "",
            f"![Gap](study/{table}/gap.png)",
            *(line for figure in shown for line in ("", figure)),
        ]
    )


def page(text: str, draw: bool) -> str:
    """The page with every section whose files exist."""
    for table in (*TABLES, *SECTIONS):
        if not (STUDY / table / LAST.get(table, "runs.csv")).exists():
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
