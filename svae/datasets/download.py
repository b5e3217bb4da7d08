"""One attempt to download a file over HTTP or from Google Drive; a later one may resume it."""

import contextlib
import http
import json
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import urlsplit

import requests
import urllib3
from tqdm import tqdm

from svae.datasets.verify import page_title, plain_text
from svae.jobs.files import read_json

# A transfer that breaks off loses up to one chunk of what has arrived.
CHUNK_BYTES = 1 << 16
# Google Drive shows pages before a large file that is often requested; gdown gets past them.
DRIVE_HOSTS = ("drive.google.com", "drive.usercontent.google.com")
# Number of timeouts within which Drive must begin to send the file itself.
DRIVE_PATIENCE = 5
_TRANSIENT = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_MANY_REQUESTS)


class Failure(Exception):
    """The reason why an address does not provide the file.

    `transient`: another attempt may succeed, `after` seconds from now at the earliest.
    """

    def __init__(self, reason: str, transient: bool = False, after: float = 0):
        super().__init__(reason)
        self.transient, self.after = transient, after


class Part:
    """The part of a file received so far, .NAME.part, and a note of its address and ETag."""

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

    def bytes(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> tuple[str, str]:
        """Address and ETag of the part; ("", "") if it cannot be resumed."""
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            note = read_json(self._note)
            if _is_strong(note["etag"]) and self.bytes():
                return note["url"], note["etag"]
        return "", ""

    def resumable_bytes(self) -> int:
        return self.bytes() if self.origin()[1] else 0

    def delete(self) -> None:
        # In this order: a note must never lie next to bytes that are not its own.
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


class _Body:
    """The file object that HTTP or gdown write to: a part, with a size limit and a progress bar.

    An older part is deleted only when bytes arrive that may belong to the file, not when an error
    page arrives.
    """

    def __init__(self, part: Part, url: str, limit: int | None, bar: tqdm, etag: str | None = None):
        self.bytes: int = bar.n
        self._part, self._url, self._limit, self._bar, self._etag = part, url, limit, bar, etag
        self._file: BinaryIO | None = part.path.open("ab") if self.bytes else None

    def write(self, chunk: bytes) -> None:
        if not self.bytes and (page := page_title(chunk)):
            raise Failure(f"received {page}")
        self.bytes += len(chunk)
        if self._limit is not None and self.bytes > self._limit:
            if self._file:
                self._part.delete()
            raise Failure(f"received more than the {self._limit} bytes of the file")
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


@dataclass(frozen=True)
class Download:
    """Downloads a file into `part`; the other arguments are those of `fetch`."""

    part: Part
    size: int | None
    timeout: float
    progress: bool

    def attempt(self, url: str) -> bool:
        """Fill the part from an address; return whether an older part was resumed."""
        return self._by_gdown(url) if _is_on_drive(url) else self._by_http(url)

    def _by_http(self, url: str) -> bool:
        origin, etag = self.part.origin()
        start = self.part.bytes() if origin == url else 0
        if start and start == self.size:  # complete, but the program ended before it was checked
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
        """Append the body of a response to the first `start` bytes of the part."""
        if response.status_code != 200 and not start:
            raise _refusal(response)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if re.fullmatch(r"\d{1,18}", length) else None
        if total is None and "Transfer-Encoding" not in response.headers:
            total = self.size  # otherwise a truncated body would look complete
        if total is not None and self.size is not None and total > self.size:
            raise Failure(f"the server has a file of {total} bytes")
        bar = self._bar(start, total)
        with _Body(self.part, url, self.size, bar, response.headers.get("ETag")) as body:
            try:
                # Not decoded: the bytes of the file itself, whatever encoding the header declares.
                for chunk in response.raw.stream(CHUNK_BYTES, decode_content=False):
                    body.write(chunk)
            except urllib3.exceptions.ReadTimeoutError as error:
                reason = f"no more data within {self.timeout:g} s, after {body.bytes} bytes"
                raise Failure(reason, transient=True) from error
            except urllib3.exceptions.HTTPError as error:
                raise Failure(f"broke off after {body.bytes} bytes", transient=True) from error
            if total is not None and body.bytes < total:
                raise Failure(f"broke off after {body.bytes} bytes", transient=True)

    def _bar(self, start: int = 0, total: int | None = None) -> tqdm:
        total = self.size if total is None else total
        options = {"unit": "B", "unit_scale": True, "disable": not self.progress}
        return tqdm(desc=self.part.name, initial=start, total=total, **options)

    def _by_gdown(self, url: str) -> bool:
        """Never resumes: Drive has no ETags."""
        import gdown

        # Without a limit, gdown would follow Drive's pages forever.
        enough = threading.Event()
        patience = threading.Timer(DRIVE_PATIENCE * self.timeout, enough.set)
        patience.start()
        try:
            with _Body(self.part, url, self.size, self._bar()) as body:
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
            raise Failure("Google Drive sent page after page instead of the file") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise self._explained(error) from error
        except gdown.exceptions.FileURLRetrievalError as error:
            reason = plain_text(str(error.__context__ or error), 200)  # Drive's words, if any
            raise Failure(f"Google Drive sent a page instead of the file: {reason}") from error
        except gdown.exceptions.DownloadError as error:
            raise Failure(plain_text(str(error), 200), transient=True) from error
        except (LookupError, AssertionError, ValueError) as error:
            # gdown assumes certain headers and forms.
            raise Failure("Google Drive sent an answer that gdown cannot read") from error
        finally:
            patience.cancel()
        return False

    def _explained(self, error: Exception) -> Failure:
        """An error of requests, in words."""
        if isinstance(error, requests.HTTPError):
            return _refusal(error.response)
        if isinstance(error, requests.Timeout):
            return Failure(f"no answer within {self.timeout:g} s", transient=True)
        if isinstance(error, requests.TooManyRedirects):
            return Failure("too many redirects")
        if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.MissingSchema):
            return Failure("leads to an address that is neither http nor https")
        if isinstance(error, ValueError):
            return Failure(f"leads to an invalid address: {plain_text(str(error), 100)}")
        root: BaseException = error
        while cause := root.__cause__ or root.__context__:
            root = cause
        if isinstance(root, TimeoutError):
            return Failure(f"no more data within {self.timeout:g} s", transient=True)
        reason = plain_text(getattr(root, "strerror", None) or str(root), 100)
        return Failure(f"no server answers ({reason})", transient=True)


