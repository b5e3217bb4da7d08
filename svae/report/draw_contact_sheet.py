"""The contact sheet of a store: images of every split, and how they were made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from svae.datasets.store import Store
from svae.figures.grids import contact_sheet

SHEET_PIXELS = 2400  # the width of a contact sheet that large images make narrower
ROWS = {"train": 3, "valid": 2, "test": 2}


def draw(store_path: Path | str, target: Path | str) -> None:
    """Write the contact sheet of a store, as a PNG."""
    splits = {}
    with Store(store_path) as store:
        title, caption = sheet_text(store.attributes, store.shape)
        columns = sheet_columns(store.shape[1])
        for split, rows in ROWS.items():
            images = store.split(split)
            chosen = evenly_spaced(len(images), rows * columns)
            splits[split] = np.stack([images[index] for index in chosen]), len(images)
    contact_sheet(splits, title, caption, columns, target)


def sheet_text(attributes: Mapping[str, Any], shape: tuple[int, int, int]) -> tuple[str, str]:
    """Title and caption of a contact sheet: what a store's images are, and how they were made.

    attributes: those of the store: title, crop, size and split_rule; where there are any, also
    options (choice by name), broken_images (how many were left out) and source_matches_official.
    shape: (height, width, channel) of an image, in pixels.
    """
    choices = {key: attributes[key] for key in ("crop", "size")} | (attributes.get("options") or {})
    made = ", ".join(
        f"{name}: {'none' if value is None else value}" for name, value in choices.items()
    )
    size = "x".join(map(str, shape))
    lines = [
        f"Split rule: {attributes['split_rule']}",
        "Shown are images at even distances from the first to the last of each split.",
    ]
    if broken := attributes.get("broken_images"):
        lines.append(f"Broken images left out: {broken:,}")
    official = attributes.get("source_matches_official")
    if official is not None:
        lines.append(f"The source files are {'' if official else 'NOT '}the official ones.")
    title = f"{attributes['title']}: {size} (height x width x channels); {made}"
    return title, "\n".join(lines)


def sheet_columns(width: int) -> int:
    """How many images of this width, in pixels, stand in a row of a contact sheet: 12, or fewer
    where they would make it much wider than a screen."""
    return min(12, max(2, SHEET_PIXELS // width))


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` of the indices 0 ... count - 1, rising, the first and the last among them."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
