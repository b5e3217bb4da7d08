"""Downloads from servers that misbehave: the right file, or a clear error and nothing half-written.

The servers are real ones on the loopback address; nothing in svae or gdown is patched.
"""

import hashlib
import itertools
import json
import os
import random
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import time

import pytest
import trustme
from helpers.servers import File, Reply, page, serving, serving_as

from svae.datasets.fetch import fetch
from svae.errors import UserError

CONTENT = random.Random(0).randbytes(300_000)
SIZE = len(CONTENT)
OTHER = random.Random(1).randbytes(SIZE)
CUT = 200_000  # where a truncated body ends
SOON = 1  # seconds: the timeout of tests in which it must expire
SILENCE = Reply(how="silence")
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
UNMEASURED = {"Content-Length": None}
CHUNKED = {**UNMEASURED, "Transfer-Encoding": "chunked"}
QUOTA = page("Google Drive - Quota exceeded", "<p>Too many users</p>")
DRIVE = "https://drive.google.com/uc?id=0B7EVK8r0v71pZjFTYXZWM3FlRnM"


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "celeba" / "faces.zip"


@pytest.fixture
def nobody():
    """The address of a port on which no server listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{free.getsockname()[1]}/faces.zip"


def get(target, *urls, **changed):
    usual = {
        "known_hash": f"sha256:{SHA256}",
        "size": SIZE,
        "timeout": 10,
        "retries": 0,
        "progress": False,
        "by_hand": "the moon",
        "wait": 0.01,
    }
    fetch(target, urls, **{**usual, **changed})


def problem(target, *urls, **changed):
    """The message of a fetch that fails."""
    with pytest.raises(UserError) as caught:
        get(target, *urls, **changed)
    return str(caught.value)


def patience(said):
    return SOON if f"within {SOON} s" in said else 10


def holds(target):
    """Names and contents of the files in the target's folder, without the kept checksums."""
    note = f".{target.name}.checksums.json"
    paths = [path for path in target.parent.iterdir() if path.name != note]
    # A file that does not exist has no note.
    assert target in paths or not target.with_name(note).exists()
    return {path.name: path.read_bytes() for path in paths}


def gaps(server):
    """Seconds between the requests."""
    times = [request.time for request in server.requests]
    return [later - earlier for earlier, later in itertools.pairwise(times)]


def ranges(server):
    return [request.headers["Range"] for request in server.requests]


def chunked(body):
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"


# --- The right file


@pytest.mark.parametrize("size", [SIZE, None])
@pytest.mark.parametrize(
    "route",
    [
        Reply(body=CONTENT),
        Reply(body=CONTENT, headers=UNMEASURED),
        Reply(body=chunked(CONTENT), headers=CHUNKED),
        # As sent by servers that treat a .tar.gz as a compressed transfer.
        Reply(body=CONTENT, headers={"Content-Encoding": "gzip"}),
        Reply(body=CONTENT, headers={"Content-Type": "text/html"}),
        File(CONTENT),
    ],
    ids=["plain", "unmeasured", "chunked", "gzip label", "html label", "etag"],
)
def test_the_right_file_arrives(target, route, size):
    with serving({"/faces.zip": route}) as server:
        get(target, f"{server.url}/faces.zip", size=size)
    assert holds(target) == {"faces.zip": CONTENT}
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("known_hash", [f"md5:{MD5}", f"sha256:{SHA256.upper()}"])
def test_other_ways_to_give_the_checksum(target, known_hash):
    with serving({"/faces.zip": Reply(body=CONTENT)}) as server:
        get(target, f"{server.url}/faces.zip", known_hash=known_hash)
    assert holds(target) == {"faces.zip": CONTENT}


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o007, 0o660)])
def test_the_file_is_as_readable_as_any_other(target, mask, mode):
    before = os.umask(mask)
    try:
        with serving({"/faces.zip": Reply(body=CONTENT)}) as server:
            get(target, f"{server.url}/faces.zip")
    finally:
        os.umask(before)
    assert stat.S_IMODE(target.stat().st_mode) == mode


