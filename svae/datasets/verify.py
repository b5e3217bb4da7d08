"""Checks whether a file is the published one and, if not, what it is: for downloads, and for files
that a user put in place by hand."""

import html
import re
import textwrap
from collections.abc import Mapping
from pathlib import Path

from svae.datasets.checksums import checksums, forget_checksums
from svae.errors import UserError, readable

_START_BYTES = 1 << 16  # of a file that may be a page


def verify(path: Path | str, known_hash: str, *, size: int | None, by_hand: str) -> None:
    """Check a file that may have been placed by hand; rename a wrong one to NAME.refused.

    The arguments are those of `fetch`. UserError: it is another file; the message says which.
    """
    path = Path(path).absolute()
    found = checksums(path, *algorithms(known_hash), keep=True)
    if matches(found, known_hash):
        return
    what = described(path, found)
    raise UserError(
        f"{path} should be the published file ({expected_text(known_hash, size)}) but is {what}; "
        f"{set_aside(path)}.\n{way_out(path, by_hand)}"
    )


def algorithms(known_hash: str) -> tuple[str, ...]:
    """That of a hash "algorithm:hexadecimal", and SHA256, which stores and config.yaml name."""
    return tuple(dict.fromkeys([known_hash.partition(":")[0], "sha256"]))


def matches(found: Mapping[str, str], known_hash: str) -> bool:
    """Whether checksums (algorithm -> hexadecimal) are those of "algorithm:hexadecimal"."""
    algorithm, _, digest = known_hash.partition(":")
    return found[algorithm] == digest.lower()


def expected_text(known_hash: str, size: int | None) -> str:
    """The right file in words: its size in bytes, if known, and its checksum."""
    algorithm, _, digest = known_hash.partition(":")
    return ("" if size is None else f"{size} bytes, ") + f"{algorithm.upper()} {digest}"


def described(path: Path, found: Mapping[str, str]) -> str:
    """What a file is that is not the published one; `found`: its checksums by algorithm."""
    with path.open("rb") as file:
        page = page_title(file.read(_START_BYTES))
    if page:
        return page
    hashes = (f"{algorithm.upper()} {digest}" for algorithm, digest in found.items())
    return f"another file ({path.stat().st_size} bytes, {', '.join(hashes)})"


def set_aside(path: Path) -> str:
    """Rename a wrong file, so that the right one can take its name; returns what became of it."""
    refused = path.with_name(f"{path.name}.refused")
    forget_checksums(path)
    try:
        path.replace(refused)
        return f"it is now called {refused.name}"
    except OSError as error:
        return f"delete it ({error.strerror})"


def page_title(start: bytes) -> str | None:
    """What to call a file with this beginning if it is an HTML page; None if it is not."""
    text = start.decode("utf-8-sig", "replace").lstrip()
    if not text.lower().startswith(("<!doctype html", "<html", "<head")):
        return None
    title = re.search(r"<title[^>]{0,100}>([^<]+)", text, re.IGNORECASE)
    return f"an HTML page ('{plain_text(title[1], 80)}')" if title else "an HTML page"


def plain_text(text: str, width: int) -> str:
    """Untrusted text of a page or a server, readable on one line."""
    text = readable(" ".join(html.unescape(text).split()))
    return textwrap.shorten(text, width, placeholder=" ...")


def way_out(target: Path, by_hand: str) -> str:
    """What a user without the file data/raw/DATASET/NAME can do."""
    places = f"get it from {by_hand} and " if by_hand else ""
    return (
        f"By hand: {places}put it at {target}.\n"
        "If you know another version of the file to be good, accept its checksum in config.yaml: "
        f"`sources: {{{target.parent.name}: {{sha256: HEX}}}}` "
        "(`sha256: {ROLE: HEX}` where there are several files)."
    )
