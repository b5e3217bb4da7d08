"""The part of a configuration that concerns the data: sources, conversion, images to export.

Imported by the Snakefile: no TensorFlow, h5py or NumPy.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from svae.config.check import shown
from svae.datasets.catalogue import Dataset, SourceFile
from svae.errors import UserError
from svae.settings.export import ExportSettings


@dataclass(frozen=True)
class Source:
    """One file of a data set: the user's own file or folder at `path`, or else one to fetch.

    name: of the file, without folder or query; urls: addresses, tried in this order; known_hash:
    the checksum that the fetched file must have, as "algorithm:hexadecimal"; bytes: its size, if
    known; sha256: the checksum that the user gave.
    """

    role: str
    name: str
    path: str | None
    urls: tuple[str, ...]
    known_hash: str | None
    bytes: int | None
    sha256: str | None


@dataclass(frozen=True)
class Conversion:
    """How images become data/DATASET.h5.

    crop: side of the centre crop in pixels, or "square" for the largest one; size: side to which
    the crop is then resized; channels: 1 grey, 3 red, green, blue; options: those of the data set;
    on_broken_image: stop or skip; max_images: of all splits together, None for all.
    """

    crop: int | Literal["square"] | None
    size: int | None
    channels: int
    options: dict[str, str]
    on_broken_image: str
    max_images: int | None = None


def resolve_conversion(section: dict[str, Any], dataset: Dataset) -> Conversion:
    """The section `conversion` with what `auto` means for the data set."""
    crop, size = (
        getattr(dataset, key) if section[key] == "auto" else section[key]
        for key in ("crop", "size")
    )
    if crop == "square" and dataset.height and dataset.height == dataset.width:
        crop = None
    for option, choices in dataset.options.items():
        if section[option] not in choices:
            raise UserError(
                f"conversion.{option} is {section[option]}, which {dataset.name} does not have; "
                f"write {' or '.join(choices)}"
            )
    return Conversion(
        crop=crop,
        size=size,
        channels={"auto": dataset.channels, "grey": 1, "rgb": 3}[section["color"]],
        options={option: section[option] for option in dataset.options},
        on_broken_image=section["on_broken_image"],
        max_images=section["max_images"],
    )


@dataclass(frozen=True)
class KnownImages:
    """How many images each split has at most, and the words before such a number."""

    counts: Mapping[str, int]
    whose: str


def known_images(dataset: Dataset, conversion: Conversion) -> KnownImages | None:
    """What is known without reading the data set; None if nothing is."""
    most = conversion.max_images
    if most is None:
        counts = dataset.counts
        return None if counts is None else KnownImages(counts, f"{dataset.name} has")
    counts = dataset.counts or dict.fromkeys(("train", "valid", "test"), most)
    counts = {split: min(count, most) for split, count in counts.items()}
    return KnownImages(counts, f"with conversion.max_images {most}, {dataset.name} has at most")


def image_size(dataset: Dataset, conversion: Conversion) -> tuple[int, int]:
    """Height and width of the stored images."""
    crop, size = conversion.crop, conversion.size
    height, width = dataset.height, dataset.width
    if height is None or width is None:
        side = size or (None if crop == "square" else crop)
        if crop is None or side is None:
            raise UserError(
                f"conversion.{'size' if crop else 'crop'} is null, but the images of "
                f"{dataset.name} differ in size; write auto, or a number of pixels"
            )
        return side, side
    if crop == "square":
        crop = min(height, width)
    if crop is not None and crop > min(height, width):
        raise UserError(
            f"conversion.crop is {crop}, but {dataset.name} has {height}x{width} "
            f"images; lower it or write null"
        )
    if size and crop is None and height != width:
        raise UserError(
            f"conversion.crop is null, but {dataset.name} has {height}x{width} images, which "
            f"conversion.size {size} would distort; write square or a number up to "
            f"{min(height, width)}"
        )
    side = size or crop
    return (side, side) if side else (height, width)


def resolve_sources(dataset: Dataset, own: dict[str, Any], working: Path) -> dict[str, Source]:
    """Where each file of the data set comes from, by role; optional files only if asked for."""
    given = own.get("sha256", {})
    checksums = {"archive": given} if isinstance(given, str) else given
    sources = {
        file.role: _source(dataset, file, own.get(file.role), checksums.get(file.role), working)
        for file in dataset.files
        if file.role in own or not file.optional
    }
    for role in checksums:
        if role not in sources:
            raise UserError(
                f"sources.{dataset.name}.sha256.{role} is the checksum of a file that is not read; "
                f"remove it"
            )
    fetched: dict[str, str] = {}
    for source in sources.values():
        if source.path is None and fetched.setdefault(source.name, source.role) != source.role:
            raise UserError(
                f"sources.{dataset.name}.{source.role} and .{fetched[source.name]} would both be "
                f"saved as {source.name}; download one of them and give its path"
            )
    return sources


def _source(
    dataset: Dataset, file: SourceFile, location: str | None, sha256: str | None, working: Path
) -> Source:
    key = f"sources.{dataset.name}.{file.role}"
    sha256 = sha256 and sha256.lower()
    if location in (None, "official"):
        if not file.urls:
            what = "folder, zip or tar archive" if file.folder else "file"
            raise UserError(f"{key} is missing; give the path of your {what}, such as {file.name}")
        return _fetched(file, file.name, file.urls, file, sha256)
    if location.lower().startswith(("http://", "https://")):
        return _address(key, file, location, sha256)
    # Unlike Path.is_file, these raise nothing for a path too long or in a forbidden folder.
    exists = os.path.exists if file.folder else os.path.isfile
    location = os.path.expanduser(location)  # noqa: PTH111
    if not exists(working / location) and os.path.isdir(working / location):  # noqa: PTH112
        raise UserError(
            f"{key} is {shown(location)}, which is a folder; give the file, such as {file.name}"
        )
    if not exists(working / location):
        raise UserError(
            f"{key} is {shown(location)}, but there is no such file (from {working}); "
            + (
                f"correct the path, or remove {key} to download it"
                if file.urls
                else "correct the path"
            )
        )
    if os.path.isfile(working / location) and set("{}") & set(location):  # noqa: PTH113
        raise UserError(
            f"{key} is {shown(location)}; Snakemake reads braces as wildcards: rename the file"
        )
    return Source(file.role, Path(location).name, location, (), None, None, sha256)


def _address(key: str, file: SourceFile, url: str, sha256: str | None) -> Source:
    """A source at the user's own address. Without a checksum from the user, the file must be the
    official one."""
    try:
        name = Path(urlsplit(url).path).name
    except ValueError:
        name = ""
    if not re.fullmatch(r"[\w%+-][\w.%+-]*", name):
        raise UserError(
            f"{key} is {shown(url)}, an address without a plain file name at its end; give one "
            f"such as https://example.org/{file.name}"
        )
    official = {known.name: known for known in (*file.alternatives, file)}.get(name, file)
    if not sha256 and official.known_hash is None:
        raise UserError(
            f"{key} is {shown(url)}, and no checksum of it is known; give its SHA-256 under "
            f"{key.rpartition('.')[0]}.sha256, or download it and give the path"
        )
    return _fetched(file, name, (url,), official, sha256)


def _fetched(
    file: SourceFile, name: str, urls: tuple[str, ...], official: SourceFile, sha256: str | None
) -> Source:
    """A source to fetch: the official file, or another one with the user's checksum."""
    other = sha256 is not None and sha256 != official.sha256
    known_hash = f"sha256:{sha256}" if sha256 else official.known_hash
    size = None if other else official.bytes
    return Source(file.role, name, None, urls, known_hash, size, sha256)


def resolve_export(section: dict[str, Any], working: Path) -> ExportSettings:
    """The section `export`, whose path of images must exist."""
    images = section["images"]
    if images is not None:
        images = os.path.expanduser(images)  # noqa: PTH111
        if not os.path.exists(working / images):  # noqa: PTH110
            raise UserError(
                f"export.images is {shown(images)}, but there is no such folder or archive (from "
                f"{working}); correct the path, or write null"
            )
        if os.path.isfile(working / images) and set("{}") & set(images):  # noqa: PTH113
            raise UserError(
                f"export.images is {shown(images)}; Snakemake reads braces as wildcards: rename "
                f"the file"
            )
    return ExportSettings(**{**section, "images": images})