def test_a_redirect_is_followed(target):
    routes = {
        "/old": Reply(302, headers={"Location": "/faces.zip"}),
        "/faces.zip": Reply(body=CONTENT),
    }
    with serving(routes) as server:
        get(target, f"{server.url}/old")
    assert holds(target) == {"faces.zip": CONTENT}


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_on_request(target, capsys, progress):
    with serving({"/faces.zip": Reply(body=CONTENT)}) as server:
        get(target, f"{server.url}/faces.zip", progress=progress)
    assert ("100%" in capsys.readouterr().err) == progress


def test_a_file_placed_by_hand_needs_no_network_access(target, nobody):
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT)
    get(target, nobody)
    assert holds(target) == {"faces.zip": CONTENT}


def test_a_damaged_file_is_replaced(target):
    target.parent.mkdir(parents=True)
    target.write_bytes(CONTENT[:50])
    with serving({"/faces.zip": Reply(body=CONTENT)}) as server:
        get(target, f"{server.url}/faces.zip")
    assert holds(target) == {"faces.zip": CONTENT}


# --- Failures


def to(location):
    return Reply(302, headers={"Location": location})


# Route, the known size, whether another attempt makes sense, and the message.
FAILURES = {
    "404": (Reply(404), SIZE, False, "404 Not Found"),
    "403": (Reply(403), SIZE, False, "403 Forbidden"),
    "410": (Reply(410), SIZE, False, "410 Gone"),
    "unheard of": (Reply(499), SIZE, False, "499"),
    "204": (Reply(204, headers=UNMEASURED), SIZE, False, "204 No Content"),
    "206 unasked": (Reply(206, CONTENT), SIZE, False, "206 Partial Content"),
    "408": (Reply(408), SIZE, True, "408 Request Timeout"),
    "429": (Reply(429), SIZE, True, "429 Too Many Requests"),
    "500": (Reply(500), SIZE, True, "500 Internal Server Error"),
    "503": (Reply(503, QUOTA.body), SIZE, True, "503 Service Unavailable"),
    "wrong body": (
        Reply(body=b"not it"),
        SIZE,
        False,
        f"received another file (6 bytes, SHA256 {hashlib.sha256(b'not it').hexdigest()})",
    ),
    "wrong body of the right size": (
        File(OTHER),
        SIZE,
        False,
        f"received another file ({SIZE} bytes, SHA256 {hashlib.sha256(OTHER).hexdigest()})",
    ),
    "short but whole": (
        Reply(body=chunked(b"{}"), headers=CHUNKED),
        SIZE,
        False,
        f"received another file (2 bytes, SHA256 {hashlib.sha256(b'{}').hexdigest()})",
    ),
    "empty body": (
        Reply(),
        SIZE,
        False,
        f"received another file (0 bytes, SHA256 {hashlib.sha256(b'').hexdigest()})",
    ),
    "page": (QUOTA, SIZE, False, "received an HTML page ('Google Drive - Quota exceeded')"),
    "page in upper case": (
        Reply(body=b"\xef\xbb\xbf\n <HTML><TITLE>\n Sign&nbsp;in\n</TITLE>"),
        SIZE,
        False,
        "received an HTML page ('Sign in')",
    ),
    "page without title": (Reply(body=b"<!doctype html>"), SIZE, False, "received an HTML page"),
    "page for the terminal": (
        page("\x1b[2J\x07&#27;]0;x\u202ey " + "z" * 200),
        SIZE,
        False,
        r"received an HTML page ('\x1b[2J\x07]0;x\u202ey ...')",
    ),
    "cut": (Reply(body=CONTENT, stop=CUT), SIZE, True, f"broke off after {CUT} bytes"),
    "cut, size unknown": (Reply(body=CONTENT, stop=CUT), None, True, f"broke off after {CUT} byte"),
    "cut, length unsaid": (
        Reply(body=CONTENT, headers=UNMEASURED, stop=CUT),
        SIZE,
        True,
        f"broke off after {CUT} bytes",
    ),
    "cut, neither known": (
        Reply(body=CONTENT, headers=UNMEASURED, stop=CUT),
        None,
        False,
        f"received another file ({CUT} bytes, SHA256 {hashlib.sha256(CONTENT[:CUT]).hexdigest()})",
    ),
    "cut, chunked": (
        Reply(body=chunked(CONTENT), headers=CHUNKED, stop=CUT),
        SIZE,
        True,
        "broke off after ",
    ),
    "cut, weak ETag": (
        Reply(body=CONTENT, headers={"ETag": 'W/"1"'}, stop=CUT),
        SIZE,
        True,
        f"broke off after {CUT} bytes",
    ),
    "cut at once": (File(CONTENT, stop=0), SIZE, True, "broke off after 0 bytes"),
    "reset": (Reply(body=CONTENT, stop=CUT, how="reset"), SIZE, True, "broke off after "),
    "stall": (
        Reply(body=CONTENT, stop=CUT, how="stall"),
        SIZE,
        True,
        f"no more data within {SOON} s, after ",
    ),
    "silence": (SILENCE, SIZE, True, f"no answer within {SOON} s"),
    "longer": (
        Reply(body=CONTENT + b"!"),
        SIZE,
        False,
        f"the server has a file of {SIZE + 1} bytes",
    ),
    # If it were not aborted at once, the message would be about the timeout.
    "longer, unsaid": (
        Reply(body=CONTENT + bytes(CUT), headers=UNMEASURED, stop=SIZE + CUT, how="stall"),
        SIZE,
        False,
        f"received more than the {SIZE} bytes of the file",
    ),
    "longer, with ETag": (
        Reply(
            body=CONTENT + bytes(CUT),
            headers={**UNMEASURED, "ETag": '"1"'},
            stop=SIZE + CUT,
            how="stall",
        ),
        SIZE,
        False,
        f"received more than the {SIZE} bytes of the file",
    ),
    "to a file": (
        to("file:///etc/passwd"),
        SIZE,
        False,
        "leads to an address that is neither http nor https",
    ),
    "to ftp": (
        to("ftp://127.0.0.1/faces.zip"),
        SIZE,
        False,
        "leads to an address that is neither http nor https",
    ),
    "to nonsense": (to("http://[::1"), SIZE, False, "leads to an invalid address: "),
    "to nowhere": (Reply(302), SIZE, False, "302 Found"),
}


