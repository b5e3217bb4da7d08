"""The table of data sets (sources.yaml) as objects.

The Snakefile imports this module, so it imports nothing heavier than yaml.
"""

import functools
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from svae.errors import UserError

TABLE = Path(__file__).with_name("sources.yaml")

# Of the image files that are read, in a folder or an archive; svae.datasets.formats.decoding reads
# these formats.
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib"),
    *(".gif", ".pbm", ".pgm", ".ppm", ".pnm", ".avif"),
)


@dataclass(frozen=True)
class SourceFile:
    """One file that a reader needs; the head of sources.yaml explains each key."""

    role: str
    name: str
    limit: int
    urls: tuple[str, ...] = ()
    bytes: int | None = None
    md5: str | None = None
    sha256: str | None = None
    folder: bool = False
    optional: bool = False
    when: Mapping[str, str] = field(default_factory=dict)
    alternatives: tuple["SourceFile", ...] = ()

    @property
    def known_hash(self) -> str | None:
        """The strongest known checksum as "algorithm:hexadecimal"."""
        if self.sha256:
            return f"sha256:{self.sha256}"
        return f"md5:{self.md5}" if self.md5 else None


@dataclass(frozen=True)
class Dataset:
    """One data set as published; sizes in pixels, `counts` in images per split."""

    name: str
    title: str
    channels: int
    license: str
    source: str
    date: str
    files: tuple[SourceFile, ...] = ()
    height: int | None = None
    width: int | None = None
    padding: int = 0
    crop: int | Literal["square"] | None = None
    size: int | None = None
    counts: Mapping[str, int] | None = None
    reads_mb: int = 0
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    by_hand: str = ""

    def chosen(self, options: Mapping[str, str]) -> "Dataset":
        """Return the data set under these options: the title, files and counts that they imply.

        Counts are known only for the first choice of every option; otherwise None.
        """
        usual = all(options[name] == choices[0] for name, choices in self.options.items())
        return replace(
            self,
            title=self.title.format(**options),
            files=tuple(file for file in self.files if file.when.items() <= options.items()),
            counts=self.counts if usual else None,
        )


@functools.cache
def catalogue() -> dict[str, Dataset]:
    """Return every data set by name, in the order of sources.yaml."""
    try:
        table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise UserError(f"{TABLE} is not YAML: {' '.join(str(error).split())}") from None
    return {name: _dataset(name, entry) for name, entry in table.items()}


def _dataset(name: str, entry: dict[str, Any]) -> Dataset:
    _check(Dataset, {**_mapping(entry, name), "name": name}, name)
    files = tuple(_file(file, f"{name}.files") for file in entry.get("files", ()))
    options = {option: tuple(choices) for option, choices in entry.get("options", {}).items()}
    return Dataset(**{**entry, "name": name, "files": files, "options": options})


def _file(entry: dict[str, Any], place: str) -> SourceFile:
    _check(SourceFile, _mapping(entry, place), place)
    alternatives = tuple(_file(file, place) for file in entry.get("alternatives", ()))
    return SourceFile(
        **{**entry, "urls": tuple(entry.get("urls", ())), "alternatives": alternatives}
    )


def _mapping(entry: Any, place: str) -> dict[str, Any]:
    if isinstance(entry, dict):
        return entry
    raise UserError(f"{TABLE}: {place} is {entry!r}, not a mapping; {_HEAD}")


def _check(cls: type, entry: dict[str, Any], place: str) -> None:
    """UserError if an entry lacks a key, has an unknown one, or one of the wrong type."""
    known = {each.name: each for each in fields(cls)}
    required = [
        name
        for name, each in known.items()
        if each.default is MISSING and each.default_factory is MISSING
    ]
    for key in required:
        if key not in entry:
            raise UserError(f"{TABLE}: {place} has no {key}; {_HEAD}")
    for key, value in entry.items():
        if key not in known:
            raise UserError(f"{TABLE}: {place} has an unknown key {key}; {_HEAD}")
        kind: Any = known[key].type
        if kind in _KINDS and not isinstance(value, kind):
            raise UserError(
                f"{TABLE}: {place}.{key} is {value!r}; it must be {_KINDS[kind]}; {_HEAD}"
            )


_KINDS: dict[Any, str] = {
    str: "text (dates in quotes)",
    int: "a whole number",
    bool: "true or false",
}
_HEAD = "the head of the file explains each key"
