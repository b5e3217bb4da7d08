"""Images of the user, prepared like those of the data set that a model was trained on."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from svae.datasets.catalogue import IMAGE_SUFFIXES, catalogue
from svae.datasets.formats.archives import members
from svae.datasets.formats.decoding import Recipe, prepare
from svae.datasets.readers import BrokenImage
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
    `shape`: (height, width, channel) that each must have after its preparation. UserError if an
    image is broken or of another shape, or if there is none.
    """
    if not Path(source).exists():
        raise UserError(f"export.images is {source}, but there is no such folder or archive")

    def wanted(name: str) -> bool:
        return suffix_of(name) in IMAGE_SUFFIXES

    (known,) = catalogue()["images"].files
    images: list[np.ndarray] = []
    names: list[str] = []
    found = False
    for name, content in members(source, wanted, known.limit):
        found = True
        images.append(_prepared(content, recipe, shape, f"{source}: image {name}"))
        names.append(name)
        if len(images) == _BLOCK:
            yield _block(images, names)
            images, names = [], []
    if images:
        yield _block(images, names)
    if not found:
        raise UserError(
            f"{source} contains no image; give export.images a folder or an archive with files "
            f"that end in {', '.join(IMAGE_SUFFIXES)}"
        )


def _block(images: list[np.ndarray], names: list[str]) -> Block:
    return Block(np.stack(images), names, [label_of(name) for name in names])


def _prepared(
    content: bytes | BrokenImage, recipe: Recipe, shape: tuple[int, int, int], name: str
) -> np.ndarray:
    try:
        if isinstance(content, BrokenImage):
            raise content
        image = prepare(content, recipe)
    except BrokenImage as problem:
        raise UserError(f"{name} cannot be used: {problem}; correct or remove it") from problem
    if image.shape != shape:
        raise UserError(
            f"{name} has {image.shape[0]}x{image.shape[1]} pixels after its preparation, but the "
            f"model takes {shape[0]}x{shape[1]}; crop or resize it, or remove it"
        )
    return image
