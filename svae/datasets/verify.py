"""Whether a file is the published one, and words for what it is instead.

For downloads and for files that somebody put by hand.
"""

import html
import re
import textwrap
from pathlib import Path

from svae.errors import UserError
from svae.jobs.files import file_hash

_START_BYTES = 1 << 16  # of a file that may be a page


def verify(path: Path | str, known_hash: str, *, size: int | None, by_hand: str) -> None:
    """Check a file that may have been placed by hand; rename a wrong one to NAME.refused.

    The arguments are those of `fetch`. UserError: it is another file; the message says which.
    """
    path = Path(path).absolute()
    if matches(path, known_hash):
        return
    what = described(path, known_hash)
    raise UserError(
        f"{path} should be the published file ({expected_text(known_hash, size)}) but is {what}; "
        f"{set_aside(path)}.\n{way_out(path, by_hand)}"
    )


def matches(path: Path, known_hash: str) -> bool:
    """Whether a file has the checksum "algorithm:hexadecimal"."""
    algorithm, _, digest = known_hash.partition(":")
    return file_hash(path, algorithm) == digest.lower()


def expected_text(known_hash: str, size: int | None) -> str:
    """The right file in words: its size in bytes, if known, and its checksum."""
    algorithm, _, digest = known_hash.partition(":")
    return ("" if size is None else f"{size} bytes, ") + f"{algorithm.upper()} {digest}"


def described(path: Path, known_hash: str) -> str:
    """What a file is that does not have the known hash."""
    with path.open("rb") as file:
        page = page_title(file.read(_START_BYTES))
    if page:
        return page
    algorithms = dict.fromkeys([known_hash.partition(":")[0], "sha256"])  # config.yaml takes SHA256
    hashes = (f"{algorithm.upper()} {file_hash(path, algorithm)}" for algorithm in algorithms)
    return f"another file ({path.stat().st_size} bytes, {', '.join(hashes)})"


def set_aside(path: Path) -> str:
    """Take a wrong file away from the place of the right one; says what became of it."""
    refused = path.with_name(f"{path.name}.refused")
    try:
        path.replace(refused)
        return f"it is now called {refused.name}"
    except OSError as error:
        return f"delete it ({error.strerror})"


def page_title(start: bytes) -> str | None:
    """What to call a file that begins like this, if that is as an HTML page does."""
    text = start.decode("utf-8-sig", "replace").lstrip()
    if not text.lower().startswith(("<!doctype html", "<html", "<head")):
        return None
    title = re.search(r"<title[^>]{0,100}>([^<]+)", text, re.IGNORECASE)
    return f"an HTML page ('{plain_text(title[1], 80)}')" if title else "an HTML page"


def plain_text(text: str, width: int) -> str:
    """A stranger's text on one line, without what a terminal would obey."""
    text = "".join(char if char.isprintable() else " " for char in html.unescape(text))
    return textwrap.shorten(text, width, placeholder=" ...")


def way_out(target: Path, by_hand: str) -> str:
    """What a user can do who has not got data/raw/DATASET/NAME."""
    places = f"get it from {by_hand} and " if by_hand else ""
    return (
        f"By hand: {places}put it at {target}.\n"
        "If you know another version of the file to be good, accept its checksum in config.yaml: "
        f"`sources: {{{target.parent.name}: {{sha256: HEX}}}}` "
        "(`sha256: {ROLE: HEX}` where there are several files)."
    )