@pytest.mark.parametrize(("route", "size", "again", "said"), FAILURES.values(), ids=FAILURES)
def test_a_failure_is_reported_and_leaves_nothing(target, route, size, again, said):
    with serving({"/faces.zip": route}) as server:
        url = f"{server.url}/faces.zip"
        message = problem(target, url, size=size, timeout=patience(said), retries=1)
    line = re.search(rf"^  {re.escape(url)}: (.*)$", message, re.MULTILINE)[1]
    assert line.startswith(said)
    assert line.endswith(" (2 attempts)") == again
    assert len(server.requests) == 1 + again
    assert holds(target) == {}


@pytest.mark.parametrize("bad", ["404", "wrong body", "cut", "longer, unsaid"])
def test_a_failure_sets_a_wrong_older_file_aside(target, bad):
    target.parent.mkdir(parents=True)
    target.write_bytes(b"older")
    with serving({"/faces.zip": FAILURES[bad][0]}) as server:
        problem(target, f"{server.url}/faces.zip")
    assert holds(target) == {"faces.zip.refused": b"older"}


def test_a_redirect_loop(target):
    with serving({"/faces.zip": to("/b"), "/b": to("/faces.zip")}) as server:
        assert "/faces.zip: too many redirects\n" in problem(target, f"{server.url}/faces.zip")
    assert holds(target) == {}


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/a", "/etc/passwd", ""])
def test_only_http_and_https_are_accepted(target, url):
    said = f"  {url}: leads to an address that is neither http nor https\n"
    assert said in problem(target, url, retries=1)
    assert holds(target) == {}


def test_no_server(target, nobody):
    said = f"  {nobody}: no server answers (Connection refused) (2 attempts)\n"
    assert said in problem(target, nobody, retries=1)
    assert holds(target) == {}


def test_no_address(target):
    assert "no address is known for it" in problem(target)


