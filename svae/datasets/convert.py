"""From a data set's source files to its store."""

import importlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from svae.datasets import store
from svae.datasets.catalogue import Dataset, SourceFile, catalogue
from svae.errors import UserError
from svae.files import file_hash
from svae.provenance import software

log = logging.getLogger(__name__)


def convert(
    dataset: str,
    files: Mapping[str, Path | str],
    sha256: Mapping[str, str] | None,
    output: Path | str,
    crop: int | None = None,
    size: int | None = None,
) -> dict[str, Any]:
    """Read a data set from its source files and write its store to `output`.

    Args:
        dataset: a name in sources.yaml; the module of that name here reads it.
        files: path of each source file by role.
        sha256: by role, the checksum (hexadecimal) that the user gave for a file of theirs.
        output: the HDF5 file to write, whole or not at all.
        crop: side in pixels of a centred square to cut out first.
        size: side in pixels that the (square) image is then resized to, by Pillow's antialiased
            Lanczos filter.

    Returns:
        The attributes of the store: dataset, title, source_files and source_sha256 (by role),
        source_matches_official, source_note, crop, size, padding (0 after a crop or a resize),
        split_rule, software, counts and checksum.

    Raises:
        UserError: an unknown data set, a source file that is missing, unreadable or not the one
            whose checksum was given, a crop that does not fit, or a split without images.
    """
    entries = catalogue()
    if dataset not in entries:
        raise UserError(
            f"dataset: there is no data set {dataset!r}; choose one of {', '.join(entries)}."
        )
    entry = entries[dataset]
    sha256 = sha256 or {}
    unknown = {*files, *sha256} - {source.role for source in entry.files}
    if unknown:
        raise UserError(
            f"sources.{dataset}: this data set takes no file called {', '.join(sorted(unknown))}; "
            "leave it out."
        )
    files = _existing(entry, files)
    hashes = {role: file_hash(path) for role, path in files.items()}
    for role, given in sha256.items():
        if hashes[role] != given.lower():
            raise UserError(
                f"{files[role]} has the SHA256 {hashes[role]}, but config.yaml gives {given} under "
                f"`sources.{dataset}`: give the right file, or correct the checksum."
            )
    notes = []
    for source in entry.files:
        path = files[source.role]
        official = (source, *source.alternatives)
        if not any(_matches(known, path, hashes[source.role]) for known in official):
            notes.append(
                f"{path.name} differs by checksum from the published "
                f"{' and '.join(known.name for known in official)}: scores need not compare with "
                "those of other work"
            )
            log.warning("%s: %s", path, notes[-1])

    reader = importlib.import_module(f"svae.datasets.{dataset}")
    splits = reader.read(files)
    return store.write(
        output,
        {split: _prepared(images, dataset, crop, size) for split, images in splits.items()},
        {
            "dataset": dataset,
            "title": entry.title,
            "source_files": {role: path.name for role, path in files.items()},
            "source_sha256": hashes,
            "source_matches_official": not notes,
            "source_note": "; ".join(notes),
            "crop": crop,
            "size": size,
            "padding": entry.padding if crop is None and size is None else 0,
            "split_rule": reader.SPLIT_RULE,
            "software": software("numpy", "h5py", "pillow"),
        },
    )


def _existing(entry: Dataset, files: Mapping[str, Path | str]) -> dict[str, Path]:
    """The source file of every role; a UserError names the key of one that is missing."""
    paths = {}
    for source in entry.files:
        key = f"sources.{entry.name}.{source.role}"
        if source.role not in files:
            raise UserError(f"{key}: no file is given for {source.name}; give its path there.")
        paths[source.role] = Path(files[source.role])
        if not paths[source.role].is_file():
            raise UserError(
                f"{key}: there is no file {paths[source.role]}; correct the path, or leave the key "
                f"out to have {source.name} fetched."
            )
    return paths


def _matches(known: SourceFile, path: Path, sha256: str) -> bool:
    if known.sha256:
        return known.sha256 == sha256
    return known.md5 == file_hash(path, "md5")


def _prepared(
    images: np.ndarray, dataset: str, crop: int | None, size: int | None
) -> Iterator[np.ndarray]:
    """The images, each uint8 (height, width, channel), one by one, cropped and resized."""
    for image in images:
        if crop is not None:
            image = _centre(image, dataset, crop)
        if size is not None:
            image = _resized(image, dataset, size)
        yield image


def _centre(image: np.ndarray, dataset: str, crop: int) -> np.ndarray:
    height, width, _ = image.shape
    if not 1 <= crop <= min(height, width):
        raise UserError(
            f"conversion.crop is {crop}, but {dataset} has {height}x{width} images; give 1 to "
            f"{min(height, width)}"
        )
    top, left = (height - crop) // 2, (width - crop) // 2
    return image[top : top + crop, left : left + crop]


def _resized(image: np.ndarray, dataset: str, size: int) -> np.ndarray:
    height, width, channels = image.shape
    if height != width:
        raise UserError(
            f"conversion.size: {dataset}'s images of {height}x{width} are not square, and resizing "
            f"would distort them; give conversion.crop of at most {min(height, width)} too"
        )
    resizable = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = np.asarray(resizable.resize((size, size), Image.Resampling.LANCZOS))
    return resized.reshape(size, size, channels)
