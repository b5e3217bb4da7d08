"""Write the results of the study into docs/study.md, from the files in docs/study/.

    python studies/pages.py [--check]

Between `<!-- NAME -->` and `<!-- end of NAME -->` stands what follows from docs/study/NAME/, made
here and by nothing else; `studies/run.py` makes those files. --check writes nothing, and fails if
the page is not what the files say.
"""

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

import closed_form
import prior_hole
from contrast_figures import forest, point_figures
from contrasts import (
    ENDPOINTS,
    EXPLORATORY,
    Row,
    differences,
    differences_from_t2,
    of_runs,
    paired_t,
)
from csv_files import read as rows
from csv_files import write
from markdown_tables import (
    contrasts_table,
    gap_table,
    header,
    paired_t_table,
    spread,
    variants_table,
    with_t2_table,
)

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "study.md"
STUDY = DOCS / "study"
TABLES = {"t1": "j", "t2": "elbo", "t5": "j", "t6": "elbo"}


def curves_section(table: str) -> str:
    """The Markdown of the rates and distortions: a row for each run, and one for each family."""
    folder = STUDY / table
    found = json.loads((folder / "rate_distortion.json").read_text(encoding="utf-8"))
    lines = header("family", "mean of ln D - ln D of PCA", "± over test images", "by seed")
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
    lines += header("run", "rate (nats)", "SSE", "ln D - ln D of PCA", "training images")
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
    lines = header("data set", "entries", "w", "active", "SSE", "KL (nats)", "J", "ELBO (nats)")
    for dataset in closed_form.DATASETS:
        for row in rows(STUDY / table / f"{dataset}.csv"):
            w = f"{float(row['w']):.3g}" + (", the best" if row["optimal"] == "True" else "")
            sse, kl, j, elbo = (float(row[key]) for key in ("sse", "kl_nats", "j", "elbo_nats"))
            lines.append(
                f"| {dataset} | {row['latent_entries']} | {w} | {row['active_entries']} | "
                f"{sse:,.1f} | {kl:,.1f} | {j:,.1f} | {elbo:,.1f} |"
            )
    lines += ["", *header("data set", "samples", "number", "Parzen score (nats)")]
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
        lines += [f"**{title}**", "", *header("variant", *map(prior_hole.label, cells))]
        for variant in dict.fromkeys(row["variant"] for row in cells[prior_hole.T2_ITSELF]):
            shown = [spread(of_runs(runs, variant, column), form) for runs in cells.values()]
            lines.append(f"| `{variant}` | {' | '.join(shown)} |")
        lines.append("")
    lines += samples_differences(cells)
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
        *header("measure", *map(prior_hole.label, shown)),
    ]
    for title, column, form in OF_SAMPLES:
        found = []
        for runs in shown.values():
            each = differences(pair, runs, column)
            numbers = (f"{value:+{form}}" for value in (statistics.mean(each), *paired_t(each)))
            found.append("{} ({} to {})".format(*numbers))
        lines.append(f"| {title} | {' | '.join(found)} |")
    return [*lines, ""]


def more_seeds_section(table: str) -> str:
    """The contrasts of T2 over its seeds and those of a follow-up."""
    runs = [row for name in ("t2", table) for row in rows(STUDY / name / "runs.csv")]
    lines = paired_t_table((("naive", "naive_dense"), ("mvn", "naive")), runs, "elbo")
    return "\n".join([*lines, "", f"[runs](study/{table}/runs.csv), and those of T2."])


def more_epochs_section(table: str) -> str:
    """The same variant and seed with T2's epochs and with those of a follow-up."""
    _, column, label, _ = ENDPOINTS["elbo"]
    short, long = (rows(STUDY / name / "runs.csv") for name in ("t2", table))
    lines = header(*("variant", f"{label}, 18 epochs", "72 epochs", "gain", "linear VAE (nats)"))
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
        point_figures(runs, endpoint, folder)
        forest(pairs, runs, endpoint, table.upper(), folder / "forest.png")
    further, others = folder / "differences_from_t2.csv", []
    if table == "t6":
        of_t2 = rows(STUDY / "t2/runs.csv")
        if draw:
            write(further, differences_from_t2(runs, of_t2, endpoint))
        others += ["", *with_t2_table(rows(further), of_t2, endpoint)]
    if table in EXPLORATORY:
        found = paired_t_table(EXPLORATORY[table], runs, endpoint)
        others += ["", "Exploratory, not fixed beforehand:", "", *found]
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
