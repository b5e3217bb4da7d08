"""Input and output of the readers of data sets; see docs/add-a-data-set.md.

A reader is a module here, named after its data set, with `read` and `SPLIT_RULE`.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from svae.datasets import SPLITS
from svae.errors import UserError


@dataclass
class Findings:
    """What a reader notes while it reads, for the store.

    Attributes:
        unread: the number of files that are left out, because their format is not read, by suffix.
        split_rule: the rule that these files ask for, instead of the reader's SPLIT_RULE.
        pictures: the number of pictures so far; the reader need not count them.
    """

    unread: Counter[str] = field(default_factory=Counter)
    split_rule: str | None = None
    pictures: int = 0


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


def checked(pictures: Iterable[Picture], reader: str, findings: Findings) -> Iterator[Picture]:
    """Yield and count the pictures of a reader; UserError for one with a mistake of the reader."""
    if not isinstance(pictures, Iterable):
        raise UserError(
            f"{_FILE.format(reader)}: `read` must yield pictures, not return {pictures}"
        )
    for number, picture in enumerate(pictures, 1):
        if problem := _mistake(picture):
            name = getattr(picture, "name", None)
            raise UserError(f"{_FILE.format(reader)}: picture {number} ({name!r}) {problem}")
        findings.pictures = number
        yield picture


_FILE = "svae/datasets/readers/{}.py"


def _mistake(picture: Any) -> str | None:
    """What is wrong with what a reader yields, and what to yield instead; None if it is right."""
    if not isinstance(picture, Picture):
        return f"is {type(picture).__name__}; yield Picture(split, name, content, label)"
    split, name, content, label = picture
    if split not in SPLITS:
        return f"has the split {split!r}; use one of {', '.join(SPLITS)}"
    if not isinstance(name, str) or not name or not isinstance(label, str):
        return f"has the name {name!r} and the label {label!r}; use text, and a name for each"
    if isinstance(content, bytes | BrokenImage):
        return None
    if not isinstance(content, np.ndarray):
        return f"has {type(content).__name__} as content; use an array, or the bytes of a file"
    shaped = content.ndim == 3 and content.shape[2] in (1, 3) and content.size > 0
    if content.dtype != np.uint8 or not shaped:
        shape = ", ".join(map(str, content.shape))
        return (
            f"is {content.dtype} ({shape}); use uint8 (height, width, channel), of values from 0 "
            "to 255 and with 1 or 3 channels"
        )
    return None


MOST_LISTED = 100  # broken images, after which reading stops


def all_broken(source: str, broken: Sequence[tuple[str, str]], way_out: str) -> UserError:
    """The error for all images of a source that cannot be used: (name, problem) of each."""
    if len(broken) == 1:
        ((name, problem),) = broken
        return UserError(f"{source}: image {name} cannot be used: {problem}. {way_out}")
    names: dict[str, list[str]] = {}
    for name, problem in broken:
        names.setdefault(problem, []).append(name)
    count = f"{'the first ' if len(broken) == MOST_LISTED else ''}{len(broken)} images"
    lines = [f"{source}: {count} that cannot be used are listed below. {way_out}"]
    return UserError("\n  ".join([*lines, *(f"{', '.join(names[key])}: {key}" for key in names)]))


class Reader(Protocol):
    """The members of a reader's module. SPLIT_RULE says which image goes into which split."""

    SPLIT_RULE: str

    def read(self, raw: Raw) -> Iterator[Picture]:
        """Yield every image once, in an order that depends only on the files.

        Memory is bounded if the images are files. UserError if a file is not the expected one.
        """
