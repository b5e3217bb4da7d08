"""The table of data sets, sources.yaml, as objects.

The Snakefile reads it, so this module imports nothing heavier than yaml.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

TABLE = Path(__file__).with_name("sources.yaml")


@dataclass(frozen=True)
class SourceFile:
    """One published file: its role for the reader, address, size and checksums (hexadecimal)."""

    role: str
    name: str
    url: str
    bytes: int
    md5: str | None = None
    sha256: str | None = None
    alternatives: tuple["SourceFile", ...] = ()

    @property
    def known_hash(self) -> str:
        """The strongest known checksum as "algorithm:hexadecimal", as pooch writes it."""
        return f"sha256:{self.sha256}" if self.sha256 else f"md5:{self.md5}"


@dataclass(frozen=True)
class Dataset:
    """One data set as published; sizes in pixels, `counts` in images a split."""

    name: str
    title: str
    height: int
    width: int
    channels: int
    padding: int
    counts: dict[str, int]
    files: tuple[SourceFile, ...]
    source: str
    date: str


def catalogue() -> dict[str, Dataset]:
    """Every data set by name, in the order of sources.yaml."""
    table = yaml.safe_load(TABLE.read_text(encoding="utf-8"))
    return {
        name: Dataset(**{**entry, "name": name, "files": tuple(map(_file, entry["files"]))})
        for name, entry in table.items()
    }


def _file(entry: dict[str, Any]) -> SourceFile:
    return SourceFile(**{**entry, "alternatives": tuple(map(_file, entry.get("alternatives", ())))})
