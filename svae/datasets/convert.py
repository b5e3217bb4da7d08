"""Conversion of a data set's source files into its store."""

import contextlib
import importlib
import logging
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np

from svae.datasets.catalogue import Dataset, SourceFile, catalogue
from svae.datasets.checksums import checksums
from svae.datasets.formats.decoding import Recipe
from svae.datasets.readers import MOST_LISTED, BrokenImage, Raw, all_broken, checked
from svae.datasets.splits import chosen_by_hash
from svae.datasets.store_writer import Writer
from svae.datasets.workers import Prepared, prepared
from svae.errors import UserError, readable
from svae.jobs.disk import disk_explained, only_writer, scratch_folder
from svae.jobs.provenance import software

log = logging.getLogger(__name__)

# With fewer, training and scoring are meaningless; most likely the wrong file was given.
_LEAST_IMAGES = 20
_LEAST_IN_SPLIT = 2

_SECONDS_BETWEEN_LINES = 10
_MOST_BROKEN_LINES = 10
_FIX = "Fix this, or set `conversion: {on_broken_image: skip}` in config.yaml to skip such images."


def convert(
    dataset: str,
    files: Mapping[str, Path | str],
    output: Path | str,
    *,
    sha256: Mapping[str, str] | None = None,
    crop: int | Literal["square"] | None = None,
    size: int | None = None,
    channels: int | None = None,
    options: Mapping[str, str] | None = None,
    on_broken_image: str = "stop",
    max_images: int | None = None,
    title: str | None = None,
    processes: int = 1,
) -> dict[str, Any]:
    """Read a data set from its source files and write its store to `output`.

    Memory does not grow with the number of images, except for what the reader itself holds. The
    store does not depend on `processes`. While the store is being written, hidden files lie next to
    it; those that a killed conversion left are removed first.

    Args:
        dataset: a name in sources.yaml; the module of that name in `readers` reads it.
        files: path of each source file, or of a folder where one is allowed, by role.
        output: the HDF5 file, written atomically.
        sha256: checksum (hexadecimal) that the user gave for their own file, by role.
        crop, size, channels: see `formats.decoding.Recipe`; channels None: as published.
        options: choice for each of the data set's options; default: the first choice.
        on_broken_image: "stop" with a UserError, or "skip" the image.
        max_images: see `splits.chosen_by_hash`; None: all.
        title: for figures and tables, instead of the data set's.
        processes: number of worker processes that decode, crop and resize.

    Returns:
        The attributes of the store: dataset, title, source_files and source_sha256 (by role; null
        for a folder), source_matches_official (null if no checksum was published), source_note,
        crop, size, channels, options, padding (0 after a crop or a resize), max_images (null for
        all), images_in_source (their number, including broken ones), on_broken_image,
        broken_images (their number), broken_image_names, unread_files (number by suffix),
        split_rule, software, counts and checksum.

    Raises:
        UserError: if the data set or an option is unknown; a source file is missing, unreadable or
            differs from the given checksum; an image is broken, does not fit the recipe or differs
            in shape from the others; there are too few images; or the disk is full.
    """
    entry, options = _chosen(dataset, options or {})
    files = _existing(entry, files, sha256 or {})
    hashes = {
        role: None if path.is_dir() else checksums(path, "sha256")["sha256"]
        for role, path in files.items()
    }
    _check_given(dataset, files, hashes, sha256 or {})
    published = [source for source in entry.files if source.role in files and source.known_hash]
    notes = _differences(published, files, hashes)

    reader = importlib.import_module(f"svae.datasets.readers.{dataset}")
    recipe = Recipe(crop, size, channels or entry.channels)
    output = Path(output)
    with (
        disk_explained(output),
        only_writer(output),
        scratch_folder(output) as scratch,
        Writer(output) as writer,
    ):
        limits = {source.role: source.limit for source in entry.files}
        raw = Raw(files, limits, options, scratch)
        pictures = checked(reader.read(raw), dataset, raw.findings)
        if max_images is not None:
            pictures = chosen_by_hash(pictures, max_images, scratch)
        transfer = _Transfer(dataset, files, writer, on_broken_image, max_images)
        with contextlib.closing(prepared(pictures, recipe, processes)) as blocks:
            transfer.run(blocks)
        return writer.finish(
            {
                "dataset": dataset,
                "title": title or entry.title,
                "source_files": {role: readable(path.name) for role, path in files.items()},
                "source_sha256": hashes,
                "source_matches_official": None if files and not published else not notes,
                "source_note": "; ".join(notes),
                "crop": crop,
                "size": size,
                "channels": recipe.channels,
                "options": options,
                "padding": entry.padding if crop is None and size is None else 0,
                "max_images": max_images,
                "images_in_source": raw.findings.pictures,
                "on_broken_image": on_broken_image,
                "broken_images": len(transfer.broken),
                "broken_image_names": [name for name, _ in transfer.broken],
                "unread_files": dict(raw.findings.unread),
                "split_rule": raw.findings.split_rule or reader.SPLIT_RULE,
                "software": software("numpy", "h5py", "pillow"),
            }
        )