def test_the_whole_message(target, nobody):
    target.parent.mkdir(parents=True)
    target.write_bytes(QUOTA.body)
    with serving({"/b": Reply(body=b"not it")}) as server:
        assert problem(target, f"{server.url}/a", f"{server.url}/b", nobody) == (
            f"faces.zip (300000 bytes, SHA256 {SHA256}) could not be downloaded:\n"
            f"  {server.url}/a: 404 Not Found\n"
            f"  {server.url}/b: received another file (6 bytes, SHA256 "
            f"{hashlib.sha256(b'not it').hexdigest()})\n"
            f"  {nobody}: no server answers (Connection refused)\n"
            f"{target}, which was there before, is an HTML page "
            "('Google Drive - Quota exceeded'); it is now called faces.zip.refused.\n"
            f"By hand: get it from the moon and put it at {target}.\n"
            "If you know another version of the file to be good, accept its checksum in "
            "config.yaml: `sources: {celeba: {sha256: HEX}}` (`sha256: {ROLE: HEX}` where there "
            "are several files)."
        )


def test_the_message_if_less_is_known(target, nobody):
    message = problem(target, nobody, known_hash=f"md5:{MD5}", size=None, by_hand="")
    assert message.startswith(f"faces.zip (MD5 {MD5}) could not be downloaded:\n")
    assert f"\nBy hand: put it at {target}.\n" in message


def test_the_message_about_a_wrong_body_has_a_checksum_for_the_configuration(target):
    with serving({"/faces.zip": Reply(body=b"not it")}) as server:
        message = problem(target, f"{server.url}/faces.zip", known_hash=f"md5:{MD5}")
    md5, sha256 = (getattr(hashlib, name)(b"not it").hexdigest() for name in ("md5", "sha256"))
    assert f"received another file (6 bytes, MD5 {md5}, SHA256 {sha256})\n" in message


# --- Further attempts


@pytest.mark.parametrize("bad", [bad for bad, (_, _, again, _) in FAILURES.items() if again])
def test_a_third_attempt_may_succeed(target, bad):
    route, size, _, said = FAILURES[bad]
    with serving({"/faces.zip": [route, route, Reply(body=CONTENT)]}) as server:
        get(target, f"{server.url}/faces.zip", size=size, timeout=patience(said), retries=2)
    assert ranges(server) == [None] * 3
    assert holds(target) == {"faces.zip": CONTENT}


def test_each_wait_is_twice_the_previous_one(target):
    with serving({"/faces.zip": Reply(503)}) as server:
        problem(target, f"{server.url}/faces.zip", retries=3, wait=0.1)
    # Never shorter; on a busy machine possibly longer.
    assert all(gap >= wait for gap, wait in zip(gaps(server), [0.1, 0.2, 0.4], strict=True))


@pytest.mark.parametrize(
    ("retry_after", "wait", "pause"),
    [
        ("1", 0.1, 1),
        # An endless wait is limited to 64 times the first one.
        ("3600", 0.005, 0.32),
        ("Fri, 01 Jan 2100 00:00:00 GMT", 0.005, 0.32),
        # No request for a pause: the usual wait.
        ("0", 0.1, 0.1),
        ("Sat, 01 Jan 2000 00:00:00 GMT", 0.1, 0.1),
        ("Fri, 01 Jan 99999999999 00:00:00 GMT", 0.1, 0.1),
        ("soon", 0.1, 0.1),
    ],
)
def test_a_server_may_ask_for_a_pause(target, retry_after, wait, pause):
    busy = Reply(429, headers={"Retry-After": retry_after})
    with serving({"/faces.zip": [busy, Reply(body=CONTENT)]}) as server:
        get(target, f"{server.url}/faces.zip", retries=1, wait=wait)
    assert gaps(server)[0] >= pause


# --- Mirrors


@pytest.mark.parametrize("bad", [*FAILURES, "loop", "nobody", "file"])
def test_the_next_mirror_is_tried(target, nobody, bad):
    route, size, _, said = FAILURES.get(bad, (to("/a"), SIZE, False, ""))
    with serving({"/a": route, "/b": Reply(body=CONTENT), "/c": Reply(body=OTHER)}) as server:
        first = {"nobody": nobody, "file": "file:///etc/passwd"}.get(bad, f"{server.url}/a")
        get(target, first, f"{server.url}/b", f"{server.url}/c", size=size, timeout=patience(said))
        assert "/c" not in [request.path for request in server.requests]
    assert holds(target) == {"faces.zip": CONTENT}


# --- Resumption


