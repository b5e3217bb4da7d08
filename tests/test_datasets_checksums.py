"""A source file is hashed once, and again as soon as it changes."""

import errno
import hashlib
import json
import os
import shutil
import time

import pytest
from helpers import sources
from helpers.servers import File, serving

from svae.datasets.checksums import checksums, keep_checksums
from svae.datasets.convert import convert
from svae.datasets.fetch import fetch
from svae.datasets.verify import verify
from svae.errors import UserError

CONTENT = bytes(range(256)) * 10_000
TICK = 0.05  # seconds: more than the resolution of file times


def hexadecimal(content, algorithm="sha256"):
    return getattr(hashlib, algorithm)(content).hexdigest()


@pytest.fixture
def hashed(monkeypatch):
    """Counts the bytes that hashlib digests, by algorithm."""
    counts = {}
    new, file_digest = hashlib.new, hashlib.file_digest

    class Counted:
        def __init__(self, algorithm):
            self.algorithm, self.digest = algorithm, new(algorithm)

        def update(self, chunk):
            counts[self.algorithm] = counts.get(self.algorithm, 0) + len(chunk)
            self.digest.update(chunk)

        def hexdigest(self):
            return self.digest.hexdigest()

    def counted_file(file, algorithm):
        counts[algorithm] = counts.get(algorithm, 0) + os.fstat(file.fileno()).st_size
        return file_digest(file, algorithm)

    monkeypatch.setattr(hashlib, "new", Counted)
    monkeypatch.setattr(hashlib, "file_digest", counted_file)
    return counts


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "faces.zip"
    path.write_bytes(CONTENT)
    return path


def test_kept_checksums_are_not_computed_again(path, hashed):
    expected = {"md5": hexadecimal(CONTENT, "md5"), "sha256": hexadecimal(CONTENT)}
    assert checksums(path, "md5", "sha256", keep=True) == expected
    assert hashed == {"md5": len(CONTENT), "sha256": len(CONTENT)}
    assert checksums(path, "md5", "sha256") == expected
    assert checksums(path, "sha256") == {"sha256": expected["sha256"]}
    assert hashed == {"md5": len(CONTENT), "sha256": len(CONTENT)}


def test_another_algorithm_is_added(path, hashed):
    checksums(path, "sha256", keep=True)
    checksums(path, "md5", keep=True)
    checksums(path, "sha256", "md5")
    assert hashed == {"md5": len(CONTENT), "sha256": len(CONTENT)}


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC, errno.EXDEV])
def test_checksums_that_cannot_be_kept_are_no_error(path, monkeypatch, number):
    def refuse(**where):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    assert checksums(path, "sha256", keep=True) == {"sha256": hexadecimal(CONTENT)}
    assert list(path.parent.iterdir()) == [path]


def test_nothing_is_kept_unless_asked_for(path):
    checksums(path, "sha256")
    assert list(path.parent.iterdir()) == [path]


def edit(path):
    with path.open("r+b") as file:
        file.write(b"another")


def edit_and_hide_it(path):
    status = path.stat()
    edit(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_by_one_as_old(path):
    status = path.stat()
    other = path.with_name("other")
    other.write_bytes(b"another" + CONTENT[7:])
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)


def set_clock_back(path):
    edit(path)
    os.utime(path, (0, 0))


@pytest.mark.parametrize("change", [edit, edit_and_hide_it, replace_by_one_as_old, set_clock_back])
def test_a_changed_file_is_detected(path, change):
    checksums(path, "sha256", keep=True)
    time.sleep(TICK)
    change(path)
    expected = {"sha256": hexadecimal(b"another" + CONTENT[7:])}
    assert checksums(path, "sha256", keep=True) == expected
    assert checksums(path, "sha256") == expected


def test_a_copy_with_its_note_is_read_again(path, tmp_path, hashed):
    checksums(path, "sha256", keep=True)
    twin = tmp_path / "twin"
    twin.mkdir()
    for each in [*tmp_path.glob(".*.json"), path]:
        shutil.copy2(each, twin)
    checksums(twin / path.name, "sha256")
    assert hashed == {"sha256": 2 * len(CONTENT)}


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"stamp": STAMP}', '{"stamp": STAMP, "checksums": 1}', "\\xff"]
)
def test_a_damaged_note_is_not_used(path, note):
    checksums(path, "sha256", keep=True)
    place = path.with_name(".faces.zip.checksums.json")
    stamp = json.dumps(json.loads(place.read_text())["stamp"])
    place.write_text(note.replace("STAMP", stamp))
    assert checksums(path, "sha256") == {"sha256": hexadecimal(CONTENT)}


def test_the_file_is_read_again_if_no_note_can_be_written(path, hashed):
    path.with_name(".faces.zip.checksums.json").mkdir()
    keep_checksums(path, {"sha256": "0"})
    for _ in range(2):
        checksums(path, "sha256", keep=True)
    assert hashed == {"sha256": 2 * len(CONTENT)}


# --- From the download to the store


@pytest.fixture
def published(tmp_path):
    """An archive in CIFAR-10's layout, and its checksum and size."""
    (tmp_path / "server").mkdir()
    content = sources.cifar10(tmp_path / "server")["archive"].read_bytes()
    return content, {"known_hash": f"sha256:{hexadecimal(content)}", "size": len(content)}


@pytest.fixture
def target(tmp_path):
    target = tmp_path / "data" / "raw" / "cifar10" / "cifar.tar.gz"
    target.parent.mkdir(parents=True)
    return target


def get(target, published, url):
    fetch(target, [url], timeout=10, retries=0, progress=False, by_hand="", **published)


def use(target, published):
    """What the rule `convert` does."""
    verify(target, by_hand="", **published)
    return convert("cifar10", {"archive": target}, target.parents[2] / "cifar10.h5")


def test_a_fetched_file_is_hashed_once(target, published, hashed):
    content, known = published
    with serving({"/cifar.tar.gz": File(content)}) as server:
        get(target, known, f"{server.url}/cifar.tar.gz")
        get(target, known, f"{server.url}/cifar.tar.gz")
        assert len(server.requests) == 1
    attributes = use(target, known)
    assert hashed == {"sha256": len(content)}
    assert attributes["source_sha256"] == {"archive": known["known_hash"].partition(":")[2]}


def test_a_file_placed_by_hand_is_hashed_once(target, published, hashed):
    content, known = published
    target.write_bytes(content)
    use(target, known)
    use(target, known)
    assert hashed == {"sha256": len(content)}


def test_a_file_that_is_changed_after_fetching_is_refused(target, published):
    content, known = published
    with serving({"/cifar.tar.gz": File(content)}) as server:
        get(target, known, f"{server.url}/cifar.tar.gz")
    time.sleep(TICK)
    edit_and_hide_it(target)
    with pytest.raises(UserError, match="is another file"):
        use(target, known)
    assert [path.name for path in target.parent.iterdir()] == ["cifar.tar.gz.refused"]


def test_a_file_that_the_user_names_gets_no_note(target, published):
    content, _ = published
    target.write_bytes(content)
    convert("cifar10", {"archive": target}, target.parents[2] / "cifar10.h5")
    assert [path.name for path in target.parent.iterdir()] == ["cifar.tar.gz"]
