"""Downloading a published file from one of its mirrors, checked against its checksum."""

import contextlib
import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from svae.datasets.checksums import checksums, keep_checksums
from svae.datasets.download import Download, Failure, Part
from svae.datasets.verify import (
    algorithms,
    described,
    expected_text,
    matches,
    set_aside,
    way_out,
)
from svae.errors import UserError
from svae.jobs.disk import disk_error
from svae.jobs.files import flush

log = logging.getLogger(__name__)

# The longest wait, as a multiple of the first, whatever a server asks for.
LONGEST_WAIT = 64


def fetch(
    target: Path | str,
    urls: Sequence[str],
    known_hash: str,
    *,
    size: int | None,
    timeout: float,
    retries: int,
    progress: bool,
    by_hand: str,
    wait: float = 1,
) -> None:
    """Download a file to `target`, which appears only when complete and with the right checksum.

    An existing file with that checksum is left as it is, without network access; one with another
    checksum is replaced by the right one or, if that cannot be downloaded, renamed to NAME.refused.

    A transfer that breaks off is resumed, in this run or in a later one, if the server sent a
    strong ETag and still has the same file. Until then, the part received so far is kept next to
    the target in the hidden files .NAME.part and .NAME.part.json. The checksums of the target are
    kept in .NAME.checksums.json, so later steps need not read the file to compute them again.

    Args:
        target: path to write, data/raw/DATASET/NAME; its folder is created if necessary.
        urls: http or https addresses, tried in this order, after the one of a kept part.
        known_hash: "sha256:HEX" or "md5:HEX".
        size: of the file in bytes, if known.
        timeout: seconds to wait for a connection, and for the next bytes.
        retries: further attempts at a mirror after a transient failure.
        progress: whether to draw a progress bar on standard error.
        by_hand: places where a person can get the file, for the error message.
        wait: seconds before the first further attempt; doubled for each one after it.

    Raises:
        UserError: no mirror provides the right file (the message has one line for each), or the
            folder cannot be written. Only a part that can be resumed is left.
    """
    target = Path(target).absolute()
    part = Part(target)
    download = Download(part, size, timeout, progress)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        names = algorithms(known_hash)
        if target.exists() and matches(checksums(target, *names, keep=True), known_hash):
            part.delete()  # of an earlier run, if somebody has put the file there since
            return
        _check_space(part, size)
        try:
            found = _from_first_mirror(download, urls, known_hash, retries, wait)
            flush(part.path)
            part.path.replace(target)
            flush(target.parent)
            keep_checksums(target, found)
        finally:
            if not part.resumable_bytes():
                part.delete()
    except Failure as failure:
        expected = expected_text(known_hash, size)
        lines = [f"{target.name} ({expected}) could not be downloaded:{failure}"]
        if target.exists():
            what = described(target, checksums(target, *names))
            fate = set_aside(target)
            lines.append(f"{target}, which was there before, is {what}; {fate}.")
        if kept := part.resumable_bytes():
            lines.append(f"{kept} bytes are kept; the next run resumes after them.")
        lines.append(way_out(target, by_hand))
        raise UserError("\n".join(lines)) from failure
    except OSError as error:  # those of the network become a Failure
        with contextlib.suppress(OSError):
            part.delete()
        raise disk_error(target, error) or UserError(
            f"{target.name} cannot be stored at {target}: {error.strerror or error}; free some "
            "space there, or make the folder writable."
        ) from error


def _check_space(part: Part, size: int | None) -> None:
    folder = part.path.parent
    missing, free = (size or 0) - part.bytes(), shutil.disk_usage(folder).free
    if missing > free:
        raise UserError(
            f"{part.name} needs {missing} bytes in {folder}, where {free} are free; free some "
            "space there, or make the folder a link to one on another disk."
        )


def _from_first_mirror(
    download: Download, urls: Sequence[str], known_hash: str, retries: int, wait: float
) -> dict[str, str]:
    """Fill the part from the first mirror that provides the right file; return its checksums.

    Failure: none does; the message has one line for each.
    """
    started = download.part.origin()[0]
    failures = ""
    for url in sorted(urls, key=lambda url: url != started):
        try:
            log.info("Downloading %s from %s", download.part.name, url)
            return _from_mirror(download, url, known_hash, retries, wait)
        except Failure as failure:
            log.warning("%s: %s", url, failure)
            failures += f"\n  {url}: {failure}"
    raise Failure(failures or "\n  no address is known for it")


def _from_mirror(
    download: Download, url: str, known_hash: str, retries: int, wait: float
) -> dict[str, str]:
    """The same from one mirror, in several attempts if necessary."""
    attempt, had = 0, 0
    while True:
        try:
            return _attempt(download, url, known_hash)
        except Failure as failure:
            # After progress, as on an unreliable connection, all attempts are available again.
            has = download.part.resumable_bytes()
            attempt, had = 0 if has > had else attempt, has
            if not failure.transient or attempt == retries:
                count = f" ({attempt + 1} attempts)" if attempt else ""
                raise Failure(f"{failure}{count}") from failure
            pause = min(max(wait * 2**attempt, failure.after), wait * LONGEST_WAIT)
            log.warning("%s: %s; next attempt in %g s", url, failure, pause)
            time.sleep(pause)
            attempt += 1


def _attempt(download: Download, url: str, known_hash: str) -> dict[str, str]:
    resumed = download.attempt(url)
    part = download.part
    found = checksums(part.path, *algorithms(known_hash))
    if not matches(found, known_hash):
        what = described(part.path, found)
        part.delete()
        # In a resumed file, the old part may be wrong, and another attempt may succeed.
        raise Failure(f"received {what}", transient=resumed)
    return found
