"""Downloading a published file from one of its mirrors, checked against its checksum."""

import contextlib
import email.utils
import http
import json
import logging
import re
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import pooch
import requests
import urllib3
from tqdm import tqdm

from svae.datasets.verify import (
    described,
    expected_text,
    matches,
    page_title,
    plain_text,
    set_aside,
    way_out,
)
from svae.errors import UserError
from svae.jobs.files import read_json

log = logging.getLogger(__name__)

# A cut transfer loses up to one chunk of what came.
CHUNK_BYTES = 1 << 16
# In front of a big file that is often asked for, Google Drive has pages that gdown gets past.
DRIVE_HOSTS = ("drive.google.com", "drive.usercontent.google.com")
# Times the time-out: until the file itself must begin to come from there.
DRIVE_PATIENCE = 5
# Times the first wait: the longest one, whatever a server asks for.
LONGEST_WAIT = 64
_TRANSIENT = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)


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
    """Download a file to `target`, which appears only when whole and with the right checksum.

    A file that is already there with that checksum is left as it is, without any network; one with
    another checksum is replaced by the right one, or else renamed to NAME.refused.

    A transfer that breaks off goes on where it stopped, in this run or in a later one, if the
    server sent a strong ETag and still has the same file. Until then, what came is kept in the
    hidden files .NAME.part and .NAME.part.json beside the target.

    Args:
        target: path to write, data/raw/DATASET/NAME; its folder is made if need be.
        urls: http or https addresses, tried in this order; but first the one whose part is here.
        known_hash: "sha256:HEX" or "md5:HEX".
        size: of the file in bytes, if known.
        timeout: seconds to wait for a connection, and for the next bytes.
        retries: further attempts at a mirror that fails in a way that may pass.
        progress: whether to draw a progress bar on standard error.
        by_hand: for the error message, the places where a person gets the file.
        wait: seconds before the first further attempt; twice as long before each one after it.

    Raises:
        UserError: no mirror gives the right file (one line says why for each), or the folder cannot
            be written. Nothing stays of what came but a part that can be resumed.
    """
    target = Path(target).absolute()
    part = _Part(target)
    mirrors = _Mirrors(part, urls, known_hash, size, timeout, retries, wait, progress)
    store = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: known_hash},
        urls={target.name: next(iter(urls), "")},
    )
    pooch.get_logger().setLevel("WARNING")  # its progress lines would double those here
    try:
        store.fetch(target.name, downloader=mirrors)
        part.delete()  # of an earlier run, if somebody placed the file by hand since
    except _Failure as failure:
        lines = [
            f"{target.name} ({expected_text(known_hash, size)}) could not be downloaded:{failure}"
        ]
        if target.exists():
            what = described(target, known_hash)
            fate = set_aside(target)
            lines.append(f"{target}, which was there before, is {what}; {fate}.")
        if part.resumable():
            lines.append(f"{part.bytes()} bytes are kept; the next run goes on after them.")
        lines.append(way_out(target, by_hand))
        raise UserError("\n".join(lines)) from failure
    except OSError as error:  # those of the network end in a _Failure
        with contextlib.suppress(OSError):
            part.delete()
        raise UserError(
            f"{target.name} cannot be stored at {target}: {error.strerror or error}; free some "
            "space there, or make the folder writable."
        ) from error


class _Failure(Exception):
    """Why a mirror does not give the file.

    `transient`: a further attempt may succeed, `after` seconds from now at the earliest.
    """

    def __init__(self, reason: str, transient: bool = False, after: float = 0):
        super().__init__(reason)
        self.transient, self.after = transient, after


class _Part:
    """What came so far of a file, and a note of the address and the ETag that it came with."""

    def __init__(self, target: Path):
        self.name = target.name
        self.path = target.with_name(f".{target.name}.part")
        self._note = target.with_name(f".{target.name}.part.json")

    def begin(self, url: str, etag: str | None) -> BinaryIO:
        """Open a new part for writing; without a strong ETag it cannot be resumed."""
        self.delete()
        if _is_strong(etag):
            self._note.write_text(json.dumps({"url": url, "etag": etag}), encoding="utf-8")
        return self.path.open("wb")

    def resume(self) -> BinaryIO:
        return self.path.open("ab")

    def bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> tuple[str, str]:
        """Address and ETag of the part; ("", "") if it cannot be resumed."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            note = read_json(self._note)
            if _is_strong(note["etag"]) and self.bytes():
                return note["url"], note["etag"]
        return "", ""

    def resumable(self) -> bool:
        return self.origin() != ("", "")

    def delete(self) -> None:
        # In this order: a note must never stand beside bytes that are not its own.
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class _Body:
    """A part as the file that requests or gdown write to, bounded and shown by a progress bar.

    An older part is given up only once bytes come that may be the file's: not for an error page.
    """

    def __init__(
        self,
        part: _Part,
        url: str,
        *,
        size: int | None,
        progress: bool,
        etag: str | None = None,
        start: int = 0,
        total: int | None = None,
    ):
        self.bytes = start
        self._part, self._url, self._etag, self._size = part, url, etag, size
        self._file = part.resume() if start else None
        self._bar = tqdm(
            desc=part.name,
            total=size if total is None else total,
            initial=start,
            unit="B",
            unit_scale=True,
            disable=not progress,
        )

    def write(self, chunk: bytes) -> None:
        if not self.bytes and (page := page_title(chunk)):
            raise _Failure(f"{page} came")
        self.bytes += len(chunk)
        if self._size is not None and self.bytes > self._size:
            if self._file:
                self._part.delete()
            raise _Failure(f"more came than the {self._size} bytes of the file")
        if self._file is None:
            self._file = self._part.begin(self._url, self._etag)
        self._file.write(chunk)
        self._bar.update(len(chunk))

    def flush(self) -> None:
        """For gdown, which flushes what it writes to."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._bar.close()
        if self._file is None and kind is None:  # an empty body
            self._file = self._part.begin(self._url, self._etag)
        if self._file:
            self._file.close()


