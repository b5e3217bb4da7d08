"""Atomic writing of files; logs that show only the message of a user error."""

import contextlib
import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from svae.errors import UserError
from svae.jobs.files import file_hash, read_json, read_npz, replacing, write_json
from svae.jobs.logs import log_to


def test_replacing_renames_at_the_end(tmp_path):
    target = tmp_path / "new" / "a.weights.h5"
    with replacing(target) as temporary:
        temporary.write_text("content")
        assert not target.exists() and temporary.name.endswith(".weights.h5")
    assert target.read_text() == "content"
    assert [path.name for path in target.parent.iterdir()] == ["a.weights.h5"]


def test_replacing_leaves_the_old_file_after_an_error(tmp_path):
    target = tmp_path / "a.json"
    target.write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_json_refuses_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, None]})
    assert read_json(tmp_path / "a.json") == {"a": [1, None]}
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "b.json", {"a": float("nan")})
    assert not (tmp_path / "b.json").exists()


def test_json_of_another_order_or_with_numbers_as_keys(tmp_path):
    first, second = tmp_path / "a.json", tmp_path / "b.json"
    write_json(first, {"seeds": {2: 0.5, 10: (1, 2)}, "b": 1})
    write_json(second, {"b": 1, "seeds": {10: (1, 2), 2: 0.5}})
    assert read_json(first) == read_json(second) == {"seeds": {"2": 0.5, "10": [1, 2]}, "b": 1}
    assert json.loads(first.read_text()) == json.loads(second.read_text())
    first.write_text(first.read_text().replace("0.5", "0.6"))
    with pytest.raises(UserError, match="damaged"):
        read_json(first)


ARRAYS = {
    "numbers": np.arange(6.0).reshape(2, 3),
    "by columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "one number": np.float32(3),
    "a text": np.array("Zoë"),
    "texts": np.array([["a", "bcd"], ["", "e"]]),
    "truth values": np.array([True, False]),
    "nothing": np.zeros((0, 3), np.uint8),
    "records": np.zeros(3, [("a", "i4"), ("b", "U3")]),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_arrays_are_read_as_numpy_reads_them(tmp_path, array):
    np.savez(tmp_path / "a.npz", a=array)
    found, expected = read_npz(tmp_path / "a.npz")["a"], np.load(tmp_path / "a.npz")["a"]
    assert np.array_equal(found, expected) and found.dtype == expected.dtype
    assert found.flags.writeable and found.shape == expected.shape
    assert found.flags.f_contiguous == expected.flags.f_contiguous


@pytest.mark.parametrize("count", [10, 10**6, 10**12, 10**18])
def test_an_array_that_claims_more_than_it_has_is_damaged(tmp_path, count):
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({count},), }}\n".encode()
    content = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header + bytes(72)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as file:
        file.writestr("a.npy", content)
    with pytest.raises(UserError, match=r"a\.npz is damaged"):
        read_npz(tmp_path / "a.npz")


def test_file_hash(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert file_hash(tmp_path / "a") == hashlib.sha256(b"abc").hexdigest()
    assert file_hash(tmp_path / "a", "md5") == hashlib.md5(b"abc").hexdigest()


@pytest.fixture(autouse=True)
def handlers():
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before, level
    logging.captureWarnings(False)


def test_a_user_error_is_shown_as_its_message_only(tmp_path, capsys):
    with pytest.raises(SystemExit) as end, log_to(tmp_path / "logs" / "a.log"):
        logging.info("begins")
        raise UserError("the key x is wrong; write y")
    assert end.value.code == 1
    shown, kept = capsys.readouterr().err, (tmp_path / "logs" / "a.log").read_text()
    assert shown == "begins\nError: the key x is wrong; write y\n"
    assert "INFO begins" in kept and "the key x is wrong" in kept and "Traceback" not in kept


def test_other_errors_leave_their_traceback_in_the_log(tmp_path, capsys):
    with pytest.raises(SystemExit) as end, log_to(tmp_path / "a.log"):
        raise ZeroDivisionError("oh")
    assert "ZeroDivisionError: oh" in str(end.value) and str(tmp_path / "a.log") in str(end.value)
    assert "Traceback" not in capsys.readouterr().err
    assert "Traceback" in (tmp_path / "a.log").read_text()


@pytest.mark.parametrize("other", [None, "", "Error: another process is still writing\n"])
def test_a_log_that_another_process_replaces_is_written_again(tmp_path, other):
    log = tmp_path / "a.log"
    with log_to(log):
        logging.info("one")
        logging.info("two")
        log.unlink()
        if other is not None:
            log.write_text(other)
        logging.info("three")
    lines = log.read_text().splitlines(keepends=True)
    assert "".join(lines[:-3]) == (other or "")
    assert [line.split()[-1] for line in lines[-3:]] == ["one", "two", "three"]


def test_importing_svae_imports_no_tensorflow():
    code = "import svae, sys; print(sorted({'tensorflow', 'h5py', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# Listings of folders ---


class TestAPowerCut:
    def test_content_is_on_the_disk_before_it_has_its_name(self, tmp_path, monkeypatch):
        target = tmp_path / "a.json"
        events = []
        sync, replace = os.fsync, type(target).replace

        def name_of(handle):
            return Path(f"/proc/self/fd/{handle}").readlink()

        def noting_sync(handle):
            events.append(("sync", name_of(handle)))
            sync(handle)

        def noting_replace(self, other):
            events.append(("rename", self))
            return replace(self, other)

        monkeypatch.setattr(os, "fsync", noting_sync)
        monkeypatch.setattr(type(target), "replace", noting_replace)
        with replacing(target) as temporary:
            temporary.write_text("content")
        assert events == [("sync", temporary), ("rename", temporary), ("sync", tmp_path)]
        assert target.read_text() == "content"


ERRORS = {
    "chmod is not permitted": ("chmod", errno.EPERM, True),
    "chmod is not supported": ("chmod", errno.ENOTSUP, True),
    "fsync is not supported": ("fsync", errno.EINVAL, True),
    "fsync finds the disk full": ("fsync", errno.ENOSPC, False),
    "fsync finds the quota exceeded": ("fsync", errno.EDQUOT, False),
    "fsync finds an error of the disk": ("fsync", errno.EIO, False),
    "rename finds the disk full": ("rename", errno.ENOSPC, False),
}


@pytest.mark.parametrize(("call", "number", "written"), ERRORS.values(), ids=ERRORS)
def test_errors_of_a_file_system(tmp_path, monkeypatch, call, number, written):
    """Niceties may be refused; what loses content leaves the old file, and nothing else."""
    target = tmp_path / "a.json"
    target.write_text("old")

    def failing(*arguments, **options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, call, failing)
    if call == "rename":
        monkeypatch.setattr(os, "replace", failing)
    with contextlib.ExitStack() as stack:
        if not written:
            stack.enter_context(pytest.raises(UserError, match=r"bytes free"))
        with replacing(target) as temporary:
            temporary.write_text("new")
    assert target.read_text() == ("new" if written else "old")
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk_is_one_line(tmp_path):
    with (
        pytest.raises(UserError, match=r"a\.json cannot be written: no space left on the disk of"),
        replacing(tmp_path / "a.json"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []
