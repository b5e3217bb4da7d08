"""The contact sheet of a store: images of every split, and how they were prepared."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from svae.datasets.store import Store, part_in_words, unread_in_words
from svae.figures.grids import contact_sheet
from svae.report.png import save

log = logging.getLogger(__name__)

SHEET_PIXELS = 2400  # approximate width of a contact sheet of large images
ROWS = {"train": 3, "valid": 2, "test": 2}


def draw(store_path: Path | str, target: Path | str) -> None:
    """Write the contact sheet of a store, as a PNG."""
    splits = {}
    with Store(store_path) as store:
        title, caption = sheet_text(store.attributes, store.shape)
        columns = sheet_columns(store.shape[1])
        for split, rows in ROWS.items():
            images = store.split(split)
            if all_equal(images):
                warning = f"all {len(images):,} images of {split} are equal"
                log.warning("%s: %s; check the source and its reader", store_path, warning)
                caption += f"\nWARNING: {warning}."
            chosen = evenly_spaced(len(images), rows * columns)
            splits[split] = np.stack([images[index] for index in chosen]), len(images)
    save(contact_sheet(splits, title, caption, columns), target)


def all_equal(images: h5py.Dataset) -> bool:
    """Whether all images of a split are the same, such as black ones by a mistake in a reader."""
    block = images.chunks[0] if images.chunks else 1
    first = images[:1]
    starts = range(0, len(images), block)
    return all((images[start : start + block] == first).all() for start in starts)


def sheet_text(attributes: Mapping[str, Any], shape: tuple[int, int, int]) -> tuple[str, str]:
    """Return title and caption of a contact sheet: which images, and how they were prepared.

    attributes: those of the store: title, crop, size and split_rule; if present, also options
    (choice by name), broken_images (number skipped), unread_files (number by suffix),
    max_images with images_in_source, and source_matches_official.
    shape: (height, width, channel) of an image, in pixels.
    """
    choices = {key: attributes[key] for key in ("crop", "size")} | (attributes.get("options") or {})
    made = ", ".join(
        f"{name}: {'none' if value is None else value}" for name, value in choices.items()
    )
    size = "x".join(map(str, shape))
    lines = [
        f"Split rule: {attributes['split_rule']}",
        "Shown are evenly spaced images from the first to the last of each split.",
    ]
    if attributes.get("max_images"):
        lines.append(f"Chosen by the hash of their names: {part_in_words(attributes)}.")
    if broken := attributes.get("broken_images"):
        lines.append(f"Broken images skipped: {broken:,}")
    if unread := attributes.get("unread_files"):
        lines.append(f"Files of formats that are not read: {unread_in_words(unread)}")
    official = attributes.get("source_matches_official")
    if official is not None:
        lines.append(f"The source files are {'' if official else 'NOT '}the official ones.")
    title = f"{attributes['title']}: {size} (height x width x channels); {made}"
    return title, "\n".join(lines)


def sheet_columns(width: int) -> int:
    """Return the number of images per row, for images of this width in pixels.

    It is 12, or fewer if the sheet would become much wider than a screen.
    """
    return min(12, max(2, SHEET_PIXELS // width))


def evenly_spaced(count: int, most: int) -> list[int]:
    """Return at most `most` of the indices 0 ... count - 1, ascending, with the first and last."""
    return np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()
