"""The names and labels of the images in a store, which tie images and their latents to the source.

They are HDF5 data sets of UTF-8 text, `names/SPLIT` and `labels/SPLIT`, one entry per image of the
split in its order. The checksum of the images does not cover them. A store without them was
converted by an earlier version, or its source has none.
"""

from collections.abc import Sequence

from svae.datasets.store import Store

NAMES, LABELS = "names", "labels"  # groups of the file


def names(store: Store, split: str, rows: Sequence[int] | None = None) -> list[str] | None:
    """The names of images in the source, of these rows of a split or of all; None if the store has
    none."""
    return store.texts(f"{NAMES}/{split}", rows)


def labels(store: Store, split: str, rows: Sequence[int] | None = None) -> list[str] | None:
    """The labels of images, as text; "" for an image without one. None if the store has none."""
    return store.texts(f"{LABELS}/{split}", rows)