def test_a_truncated_body_is_resumed(target):
    with serving({"/faces.zip": [File(CONTENT, stop=CUT), File(CONTENT)]}) as server:
        get(target, f"{server.url}/faces.zip", retries=1)
    first, second = server.requests
    # The chunk in transfer when the connection broke is requested again.
    start = int(re.fullmatch(r"bytes=(\d+)-", second.headers["Range"])[1])
    assert first.headers["Range"] is None and CUT - (1 << 16) <= start <= CUT
    assert second.headers["If-Range"] == '"1"' and second.sent == SIZE - start
    assert holds(target) == {"faces.zip": CONTENT}


@pytest.mark.parametrize("how", ["cut", "stall", "reset"])
@pytest.mark.parametrize("size", [SIZE, None])
def test_the_next_run_resumes(target, how, size):
    with serving({"/faces.zip": File(CONTENT, stop=CUT, how=how)}) as server:
        url = f"{server.url}/faces.zip"
        message = problem(target, url, timeout=SOON if how == "stall" else 10, size=size)
        kept = holds(target)
        part = kept.pop(".faces.zip.part")
        assert list(kept) == [".faces.zip.part.json"]
        assert CONTENT.startswith(part) and len(part) >= 1 << 16
        assert f"\n{len(part)} bytes are kept; the next run resumes after them.\n" in message

        server.routes["/faces.zip"] = File(CONTENT)
        get(target, url, size=size)
        assert ranges(server) == [None, f"bytes={len(part)}-"]
        assert server.requests[1].sent == SIZE - len(part)
    assert holds(target) == {"faces.zip": CONTENT}


def test_progress_makes_all_attempts_available_again(target):
    with serving({"/faces.zip": File(CONTENT, stop=100_000)}) as server:
        get(target, f"{server.url}/faces.zip", retries=1)
    starts = [int(asked[6:-1]) for asked in ranges(server)[1:]]
    assert starts == sorted(set(starts)) and len(starts) >= 2
    assert holds(target) == {"faces.zip": CONTENT}


def test_an_earlier_part_of_a_changed_file_is_dropped(target):
    routes = [File(OTHER, '"1"', stop=CUT), File(CONTENT, '"2"')]
    with serving({"/faces.zip": routes}) as server:
        get(target, f"{server.url}/faces.zip", retries=1)
    assert [request.sent for request in server.requests] == [CUT, SIZE]
    assert holds(target) == {"faces.zip": CONTENT}


def part_of(span, etag='"1"'):
    """A server that answers 206, with another Content-Range or ETag than it should."""
    return Reply(206, CONTENT[-100_000:], {"Content-Range": span, "ETag": etag})


@pytest.mark.parametrize(
    ("bad", "requests"),
    [
        (Reply(200, CONTENT, {"ETag": '"1"'}), 2),
        (Reply(200, CONTENT, part_of(f"bytes START-{SIZE - 1}/{SIZE}").headers), 2),
        (Reply(416), 3),
        (part_of(None), 3),
        (part_of("bytes 200000-299999"), 3),
        (part_of(f"bytes {SIZE - 100_000}-{SIZE - 1}/{SIZE}"), 3),
        (part_of(f"bytes START-{SIZE - 2}/{SIZE}"), 3),
        (part_of(f"bytes START-{SIZE}/{SIZE + 1}"), 3),
        (part_of(f"bytes START-{SIZE - 1}/{SIZE + 1}"), 3),
        (part_of(f"bytes START-{SIZE - 1}/{SIZE}", '"2"'), 3),
        (part_of(f"bytes START-{SIZE - 1}/{SIZE}", None), 3),
    ],
    ids=[
        "200",
        "200 with a span",
        "416",
        "no span",
        "half a span",
        "other start",
        "not to the end",
        "other size",
        "other size, not to the end",
        "other ETag",
        "no ETag",
    ],
)
def test_a_server_that_cannot_resume_starts_again(target, bad, requests):
    def answer(request):
        if "Range" not in request.headers:
            return File(CONTENT)(request)
        start = request.headers["Range"][6:-1]
        headers = {
            name: value.replace("START", start) if value else None
            for name, value in bad.headers.items()
        }
        return Reply(bad.status, bad.body, headers)

    with serving({"/faces.zip": [File(CONTENT, stop=150_000), answer]}) as server:
        get(target, f"{server.url}/faces.zip", retries=1)
    assert [asked is not None for asked in ranges(server)] == [False, True, False][:requests]
    assert holds(target) == {"faces.zip": CONTENT}


