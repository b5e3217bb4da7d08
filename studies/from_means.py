"""Write the differences of a table whose values of single images are lost, from means of runs.

    python studies/from_means.py docs/study/TABLE [--single OUTPUTS]

runs.csv has the mean of each run, but not how far the difference of two runs depends on the choice
of test images. That error comes from image_errors.csv, which --single writes: for each measure and
comparison, from one run of each variant in OUTPUTS, such as study/t5, that has its values of single
images. The error over images of a mean over seeds is at most that of one seed. A comparison without
such runs has the error of two independent means, although both see the same images. So the
intervals of paired_differences.csv are rather too wide. Everything else is as in
svae/report/intervals.py. means.csv has the means of runs.csv over the seeds that have the number.
"""

import argparse
import contextlib
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from csv_files import read, write

from svae.jobs.files import read_npz
from svae.report.intervals import ALPHA, half_width, holm, p_values, standard_errors

HERE = Path(__file__).parent
# Measure, its column of runs.csv, its unit.
MEASURES = (
    ("objective.j", "test_j", ""),
    ("objective.elbo", "test_elbo_at_optimal_variance_nats", "nats"),
    ("objective.sse", "test_sse", ""),
    ("objective.kl", "test_kl_nats", "nats"),
)
Pair = tuple[str, str]


def image_errors(outputs: Path, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The standard error over images of each measure and comparison, from the first seed of each
    variant; comparisons of which a run has no values are left out."""
    found = {}
    for path in sorted(outputs.glob("runs/*/*/seed-*/scores/objective_per_image.npz")):
        found.setdefault(path.parents[2].name, read_npz(path))
    return [
        {
            "measure": measure,
            "variant": first,
            "less": second,
            "images": len(values := found[first][name] - found[second][name]),
            "standard_error_over_images": values.std(ddof=1) / math.sqrt(len(values)),
        }
        for measure, _, _ in MEASURES
        for first, second in pairs
        if first in found and second in found
        for name in [measure.partition(".")[2]]
    ]


def differences(
    means: Mapping[str, Sequence[float]], errors: Mapping[Pair, float], n_images: int
) -> list[dict[str, Any]]:
    """A row for each comparison of one measure, as in paired_differences.csv.

    means: variant -> its means over images, by seed; errors: comparison -> standard error over
    images.
    """
    names, pairs = list(means), list(errors)
    numbers = np.array([[names.index(name) for name in pair] for pair in pairs])
    images = np.array([errors[pair] for pair in pairs])
    found = standard_errors(np.array(list(means.values())), numbers, images**2, n_images)
    difference = np.array([statistics.mean(means[a]) - statistics.mean(means[b]) for a, b in pairs])
    p = p_values(difference, found)
    p_holm, levels = holm(p, len(pairs))
    half = half_width(found, levels)
    return [
        {
            "variant": pair[0],
            "less": pair[1],
            "difference": difference[i],
            "standard_error_over_images": images[i],
            "standard_error_over_seeds": found.error_over_seeds[i],
            "standard_error": found.standard_error[i],
            "degrees_of_freedom": found.degrees_of_freedom[i],
            "p": p[i],
            "p_holm": p_holm[i],
            "lower": difference[i] - half[i],
            "upper": difference[i] + half[i],
            "established": p_holm[i] <= ALPHA,
        }
        for i, pair in enumerate(pairs)
    ]


def table(folder: Path, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The rows of all measures, from runs.csv and, where it is there, image_errors.csv."""
    runs = sorted(read(folder / "runs.csv"), key=lambda row: int(row["seed"]))
    single = folder / "image_errors.csv"
    known = {
        (row["measure"], row["variant"], row["less"]): float(row["standard_error_over_images"])
        for row in (read(single) if single.exists() else [])
    }
    rows = []
    for measure, column, unit in MEASURES:
        means: dict[str, list[float]] = {}
        own: dict[str, float] = {}
        for row in runs:
            means.setdefault(row["variant"], []).append(float(row[column]))
            own.setdefault(row["variant"], float(row[error_of(column)]))
        errors = {(a, b): known.get((measure, a, b), math.hypot(own[a], own[b])) for a, b in pairs}
        found = differences(means, errors, int(runs[0]["n_test"]))
        rows += [{"measure": measure, "unit": unit, **row} for row in found]
    return rows


def means_of_seeds(runs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
    """A row for each variant: the mean of each number over the seeds that have it."""
    rows = []
    for variant in dict.fromkeys(row["variant"] for row in runs):
        row: dict[str, Any] = {"variant": variant}
        for column in runs[0]:
            cells = [each[column] for each in runs if each["variant"] == variant and each[column]]
            with contextlib.suppress(ValueError):  # not a number
                row[column] = statistics.mean(map(float, cells)) if cells else None
        rows.append({key: value for key, value in row.items() if key != "seed"})
    return rows


def error_of(column: str) -> str:
    """The column of the standard error over images: the unit stays last."""
    return f"{column.removesuffix('_nats')}_standard_error{'_nats' * column.endswith('_nats')}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--single", type=Path)
    given = parser.parse_args()
    own = yaml.safe_load((HERE / f"{given.folder.name}.yaml").read_text(encoding="utf-8"))
    pairs = [(first, second) for first, second in own["comparisons"]]
    if given.single:
        write(given.folder / "image_errors.csv", image_errors(given.single, pairs))
    write(given.folder / "paired_differences.csv", table(given.folder, pairs))
    write(given.folder / "means.csv", means_of_seeds(read(given.folder / "runs.csv")))


if __name__ == "__main__":
    main()