class _Mirrors:
    """A pooch downloader: the first of several mirrors that gives the right file.

    The arguments are those of `fetch`. Calling it raises a _Failure with one line a mirror.
    """

    def __init__(
        self,
        part: _Part,
        urls: Sequence[str],
        known_hash: str,
        size: int | None,
        timeout: float,
        retries: int,
        wait: float,
        progress: bool,
    ):
        self.part, self.urls, self.known_hash, self.size = part, urls, known_hash, size
        self.timeout, self.retries, self.wait, self.progress = timeout, retries, wait, progress

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        # pooch's temporary file, empty as yet: it would stay if this process were killed, and only
        # its owner could read it. The part takes its place in the end.
        Path(output_file).unlink()
        self._check_space(Path(output_file).parent)
        started = self.part.origin()[0]
        failures = ""
        try:
            for mirror in sorted(self.urls, key=lambda mirror: mirror != started):
                try:
                    self._try(mirror)
                except _Failure as failure:
                    log.warning("%s: %s", mirror, failure)
                    failures += f"\n  {mirror}: {failure}"
                else:
                    self.part.path.replace(output_file)
                    return
            raise _Failure(failures or "\n  no address of it is known")
        finally:
            if not self.part.resumable():
                self.part.delete()

    def _check_space(self, folder: Path) -> None:
        missing = (self.size or 0) - self.part.bytes()
        free = shutil.disk_usage(folder).free
        if missing > free:
            raise UserError(
                f"{self.part.name} needs {missing} bytes in {folder}, where {free} are free; free "
                "some space there, or make the folder a link to one on another disk."
            )

    def _try(self, url: str) -> None:
        """Bring the right file from one mirror into the part, in several attempts if need be."""
        log.info("Downloading %s from %s", self.part.name, url)
        attempt, had = 0, 0
        while True:
            try:
                self._attempt(url)
                return
            except _Failure as failure:
                # A transfer that got on, on a line that drops now and then, has all attempts again.
                has = self.part.bytes() if self.part.resumable() else 0
                attempt, had = 0 if has > had else attempt, has
                if not failure.transient or attempt == self.retries:
                    count = f" ({attempt + 1} attempts)" if attempt else ""
                    raise _Failure(f"{failure}{count}") from failure
                pause = self.wait * 2**attempt
                pause = min(max(pause, failure.after), self.wait * LONGEST_WAIT)
                log.warning("%s: %s; next attempt in %g s", url, failure, pause)
                time.sleep(pause)
                attempt += 1

    def _attempt(self, url: str) -> None:
        resumed = self._by_gdown(url) if _is_on_drive(url) else self._by_http(url)
        if not matches(self.part.path, self.known_hash):
            what = described(self.part.path, self.known_hash)
            self.part.delete()
            # A resumed file may be wrong for the sake of its old beginning; a new one is wrong.
            raise _Failure(f"{what} came", transient=resumed)

    def _by_http(self, url: str) -> bool:
        """Bring a body into the part; whether it is the continuation of one."""
        origin, etag = self.part.origin()
        start = self.part.bytes() if origin == url else 0
        if start and start == self.size:  # all there; ended before it was checked
            return True
        if start:
            asked = {"Range": f"bytes={start}-", "If-Range": etag}
            with self._get(url, asked) as response:
                if _continues(response, start, etag, self.size):
                    self._save(url, response, start)
                    return True
                if response.status_code not in (206, 416):
                    self._save(url, response)
                    return False
        with self._get(url, {}) as response:
            self._save(url, response)
        return False

    def _get(self, url: str, headers: dict[str, str]) -> requests.Response:
        # Some servers label a .tar.gz as a gzip *transfer*, to be unpacked on arrival.
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            return requests.get(url, headers=headers, timeout=self.timeout, stream=True)
        except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
            raise self._explained(error) from error

    def _save(self, url: str, response: requests.Response, start: int = 0) -> None:
        """Write an answer's body behind the `start` bytes that are there."""
        if response.status_code != 200 and not start:
            raise _refusal(response)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if re.fullmatch(r"\d{1,18}", length) else None
        if total is None and "Transfer-Encoding" not in response.headers:
            total = self.size  # else nothing would tell a cut body from a whole one
        if None not in (total, self.size) and total > self.size:
            raise _Failure(f"a file of {total} bytes is there")
        body = _Body(
            self.part,
            url,
            size=self.size,
            progress=self.progress,
            etag=response.headers.get("ETag"),
            start=start,
            total=total,
        )
        with body:
            try:
                # Not decoded: the file's own bytes, whatever label they carry.
                for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                    body.write(chunk)
            except urllib3.exceptions.ReadTimeoutError as error:
                reason = f"nothing more came within {self.timeout:g} s, after {body.bytes} bytes"
                raise _Failure(reason, transient=True) from error
            except urllib3.exceptions.HTTPError as error:
                raise _Failure(f"broke off after {body.bytes} bytes", transient=True) from error
            if total is not None and body.bytes < total:
                raise _Failure(f"broke off after {body.bytes} bytes", transient=True)

    def _by_gdown(self, url: str) -> bool:
        """Bring a file of Google Drive into the part; never a continuation: Drive has no ETags."""
        import gdown

        # gdown itself would follow for ever from one page of Drive's to the next.
        enough = threading.Event()
        patience = threading.Timer(DRIVE_PATIENCE * self.timeout, enough.set)
        patience.start()
        try:
            with _Body(self.part, url, size=self.size, progress=self.progress) as body:
                gdown.download(
                    url,
                    body,
                    quiet=True,
                    use_cookies=False,
                    timeout=self.timeout,
                    progress=lambda *_: patience.cancel(),
                    cancel=enough,
                )
        except gdown.exceptions.DownloadCancelled as error:
            raise _Failure("Google Drive sent page after page instead of the file") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._explained(error) from error
        except gdown.exceptions.FileURLRetrievalError as error:
            reason = plain_text(str(error.__context__ or error), 200)  # Drive's words, if any
            raise _Failure(f"Google Drive sent a page instead of the file: {reason}") from error
        except gdown.exceptions.DownloadError as error:
            raise _Failure(plain_text(str(error), 200), transient=True) from error
        except (LookupError, AssertionError, ValueError) as error:
            # gdown takes headers and forms for granted.
            raise _Failure("Google Drive sent an answer that gdown cannot read") from error
        finally:
            patience.cancel()
        return False

    def _explained(self, error: Exception) -> _Failure:
        """An error of requests, in words."""
        if isinstance(error, requests.HTTPError):
            return _refusal(error.response)
        if isinstance(error, requests.Timeout):
            return _Failure(f"no answer within {self.timeout:g} s", transient=True)
        if isinstance(error, requests.TooManyRedirects):
            return _Failure("too many redirects")
        if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.MissingSchema):
            return _Failure("leads to an address that is neither http nor https")
        if isinstance(error, ValueError):
            return _Failure(f"leads to an address that is none: {plain_text(str(error), 100)}")
        root = error
        while root.__cause__ or root.__context__:
            root = root.__cause__ or root.__context__
        if isinstance(root, TimeoutError):
            return _Failure(f"nothing more came within {self.timeout:g} s", transient=True)
        reason = plain_text(getattr(root, "strerror", None) or str(root), 100)
        return _Failure(f"no server answers ({reason})", transient=True)


