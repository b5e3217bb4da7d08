"""Images of the user, prepared like those of the data set that a model was trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from svae.datasets.catalogue import IMAGE_SUFFIXES, catalogue
from svae.datasets.formats.archives import members
from svae.datasets.formats.decoding import Recipe, prepare
from svae.datasets.readers import MOST_LISTED, BrokenImage, all_broken
from svae.datasets.readers.images import label_of
from svae.datasets.store import Store
from svae.errors import UserError
from svae.jobs.folders import suffix_of

_BLOCK = 100  # images


class Block(NamedTuple):
    """Some images, uint8 (n, height, width, channel), with the name and the label of each.

    None: the source has no names, or no labels. A label of "" is that of an image without one.
    """

    images: np.ndarray
    names: list[str] | None
    labels: list[str] | None


def recipe_of(store: Store) -> Recipe:
    """How the images of a store were prepared; if they were used as they are, the largest centred
    square is resized to their size."""
    crop, size = store.attributes["crop"], store.attributes["size"]
    height, width, channels = store.shape
    if crop is None and size is None and height == width:
        crop, size = "square", height
    return Recipe(crop, size, channels)


def own_images(source: Path | str, recipe: Recipe, shape: tuple[int, int, int]) -> Iterator[Block]:
    """Yield the images of a folder, a zip or a tar archive.

    Names are paths inside it, and labels the folders that contain the images.
    `shape`: (height, width, channel) that each must have after its preparation. UserError if
    images are broken or of another shape, with all of them, or if there is none.
    """
    if not Path(source).exists():
        raise UserError(f"export.images is {source}, but there is no such folder or archive")

    def wanted(name: str) -> bool:
        return suffix_of(name) in IMAGE_SUFFIXES

    (known,) = catalogue()["images"].files
    images: list[np.ndarray] = []
    names: list[str] = []
    broken: list[tuple[str, str]] = []
    found = False
    for name, content in members(source, wanted, known.limit):
        found = True
        try:
            images.append(_prepared(content, recipe, shape))
        except BrokenImage as problem:
            broken.append((name, str(problem)))
            if len(broken) == MOST_LISTED:
                break
            continue
        names.append(name)
        if len(images) == _BLOCK:
            yield _block(images, names)
            images, names = [], []
    if images:
        yield _block(images, names)
    if broken:
        raise all_broken(str(source), broken, "Correct or remove what is listed.")
    if not found:
        raise UserError(
            f"{source} contains no image; give export.images a folder or an archive with files "
            f"that end in {', '.join(IMAGE_SUFFIXES)}"
        )


def _block(images: list[np.ndarray], names: list[str]) -> Block:
    return Block(np.stack(images), names, [label_of(name) for name in names])


def _prepared(
    content: bytes | BrokenImage, recipe: Recipe, shape: tuple[int, int, int]
) -> np.ndarray:
    """The image; BrokenImage if it cannot be used."""
    if isinstance(content, BrokenImage):
        raise content
    image = prepare(content, recipe)
    if image.shape != shape:
        raise BrokenImage(
            f"{image.shape[0]}x{image.shape[1]} pixels after its preparation, but the model takes "
            f"{shape[0]}x{shape[1]}; crop or resize it"
        )
    return image