def _chosen(dataset: str, options: Mapping[str, str]) -> tuple[Dataset, dict[str, str]]:
    """The data set's entry under its options, and the choice for each option."""
    entries = catalogue()
    if dataset not in entries:
        raise UserError(
            f"dataset: there is no data set {dataset!r}; use one of {', '.join(entries)}."
        )
    known = entries[dataset].options
    for name, choice in options.items():
        if name not in known:
            raise UserError(f"conversion.{name}: {dataset} has no such option; remove the key.")
        if choice not in known[name]:
            raise UserError(
                f"conversion.{name}: {choice!r} is not a valid choice for {dataset}; use one of "
                f"{', '.join(known[name])}."
            )
    options = {name: choices[0] for name, choices in known.items()} | dict(options)
    return entries[dataset].chosen(options), options


def _existing(
    entry: Dataset, files: Mapping[str, Path | str], sha256: Mapping[str, str]
) -> dict[str, Path]:
    """The path of every source file, by role; a UserError names the key of a missing one."""
    unknown = {*files, *sha256} - {source.role for source in entry.files}
    if unknown:
        raise UserError(
            f"sources.{entry.name}: unknown file {', '.join(sorted(unknown))}; this data set does "
            "not use it, remove it."
        )
    paths = {}
    for source in entry.files:
        key = f"sources.{entry.name}.{source.role}"
        if source.role not in files:
            if source.optional:
                continue
            raise UserError(f"{key}: no path is given for {source.name}; set it there.")
        path = paths[source.role] = Path(files[source.role])
        if not (path.is_file() or (source.folder and path.is_dir())):
            fetch = f", or remove the key to download {source.name}" if source.urls else ""
            raise UserError(f"{key}: there is no file {path}; correct the path{fetch}.")
    return paths


def _check_given(
    dataset: str,
    files: Mapping[str, Path],
    hashes: Mapping[str, str | None],
    given: Mapping[str, str],
) -> None:
    """Compare the files with the checksums that the user gave."""
    for role, sha256 in given.items():
        if role in files and hashes[role] != sha256.lower():
            found = f"has the SHA256 {hashes[role]}" if hashes[role] else "is a folder"
            raise UserError(
                f"{files[role]} {found}, but config.yaml gives the SHA256 {sha256} under "
                f"`sources.{dataset}`: give the right file, or correct or remove the checksum."
            )


def _differences(
    published: Iterable[SourceFile], files: Mapping[str, Path], hashes: Mapping[str, str | None]
) -> list[str]:
    """Log and return a note for each file that matches none of its published checksums."""
    notes = []
    for source in published:
        path, sha256 = files[source.role], hashes[source.role]
        official = (source, *source.alternatives)
        if sha256 is None or not any(_matches(known, path, sha256) for known in official):
            problem = "differs from" if sha256 else "is unknown, as it is a folder, unlike"
            notes.append(
                f"the checksum of {path.name} {problem} that of the published "
                f"{' and '.join(known.name for known in official)}: scores may not be comparable "
                "with other work"
            )
            log.warning("%s: %s", path, notes[-1])
    return notes