def _is_on_drive(url: str) -> bool:
    try:
        return urlsplit(url).hostname in DRIVE_HOSTS
    except ValueError:  # not an address at all; requests will say so
        return False


def _is_strong(etag: Any) -> bool:
    """Whether an ETag identifies the exact bytes of a file; a weak one begins with W/."""
    return isinstance(etag, str) and re.fullmatch(r'"[!#-~]+"', etag) is not None


def _continues(response: requests.Response, start: int, etag: str, size: int | None) -> bool:
    """Whether a response contains all the rest of the same file, from byte `start` on."""
    pattern = r"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)"
    span = re.fullmatch(pattern, response.headers.get("Content-Range", ""))
    if response.status_code != 206 or response.headers.get("ETag") != etag or not span:
        return False
    first: Any  # like the next one an int, by the pattern
    last: Any
    first, last, total = (None if number is None else int(number) for number in span.groups())
    whole = total in (None, last + 1) and size in (None, last + 1)
    return first == start and whole


def _refusal(response: requests.Response) -> Failure:
    """The failure that a response without the file means."""
    code = response.status_code
    known = code in http.HTTPStatus.__members__.values()
    reason = f"{code} {http.HTTPStatus(code).phrase}" if known else str(code)
    after = 0.0
    with contextlib.suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        after = urllib3.Retry().parse_retry_after(response.headers.get("Retry-After", ""))
    return Failure(reason, transient=code >= 500 or code in _TRANSIENT, after=after)
