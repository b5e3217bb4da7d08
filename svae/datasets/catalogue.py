"""The table of data sets (sources.yaml) as objects.

The Snakefile imports this module, so it imports nothing heavier than yaml.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

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
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {name: _dataset(name, entry) for name, entry in table.items()}


def _dataset(name: str, entry: dict[str, Any]) -> Dataset:
    files = tuple(map(_file, entry.get("files", ())))
    options = {option: tuple(choices) for option, choices in entry.get("options", {}).items()}
    return Dataset(**{**entry, "name": name, "files": files, "options": options})


def _file(entry: dict[str, Any]) -> SourceFile:
    alternatives = tuple(map(_file, entry.get("alternatives", ())))
    return SourceFile(
        **{**entry, "urls": tuple(entry.get("urls", ())), "alternatives": alternatives}
    )