def _matches(known: SourceFile, path: Path, sha256: str) -> bool:
    if known.sha256:
        return known.sha256 == sha256
    return known.md5 == checksums(path, "md5")["md5"]


class _Transfer:
    """The transfer of all images into the store.

    Attributes:
        broken: name and problem of each image that cannot be used.
    """

    def __init__(
        self,
        dataset: str,
        files: Mapping[str, Path],
        writer: Writer,
        on_broken_image: str,
        max_images: int | None,
    ) -> None:
        self.broken: list[tuple[str, str]] = []
        self._dataset = dataset
        self._source = " and ".join(map(str, files.values())) or dataset
        self._writer = writer
        self._skip = on_broken_image == "skip"
        self._most = max_images

    def run(self, blocks: Iterable[list[Prepared]]) -> None:
        """Write all images, and log the progress."""
        started = logged = time.monotonic()
        for block in blocks:
            self._write(block)
            if time.monotonic() - logged > _SECONDS_BETWEEN_LINES:
                logged = time.monotonic()
                self._log("%d images so far", started)
        if self.broken and not self._skip:
            raise self._all_broken()
        self._check_counts()
        self._log(f"%d images ({self._counts()})", started)
        if self.broken:
            log.warning("%s: skipped %d broken images", self._dataset, len(self.broken))

    def _write(self, block: list[Prepared]) -> None:
        groups: dict[str, list[tuple[np.ndarray, str, str]]] = {}
        shape = self._writer.shape
        for split, unsafe, image, label in block:
            name = readable(unsafe)
            if isinstance(image, BrokenImage):
                self._note_broken(name, image)
                continue
            shape = shape or image.shape
            if image.shape != shape:
                raise UserError(
                    f"{self._source}: image {name} would be stored with {_pixels(image.shape)}, "
                    f"but those before it with {_pixels(shape)}: set conversion.size and "
                    "`conversion.crop: square` in config.yaml to give all images one size."
                )
            groups.setdefault(split, []).append((image, name, label))
        for split, group in groups.items():
            images, names, labels = zip(*group, strict=True)
            self._writer.append(split, np.stack(images), names, labels)

    def _note_broken(self, name: str, problem: BrokenImage) -> None:
        """Skip a broken image; if that is an error, the others are read, to list all of them."""
        self.broken.append((name, str(problem)))
        if self._skip and len(self.broken) <= _MOST_BROKEN_LINES:
            log.warning("%s: skipped image %s: %s", self._dataset, name, problem)
        elif not self._skip and len(self.broken) == 1:
            log.warning(
                "%s: image %s cannot be used: %s. The others are read to list all such images.",
                *(self._source, name, problem),
            )
        elif not self._skip and len(self.broken) == MOST_LISTED:
            raise self._all_broken()

    def _all_broken(self) -> UserError:
        return all_broken(self._source, self.broken, _FIX)

    def _check_counts(self) -> None:
        counts = self._writer.counts.values()
        if sum(counts) >= _LEAST_IMAGES and min(counts) >= _LEAST_IN_SPLIT:
            return
        broken = f"; {len(self.broken)} broken ones were skipped" if self.broken else ""
        more = f"Give more under `sources.{self._dataset}`"
        if sum(counts) + len(self.broken) == self._most:
            more = "Raise `conversion.max_images`"
        raise UserError(
            f"{self._source}: {sum(counts)} images ({self._counts()}{broken}) are too few: at "
            f"least {_LEAST_IMAGES} are needed, with {_LEAST_IN_SPLIT} in each split. {more} in "
            "config.yaml."
        )

    def _counts(self) -> str:
        return ", ".join(f"{count} {split}" for split, count in self._writer.counts.items())

    def _log(self, what: str, started: float) -> None:
        count = sum(self._writer.counts.values())
        speed = count / (time.monotonic() - started)
        log.info(f"%s: {what}, %.0f images/s", self._dataset, count, speed)


def _pixels(shape: tuple[int, ...]) -> str:
    return "{}x{} pixels".format(*shape)