def test_an_answer_without_the_size_is_resumed(target):
    def answer(request):
        reply = File(CONTENT)(request)
        span = reply.headers["Content-Range"].replace(f"/{SIZE}", "/*")
        return Reply(206, reply.body, {**reply.headers, "Content-Range": span})

    with serving({"/faces.zip": [File(CONTENT, stop=CUT), answer]}) as server:
        get(target, f"{server.url}/faces.zip", retries=1)
    assert server.requests[1].sent < SIZE and len(server.requests) == 2
    assert holds(target) == {"faces.zip": CONTENT}


def test_only_the_same_server_resumes(target):
    """An equal ETag elsewhere means nothing; the part survives what another mirror sends."""
    routes = {"/a": File(CONTENT, stop=CUT), "/b": File(CONTENT), "/page": QUOTA}
    with serving(routes) as server:
        problem(target, f"{server.url}/page", f"{server.url}/a")
        part = holds(target)
        assert set(part) == {".faces.zip.part", ".faces.zip.part.json"}

        server.routes["/a"] = Reply(503)
        problem(target, f"{server.url}/page", f"{server.url}/a", f"{server.url}/none")
        assert [request.path for request in server.requests[2:]] == ["/a", "/page", "/none"]
        assert holds(target) == part

        get(target, f"{server.url}/b")
        assert ranges(server)[-1] is None
    assert holds(target) == {"faces.zip": CONTENT}


def cut_download(target, server, url):
    server.routes["/faces.zip"] = File(CONTENT, stop=CUT)
    problem(target, url)
    server.routes["/faces.zip"] = File(CONTENT)
    return target.with_name(".faces.zip.part")


def test_a_part_that_was_damaged_costs_one_more_attempt(target):
    with serving({}) as server:
        url = f"{server.url}/faces.zip"
        part = cut_download(target, server, url)
        part.write_bytes(bytes(part.stat().st_size))
        get(target, url, retries=1)
        assert [asked is not None for asked in ranges(server)] == [False, True, False]
    assert holds(target) == {"faces.zip": CONTENT}


def test_a_damaged_part_does_not_stay(target):
    with serving({}) as server:
        url = f"{server.url}/faces.zip"
        part = cut_download(target, server, url)
        part.write_bytes(bytes(part.stat().st_size))
        assert "another file" in problem(target, url)
    assert holds(target) == {}


def test_an_empty_part_does_not_stay(target):
    with serving({}) as server:
        url = f"{server.url}/faces.zip"
        cut_download(target, server, url).write_bytes(b"")
        server.routes["/faces.zip"] = Reply(404)
        assert "are kept" not in problem(target, url)
    assert holds(target) == {}


def test_a_complete_part_is_checked_without_a_request(target):
    with serving({}) as server:
        url = f"{server.url}/faces.zip"
        cut_download(target, server, url).write_bytes(CONTENT)
        get(target, url)
        assert len(server.requests) == 1
    assert holds(target) == {"faces.zip": CONTENT}


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"url": 1, "etag": 2}', '{"url": "URL", "etag": "W/1"}']
)
def test_a_part_of_unknown_origin_is_not_used(target, note):
    with serving({}) as server:
        url = f"{server.url}/faces.zip"
        cut_download(target, server, url)
        target.with_name(".faces.zip.part.json").write_text(note.replace("URL", url))
        get(target, url)
        assert ranges(server) == [None, None]
    assert holds(target) == {"faces.zip": CONTENT}


def test_a_part_is_deleted_when_the_file_exists(target):
    with serving({}) as server:
        cut_download(target, server, f"{server.url}/faces.zip")
        target.write_bytes(CONTENT)
        get(target, f"{server.url}/faces.zip")
    assert holds(target) == {"faces.zip": CONTENT}


