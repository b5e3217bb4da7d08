"""Grids of the pictures of all variants, from the pictures.h5 of a run of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from svae.figures.grids import labelled_rows, sheet


def draw(
    variants: Sequence[str],
    pictures: Sequence[Path | str],
    reconstructions: Path | str,
    interpolations: Path | str,
    neighbours: Path | str,
    samples: Sequence[Path | str],
) -> None:
    """Write the three grids of all variants, and one of the samples of each, as PNGs.

    `pictures`: in the order of the variants, of one data set.
    """
    runs = {variant: _read(path) for variant, path in zip(variants, pictures, strict=True)}
    title = runs[variants[0]]["title"]
    labelled_rows(_reconstructions(runs), f"{title}: reconstructions", reconstructions)
    labelled_rows(
        _interpolations(runs),
        f"{title}: from one test image to another; both stand at the ends",
        interpolations,
    )
    labelled_rows(
        _neighbours(runs), f"{title}: samples over their nearest training images", neighbours
    )
    for (variant, run), target in zip(runs.items(), samples, strict=True):
        sheet(run["samples"], f"{title}: samples of {variant}", target)


def _read(path: Path | str) -> dict[str, Any]:
    with h5py.File(path) as file:
        return {name: file[name][:] for name in file} | {"title": file.attrs["title"]}


def _reconstructions(runs: Mapping[str, dict[str, Any]]) -> list[tuple[str, np.ndarray]]:
    first = next(iter(runs.values()))
    return [
        ("test images", first["originals"]),
        *((variant, run["reconstructions"]) for variant, run in runs.items()),
    ]


def _interpolations(runs: Mapping[str, dict[str, Any]]) -> list[tuple[str, np.ndarray]]:
    """The name of a variant stands beside its first row."""
    return [
        (variant if row == 0 else "", np.concatenate([ends[:1], steps, ends[1:]]))
        for variant, run in runs.items()
        for row, (ends, steps) in enumerate(
            zip(run["interpolated"], run["interpolations"], strict=True)
        )
    ]


def _neighbours(runs: Mapping[str, dict[str, Any]]) -> list[tuple[str, np.ndarray]]:
    return [
        row
        for variant, run in runs.items()
        for row in (
            (variant, run["samples"][: len(run["neighbours"])]),
            ("nearest", run["neighbours"]),
        )
    ]