def _is_on_drive(url: str) -> bool:
    try:
        return urlsplit(url).hostname in DRIVE_HOSTS
    except ValueError:  # not an address at all; requests will say so
        return False


def _is_strong(etag: Any) -> bool:
    """Whether an ETag stands for the very bytes of a file; a weak one begins with W/."""
    return isinstance(etag, str) and re.fullmatch(r'"[!#-~]+"', etag) is not None


def _continues(response: requests.Response, start: int, etag: str, size: int | None) -> bool:
    """Whether an answer is all of the same file from byte `start` on."""
    pattern = r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)"
    span = re.fullmatch(pattern, response.headers.get("Content-Range", ""))
    if response.status_code != 206 or response.headers.get("ETag") != etag or not span:
        return False
    first, last, total = (None if number is None else int(number) for number in span.groups())
    whole = total in (None, last + 1) and size in (None, last + 1)
    return first == start and whole


def _refusal(response: requests.Response) -> _Failure:
    """An answer without the file."""
    code = response.status_code
    known = code in http.HTTPStatus.__members__.values()
    after = _seconds(response.headers.get("Retry-After", ""))
    reason = f"{code} {http.HTTPStatus(code).phrase}" if known else str(code)
    return _Failure(reason, transient=code >= 500 or code in _TRANSIENT, after=after)


def _seconds(retry_after: str) -> float:
    """How long a Retry-After header, a number or a date, asks to wait; 0 if it says nothing."""
    if re.fullmatch(r"\d{1,9}", retry_after):
        return int(retry_after)
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        date = email.utils.parsedate_tz(retry_after)
        return email.utils.mktime_tz(date) - time.time() if date else 0
    return 0