@pytest.mark.parametrize("etag", [True, False])
def test_a_killed_download(target, etag):
    headers = {"ETag": '"1"'} if etag else {}
    code = (
        "import json, sys; from svae.datasets.fetch import fetch; fetch(**json.loads(sys.argv[1]))"
    )
    arguments = {
        "target": str(target),
        "known_hash": f"sha256:{SHA256}",
        "size": SIZE,
        "timeout": 60,
        "retries": 0,
        "progress": False,
        "by_hand": "",
    }
    with serving({"/faces.zip": Reply(200, CONTENT, headers, stop=CUT, how="stall")}) as server:
        url = f"{server.url}/faces.zip"
        arguments["urls"] = [url]
        child = subprocess.Popen([sys.executable, "-c", code, json.dumps(arguments)])
        part = target.with_name(".faces.zip.part")
        while child.poll() is None and not (part.exists() and part.stat().st_size):
            time.sleep(0.02)
        child.send_signal(signal.SIGKILL)
        child.wait()
        names = {".faces.zip.part"} | ({".faces.zip.part.json"} if etag else set())
        assert set(holds(target)) == names

        server.routes["/faces.zip"] = File(CONTENT)
        get(target, url)
        assert (ranges(server)[1] is not None) == etag
    assert holds(target) == {"faces.zip": CONTENT}


# --- The disk


