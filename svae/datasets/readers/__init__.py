"""Input and output of the readers of data sets; see docs/add-a-data-set.md.

A reader is a module here, named after its data set, with `read` and `SPLIT_RULE`.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


@dataclass
class Findings:
    """What a reader notes while it reads, for the store.

    Attributes:
        unread: the number of files that are left out, because their format is not read, by suffix.
        split_rule: the rule that these files ask for, instead of the reader's SPLIT_RULE.
    """

    unread: Counter[str] = field(default_factory=Counter)
    split_rule: str | None = None


@dataclass(frozen=True)
class Raw:
    """The raw files of a data set.

    Attributes:
        files: the path of each file by its role in sources.yaml.
        limits: the most bytes that each file may unpack to, by role.
        options: the choice in config.yaml for each of the data set's options in sources.yaml.
        scratch: an empty folder for files that must be unpacked; deleted after the conversion.
        findings: where the reader notes what the store should record.
    """

    files: Mapping[str, Path]
    limits: Mapping[str, int] = field(default_factory=dict)
    options: Mapping[str, str] = field(default_factory=dict)
    scratch: Path = Path()
    findings: Findings = field(default_factory=Findings)


class BrokenImage(Exception):
    """The problem with one image; its text is shown after the image's name."""


class Picture(NamedTuple):
    """One image: its split ("train", "valid" or "test"), its name, its content and its label.

    The name identifies it in the source, for messages and in the store. The content is uint8
    (height, width, channel), the bytes of an image file (JPEG, PNG, WebP and others, see
    `formats.decoding.FORMATS`), or the reason why there is none. The label is that of the source,
    as text; "" if it has none.
    """

    split: str
    name: str
    content: np.ndarray | bytes | BrokenImage
    label: str = ""


class Reader(Protocol):
    """The members of a reader's module. SPLIT_RULE says which image goes into which split."""

    SPLIT_RULE: str

    def read(self, raw: Raw) -> Iterator[Picture]:
        """Yield every image once, in an order that depends only on the files.

        Memory is bounded if the images are files. UserError if a file is not the expected one.
        """
