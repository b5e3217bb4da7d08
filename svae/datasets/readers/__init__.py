"""What the reader of a data set gets and gives; see docs/add-a-data-set.md.

A reader is a module here, named after its data set, with `read` and `SPLIT_RULE`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class Raw:
    """The raw files of a data set.

    Attributes:
        files: the path of each file by its role in sources.yaml.
        limits: the most bytes that each file may unpack to, by role.
        options: the data set's options in sources.yaml as config.yaml chooses them.
        scratch: an empty folder for what must be unpacked; deleted after the conversion.
    """

    files: Mapping[str, Path]
    limits: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    scratch: Path = Path()


class BrokenImage(Exception):
    """The problem with one image, in words to put after its name."""


class Picture(NamedTuple):
    """One image: its split ("train", "valid" or "test"), its name for messages, and its content:
    uint8 (height, width, channel), the bytes of a JPEG, PNG or WebP file, or why there is none."""

    split: str
    name: str
    content: np.ndarray | bytes | BrokenImage


class Reader(Protocol):
    """What a reader's module has. SPLIT_RULE says in words which image goes into which split."""

    SPLIT_RULE: str

    def read(self, raw: Raw) -> Iterator[Picture]:
        """Every image once, in an order that the files alone decide; memory bounded where the
        images are files. UserError: a file is not what it should be."""
