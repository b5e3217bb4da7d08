import gzip
import hashlib
import http.server
import socket
import stat
import threading

import pytest

from svae.datasets.fetch import fetch
from svae.errors import UserError

CONTENT = gzip.compress(bytes(range(256)) * 40, mtime=0)
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        status, body, headers = {
            "/right": (200, CONTENT, {}),
            "/wrong": (200, b"<html>quota exceeded</html>", {}),
            "/cut": (200, CONTENT[:100], {"Content-Length": str(len(CONTENT))}),
            "/late": (503 if len(self.server.requests) == 1 else 200, CONTENT, {}),
            "/labelled": (200, CONTENT, self.gzip_label()),
        }.get(self.path, (404, b"", {}))
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def gzip_label(self):
        """As a server does that takes a .gz for a compressed transfer."""
        accepted = "gzip" in self.headers.get("Accept-Encoding", "")
        return {"Content-Encoding": "gzip"} if accepted else {}

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.requests = []
        server.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("known_hash", [SHA256, MD5], ids=["sha256", "md5"])
@pytest.mark.parametrize("path", ["right", "labelled"])
def test_the_right_file_arrives(tmp_path, server, path, known_hash):
    target = tmp_path / "deep" / "archive.tar.gz"
    fetch(f"{server.url}/{path}", target, known_hash, progress=False, retries=0)
    assert target.read_bytes() == CONTENT
    assert [file.name for file in target.parent.iterdir()] == ["archive.tar.gz"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("progress", [False, True])
def test_progress_is_shown_on_request(tmp_path, server, capsys, progress):
    fetch(f"{server.url}/right", tmp_path / "archive", SHA256, progress=progress, retries=0)
    assert ("100%" in capsys.readouterr().err) == progress


def test_a_file_that_is_there_is_not_fetched_again(tmp_path, server):
    target = tmp_path / "archive"
    target.write_bytes(CONTENT)
    fetch(f"{server.url}/right", target, SHA256, progress=False, retries=0)
    assert server.requests == []


def test_a_damaged_file_is_replaced(tmp_path, server):
    target = tmp_path / "archive"
    target.write_bytes(CONTENT[:50])
    fetch(f"{server.url}/right", target, SHA256, progress=False, retries=0)
    assert target.read_bytes() == CONTENT


def test_a_failed_attempt_is_repeated(tmp_path, server):
    fetch(f"{server.url}/late", tmp_path / "archive", SHA256, progress=False, retries=1)
    assert (tmp_path / "archive").read_bytes() == CONTENT
    assert len(server.requests) == 2


@pytest.mark.parametrize("existing", [None, b"older"])
@pytest.mark.parametrize(
    ("path", "problem"), [("missing", "404"), ("wrong", "hash"), ("cut", "(?i)incomplete|hash")]
)
def test_a_failure_is_explained_and_leaves_nothing_half_written(
    tmp_path, server, path, problem, existing
):
    target = tmp_path / "archive.tar.gz"
    if existing:
        target.write_bytes(existing)
    url = f"{server.url}/{path}"
    with pytest.raises(UserError, match=problem) as caught:
        fetch(url, target, SHA256, progress=False, retries=0)
    message = str(caught.value)
    assert message.startswith(f"archive.tar.gz could not be downloaded from {url}: ")
    assert f"put the file at {target} by hand" in message
    assert "`sources: {NAME: {archive: PATH, sha256: HEX}}`" in message
    left = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    assert left == ({"archive.tar.gz": existing} if existing else {})


def test_no_server(tmp_path, monkeypatch):
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/archive"
    with pytest.raises(UserError, match=r"(?i)connection"):
        fetch(url, tmp_path / "archive", SHA256, progress=False, retries=0)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path, server):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="put the file at"):
        fetch(f"{server.url}/right", tmp_path / "file" / "archive", SHA256, False, retries=0)
