"""Grids of the pictures of all variants, from the pictures.h5 of one run of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from svae.figures.grids import APART, GAP, Row, labelled_rows, sheet
from svae.jobs.hdf5 import File
from svae.report.png import save


def draw(
    variants: Sequence[str],
    pictures: Sequence[Path | str],
    reconstructions: Path | str,
    interpolations: Path | str,
    neighbours: Path | str,
    samples: Sequence[Path | str],
) -> None:
    """Write the three grids of all variants, and one of the samples of each, as PNGs.

    `pictures`: one file per variant, in this order, all of one data set.
    """
    runs = {variant: _read(path) for variant, path in zip(variants, pictures, strict=True)}
    title = runs[variants[0]]["title"]
    save(labelled_rows(_reconstructions(runs), f"{title}: reconstructions"), reconstructions)
    ends = f"{title}: from one test image to another, which are shown at the ends"
    save(labelled_rows(_interpolations(runs), ends), interpolations)
    nearest = f"{title}: samples above their nearest training images"
    save(labelled_rows(_neighbours(runs), nearest), neighbours)
    for (variant, run), target in zip(runs.items(), samples, strict=True):
        save(sheet(run["samples"], f"{title}: samples of {variant}"), target)


def _read(path: Path | str) -> dict[str, Any]:
    with File(path, "delete it and run snakemake again") as file:
        return {name: file[name][:] for name in file} | {"title": file.attrs["title"]}


def _reconstructions(runs: Mapping[str, dict[str, Any]]) -> list[Row]:
    first = next(iter(runs.values()))
    return [
        Row("test images", first["originals"], below=APART),
        *(Row(variant, run["reconstructions"]) for variant, run in runs.items()),
    ]


def _interpolations(runs: Mapping[str, dict[str, Any]]) -> list[Row]:
    """Extra space separates test images from decoded ones, and variants from each other."""
    rows = []
    for variant, run in runs.items():
        for ends, steps in zip(run["interpolated"], run["interpolations"], strict=True):
            images = np.concatenate([ends[:1], steps, ends[1:]])
            rows.append(Row("", images, ends_apart=True))
        first = len(rows) - len(run["interpolated"])
        rows[first] = rows[first]._replace(label=variant)
        rows[-1] = rows[-1]._replace(below=APART)
    return rows


def _neighbours(runs: Mapping[str, dict[str, Any]]) -> list[Row]:
    """Little space separates a sample and its neighbour."""
    return [
        row
        for variant, run in runs.items()
        for row in (
            Row(variant, run["samples"][: len(run["neighbours"])], below=GAP // 3),
            Row("nearest", run["neighbours"], below=APART),
        )
    ]