def test_a_disk_that_fills_up(target):
    """A limit on the file size simulates a full disk: writing fails half-way."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with serving({"/faces.zip": File(CONTENT)}) as server:
        resource.setrlimit(resource.RLIMIT_FSIZE, (CUT, limits[1]))
        try:
            message = problem(target, f"{server.url}/faces.zip", retries=2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert message.startswith(f"{target} cannot be read or written (File too large; ")
    assert len(server.requests) == 1 and holds(target) == {}


def test_a_disk_that_is_too_small(target):
    with serving({"/faces.zip": File(CONTENT)}) as server:
        message = problem(target, f"{server.url}/faces.zip", size=10**18)
    assert message.startswith(f"faces.zip needs {10**18} bytes in {target.parent}, where ")
    assert server.requests == [] and holds(target) == {}


def test_a_folder_that_cannot_be_created(tmp_path, nobody):
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "faces.zip"
    assert problem(target, nobody).startswith(f"faces.zip cannot be stored at {target}: ")


def test_a_folder_with_the_name_of_the_file(target, nobody):
    target.mkdir(parents=True)
    assert "cannot be stored at" in problem(target, nobody)
    assert list(target.parent.iterdir()) == [target]


# --- Google Drive: gdown, through a proxy that plays Google's role


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def google(monkeypatch, tmp_path, authority):
    """The proxy, whose certificates are trusted, and a home folder, which must stay empty."""
    certificate = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(certificate))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "home"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    with serving_as(authority, {}) as server:
        monkeypatch.setenv("https_proxy", server.url)
        yield server
    assert list((tmp_path / "home").iterdir()) == []


def attached(body, **changed):
    return Reply(body=body, headers={"Content-Disposition": 'attachment; filename="x"'}, **changed)


CONFIRM = page(
    "Google Drive - Virus scan warning",
    '<form id="download-form" action="https://drive.usercontent.google.com/download" method="get">'
    '<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="0B7"/>'
    '<input type="hidden" name="confirm" value="t"/></form>',
)


def test_a_file_of_drive(target, google):
    google.routes["drive.google.com/uc"] = attached(CONTENT)
    get(target, DRIVE)
    assert [request.query for request in google.requests] == ["id=0B7EVK8r0v71pZjFTYXZWM3FlRnM"]
    assert holds(target) == {"faces.zip": CONTENT}


def test_drives_warning_is_passed(target, google):
    google.routes["drive.google.com/uc"] = CONFIRM
    google.routes["drive.usercontent.google.com/download"] = attached(CONTENT)
    get(target, DRIVE)
    assert google.requests[-1].query == "id=0B7&confirm=t"
    assert holds(target) == {"faces.zip": CONTENT}


BUSY = "Too many users have viewed or downloaded this file recently."
DRIVE_FAILURES = {
    "quota": (
        page("Google Drive - Quota exceeded", f'<p class="uc-error-subcaption">{BUSY}</p>'),
        False,
        f"Google Drive sent a page instead of the file: {BUSY}",
    ),
    "404": (
        Reply(404, page("Error 404").body, {"Content-Type": "text/html"}),
        False,
        "Google Drive sent a page instead of the file: Cannot retrieve the public link",
    ),
    "no type": (
        Reply(body=b"?", headers={"Content-Type": None}),
        False,
        "Google Drive sent an answer that gdown cannot read",
    ),
    "attached page": (
        attached(QUOTA.body),
        False,
        "received an HTML page ('Google Drive - Quota exceeded')",
    ),
    "wrong body": (
        attached(b"not it"),
        False,
        f"received another file (6 bytes, SHA256 {hashlib.sha256(b'not it').hexdigest()})",
    ),
    "longer": (
        attached(CONTENT + bytes(CUT)),
        False,
        f"received more than the {SIZE} bytes of the file",
    ),
    "503": (
        Reply(503, b"", {"Content-Disposition": "attachment"}),
        True,
        "503 Service Unavailable",
    ),
    "cut": (attached(CONTENT, stop=CUT), True, "Download is incomplete: received "),
    "stall": (
        attached(CONTENT, stop=CUT, how="stall"),
        True,
        f"no more data within {SOON} s",
    ),
    "silence": (SILENCE, True, f"no answer within {SOON} s"),
    "loop": (to(DRIVE), False, "too many redirects"),
    "to a file": (
        to("file:///etc/passwd"),
        False,
        "leads to an address that is neither http nor https",
    ),
}


@pytest.mark.parametrize(
    ("route", "again", "said"), DRIVE_FAILURES.values(), ids=DRIVE_FAILURES.keys()
)
def test_a_failure_of_drive(target, google, route, again, said):
    google.routes["drive.google.com/uc"] = route
    message = problem(target, DRIVE, timeout=patience(said), retries=1)
    line = re.search(rf"^  {re.escape(DRIVE)}: (.*)$", message, re.MULTILINE)[1]
    assert line.startswith(said) and line.endswith(" (2 attempts)") == again
    assert holds(target) == {}


@pytest.mark.slow
def test_drives_warning_repeated_without_end(target, google):
    google.routes["drive.google.com/uc"] = CONFIRM
    google.routes["drive.usercontent.google.com/download"] = CONFIRM
    message = problem(target, DRIVE, timeout=SOON)
    assert f"{DRIVE}: Google Drive sent page after page instead of the file\n" in message
    assert holds(target) == {}


@pytest.mark.slow
def test_a_file_of_drive_may_take_its_time(target, google):
    """The time limit for Drive ends as soon as a part of the file arrives."""
    large = random.Random(2).randbytes(1_000_000)
    google.routes["drive.google.com/uc"] = attached(large, stop=600_000, how="drip")
    known_hash = f"sha256:{hashlib.sha256(large).hexdigest()}"
    get(target, DRIVE, known_hash=known_hash, size=len(large), timeout=SOON)
    assert holds(target) == {"faces.zip": large}


def test_drive_truncated_then_complete(target, google):
    google.routes["drive.google.com/uc"] = [attached(CONTENT, stop=CUT), attached(CONTENT)]
    get(target, DRIVE, retries=1)
    assert holds(target) == {"faces.zip": CONTENT}


def test_a_page_of_drives_other_host(target, google):
    google.routes["drive.usercontent.google.com/download"] = QUOTA
    message = problem(target, "https://drive.usercontent.google.com/download?id=0B7")
    assert "received an HTML page ('Google Drive - Quota exceeded')" in message
    assert holds(target) == {}


def test_an_impostor_of_drive_gets_no_further(target, google, monkeypatch, tmp_path):
    stranger = tmp_path / "stranger.pem"
    trustme.CA().cert_pem.write_to_path(str(stranger))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(stranger))
    google.routes["drive.google.com/uc"] = attached(CONTENT)
    assert re.search(r"certificate verify failed", problem(target, DRIVE))
    assert google.requests == [] and holds(target) == {}


def test_a_mirror_of_drive(target, google):
    google.routes["drive.google.com/uc"] = DRIVE_FAILURES["quota"][0]
    with serving({"/faces.zip": Reply(body=CONTENT)}) as server:
        get(target, DRIVE, f"{server.url}/faces.zip")
    assert holds(target) == {"faces.zip": CONTENT}


def test_fetching_does_not_import_gdown_for_other_hosts():
    code = "import svae.datasets.fetch, sys; print('gdown' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
