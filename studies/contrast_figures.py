"""The figures of docs/study.md that are made here: contrasts, and a point for each run."""

import statistics
from pathlib import Path

from contrasts import ENDPOINTS, NAMES, Row, differences, gaps, of_runs
from matplotlib.lines import Line2D

from svae.figures.differences import Difference, paired_differences
from svae.figures.frame import framed
from svae.figures.style import sign


def forest(pairs: list[Row], runs: list[Row], endpoint: str, title: str, target: Path) -> None:
    """A row for each contrast, with the band of the smallest effect."""
    measure, column, label, smallest = ENDPOINTS[endpoint]
    chosen = [row for row in pairs if row["measure"] == measure]
    if not chosen:
        return
    shown = []
    for row in chosen:
        pair = row["variant"], row["less"]
        name = NAMES.get(pair)
        shown.append(
            Difference(
                f"{name}: {pair[0]}" if name else pair[0],
                pair[1],
                float(row["difference"]),
                (float(row["lower"]), float(row["upper"])),
                differences(pair, runs, column),
                row["established"] == "True",
            )
        )
    name, _, unit = label.partition(", ")
    measured = f"{name} of test images" + (f", {unit}" if unit else "")
    figure = paired_differences(shown, measured, title)
    least = smallest(statistics.mean(of_runs(runs, chosen[0]["less"], column)))
    figure.axes[0].axvspan(-least, least, color="#4477aa", alpha=0.15, linewidth=0, zorder=0.5)
    figure.savefig(target)


def point_figures(runs: list[Row], endpoint: str, folder: Path) -> None:
    """The gap against the size of the encoder, and the Parzen score against the bound."""
    label = ENDPOINTS[endpoint][2]
    sizes = [float(row["encoder_parameters"]) for row in runs]
    name, _, unit = label.partition(", ")
    gap = f"{name} of training images less that of test images" + (f", {unit}" if unit else "")
    names = ("encoder parameters", gap)
    points(runs, sizes, gaps(runs, endpoint), names, folder / "gap.png")
    keys = "importance_weighted_bound_nats", "log_likelihood_nats"
    scored = [row for row in runs if all(row.get(key) for key in keys)]
    if scored:
        bound, parzen = ([float(row[key]) for row in scored] for key in keys)
        names = ("importance-weighted bound, nats", "Parzen score, nats")
        points(scored, bound, parzen, names, folder / "parzen_against_bound.png")


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
