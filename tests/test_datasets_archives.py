import os
import pickle
import tarfile

import archives
import numpy as np
import pytest

from svae.datasets.archives import tar_members, unpickle_arrays
from svae.errors import UserError

CONTENTS = {"folder/a": b"alpha", "folder/b": bytes(range(256)) * 100, "c": b"", "other": b"no"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_wanted_members_are_yielded_by_base_name(tmp_path, mode):
    path = archives.write_tar(tmp_path / "archive", CONTENTS, mode)
    found = list(tar_members(path, {"a", "b", "c", "absent"}, limit=100_000))
    assert found == [("a", b"alpha"), ("b", CONTENTS["folder/b"]), ("c", b"")]


def test_nothing_is_extracted_and_links_are_passed_over(tmp_path):
    folder = tmp_path / "inner"
    folder.mkdir()
    path = archives.write_tar(folder / "archive.tar", {"../../escaped": b"content"}, "w")
    with tarfile.open(path, "a") as tar:
        for name, kind in [("link", tarfile.SYMTYPE), ("hard", tarfile.LNKTYPE)]:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    found = list(tar_members(path, {"escaped", "link", "hard"}, limit=100))
    assert found == [("escaped", b"content")]
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["archive.tar", "inner"]


@pytest.mark.parametrize(("limit", "refused"), [(100, False), (99, True)])
def test_a_member_above_the_limit_is_refused(tmp_path, limit, refused):
    path = archives.write_tar(tmp_path / "archive", {"big": bytes(100)})
    if refused:
        with pytest.raises(UserError, match=r"archive: big has 100 bytes, more than the 99"):
            list(tar_members(path, {"big"}, limit))
    else:
        assert list(tar_members(path, {"big"}, limit)) == [("big", bytes(100))]


def test_a_member_that_claims_too_much_is_refused_unread(tmp_path):
    member = tarfile.TarInfo("big")
    member.size = 1 << 40
    path = tmp_path / "archive"
    path.write_bytes(member.tobuf() + bytes(1024))
    with pytest.raises(UserError, match="more than the 10"):
        list(tar_members(path, {"big"}, limit=10))


def test_a_member_that_is_there_twice_is_refused(tmp_path):
    path = archives.write_tar(tmp_path / "archive", {"x/a": b"1", "y/a": b"2"})
    with pytest.raises(UserError, match=r"archive holds a twice"):
        list(tar_members(path, {"a"}, limit=10))


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>quota exceeded</html>", b"\x1f\x8b" + bytes(50), b"PK\x03\x04" + bytes(600)],
    ids=["empty", "web page", "bad gzip", "zip"],
)
def test_what_is_no_tar_archive_is_refused(tmp_path, content):
    path = tmp_path / "archive.tar.gz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"archive\.tar\.gz cannot be read as a tar archive"):
        list(tar_members(path, {"a"}, limit=10))


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_truncated_archive_is_refused(tmp_path, mode):
    noise = np.random.default_rng(0).bytes(200_000)
    path = archives.write_tar(tmp_path / "archive", {"a": noise}, mode)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(UserError, match=r"archive cannot be read as a tar archive.*truncated"):
        list(tar_members(path, {"a"}, limit=1 << 20))


@pytest.mark.parametrize(
    "batch",
    [archives.python2_batch, archives.numpy1_batch, archives.python3_batch],
)
def test_arrays_are_unpickled_as_any_numpy_wrote_them(batch):
    images = archives.numbered_images(3)
    content = batch(images)
    expected = np.frombuffer(b"".join(archives.planes(images)), np.uint8).reshape(3, 3072)
    # numpy's own unpickling agrees that the generated content is what it should be.
    assert np.array_equal(pickle.loads(content, encoding="bytes")[b"data"], expected)
    data = unpickle_arrays(content, "batch")[b"data"]
    assert type(data) is np.ndarray
    assert data.dtype == np.uint8
    assert np.array_equal(data, expected)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4])
@pytest.mark.parametrize(
    "array",
    [
        np.array([True, False]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype="<u2").reshape(2, 3)),
        np.float64([[1.5, -2.5]]),
    ],
    ids=["bool", "big endian", "column-major", "float"],
)
def test_any_numeric_array_survives(array, protocol):
    loaded = unpickle_arrays(pickle.dumps({"x": array, "y": [1, None]}, protocol), "batch")
    assert loaded["y"] == [1, None]
    assert loaded["x"].dtype == array.dtype
    np.testing.assert_array_equal(loaded["x"], array)


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def system_call(protocol):
    return lambda path: pickle.dumps({"data": Calls(os.system, f"touch {path}")}, protocol)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        *((system_call(protocol), "posix.system") for protocol in range(6)),
        (lambda path: pickle.dumps(Calls(eval, f"open({str(path)!r}, 'w')"), 2), "builtin.*eval"),
        (lambda path: pickle.dumps(Calls(np.save, path, np.zeros(1)), 2), "numpy"),
        (lambda path: b"\x80\x04\x8c\x05numpy\x8c\x07os.path\x93.", r"numpy\.os\.path"),
        (lambda path: pickle.dumps(Calls(getattr, "", "join"), 2), "getattr"),
        (lambda path: pickle.dumps({"data": np.uint8(3)}, 2), "scalar"),
        (lambda path: pickle.dumps({"data": 1 + 2j}, 2), "complex"),
    ],
)
def test_a_pickle_that_asks_for_more_is_refused_and_not_run(tmp_path, make, name):
    canary = tmp_path / "canary"
    with pytest.raises(UserError, match=rf"batch is a pickle that asks for \S*{name}"):
        unpickle_arrays(make(canary), "batch")
    assert not canary.exists()


DTYPE_BUILD = b"\x80\x02}X\x04\x00\x00\x00datacnumpy\nndarray\nK\x01\x85Rs."
NO_STATE = b"\x80\x02}K\x01cnumpy.core.multiarray\n_reconstruct\n)Rs."


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        archives.python3_batch(archives.numbered_images(1))[:500],
        pickle.dumps([1, 2]),
        DTYPE_BUILD,
        NO_STATE,
        pickle.dumps({1: Calls(__import__("_codecs").encode, "eval", "rot13")}, 2),
        archives.python3_batch(archives.numbered_images(1)).replace(b"M\x00\x0c", b"M\x01\x0c"),
    ],
    ids=[
        "empty",
        "text",
        "truncated",
        "list",
        "array called",
        "array without content",
        "other codec",
        "wrong shape",
    ],
)
def test_a_damaged_pickle_is_a_user_error(content):
    with pytest.raises(UserError, match=r"batch cannot be read as pickled arrays .+fetch it again"):
        unpickle_arrays(content, "batch")


@pytest.mark.parametrize("array", [np.array([None, {}], object), np.array(["text"])])
def test_arrays_of_anything_but_numbers_are_refused(array):
    with pytest.raises(UserError, match=r"arrays of type [OU]\d+ are not read"):
        unpickle_arrays(pickle.dumps({"data": array}, 2), "batch")
