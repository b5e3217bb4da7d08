"""Leftovers of killed or failed writers, and full disks."""

import contextlib
import errno
import fcntl
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from svae.errors import UserError
from svae.jobs.disk import disk_explained, only_writer, remove_leftovers, scratch_folder
from svae.jobs.files import replacing
from svae.jobs.hdf5 import File, LateErrors, new_hdf5


@pytest.mark.parametrize("fails", [False, True])
def test_a_scratch_folder_is_new_and_is_deleted(tmp_path, fails):
    target = tmp_path / "data" / "a.h5"
    with contextlib.suppress(RuntimeError), scratch_folder(target) as folder:
        assert folder.parent == target.parent and folder.name.startswith(".")
        assert list(folder.iterdir()) == []
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
        if fails:
            raise RuntimeError
    assert list(target.parent.iterdir()) == []


def test_only_the_leftovers_of_this_target_are_removed(tmp_path):
    remove_leftovers(tmp_path / "absent" / "a.h5")
    kept = ["a.h5", "b.h5", ".hidden", ".12345678-b.h5", ".abcd_123-my-a.h5", ".1-a.h5"]
    for name in kept:
        (tmp_path / name).write_text("")
    code = f"""
import os
from svae.jobs.disk import scratch_folder
from svae.jobs.files import replacing
with scratch_folder({str(tmp_path / "a.h5")!r}) as folder, replacing({str(tmp_path / "a.h5")!r}):
    (folder / "file").write_text("x")
    os.kill(os.getpid(), 9)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert len(list(tmp_path.iterdir())) == len(kept) + 2
    remove_leftovers(tmp_path / "a.h5")
    with scratch_folder(tmp_path / "a.h5") as folder:
        assert list(folder.iterdir()) == []
    assert {path.name for path in tmp_path.iterdir()} == set(kept)


PROBLEMS = {
    errno.ENOSPC: "cannot be written: no space left on",
    errno.EDQUOT: "cannot be written: your quota is exceeded on",
    errno.EIO: r"cannot be read or written \(Input/output error;",
    errno.EROFS: r"cannot be read or written \(Read-only file system;",
    errno.EPERM: r"cannot be read or written \(Operation not permitted;",
    errno.ESTALE: r"cannot be read or written \(Stale file handle;",
}


@pytest.mark.parametrize("number", PROBLEMS)
def test_errors_of_the_disk_are_user_errors(tmp_path, number):
    message = rf"a\.h5 {PROBLEMS[number]}.*bytes free.*on another disk\.$"
    with pytest.raises(UserError, match=message), disk_explained(tmp_path / "a.h5"):
        raise OSError(number, os.strerror(number))


def test_other_errors_of_the_disk_are_not_converted(tmp_path):
    with pytest.raises(FileExistsError), disk_explained(tmp_path / "a.h5"):
        raise FileExistsError(errno.EEXIST, "exists")


def test_the_error_names_the_file_that_is_refused(tmp_path):
    source = tmp_path / "elsewhere" / "source"
    with (
        pytest.raises(UserError, match=rf"^{source} cannot be read"),
        disk_explained(tmp_path / "a"),
    ):
        raise PermissionError(errno.EACCES, "denied", str(source))


def test_the_temporary_file_of_a_living_writer_stays(tmp_path):
    """Threads and processes that write one file do not disturb each other."""
    target = tmp_path / "a.json"
    with replacing(target) as first:
        first.write_text("first")
        with replacing(target) as second:
            second.write_text("second")
            assert first.exists()
    assert target.read_text() == "first" and list(tmp_path.iterdir()) == [target]


def test_the_next_writer_removes_what_a_dead_one_left(tmp_path):
    for name in (".abcdefgh-a.json", ".a_c1e2gh-a.json", ".abcdefgh-b.json"):
        (tmp_path / name).write_text("half")
    with replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("{}")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", ".abcdefgh-b.json"}


def test_late_errors_behaves_like_a_file(tmp_path):
    """The same calls on it and on Python's own file give the same results and content."""
    content = os.urandom(1000)
    answers = []
    for opened in (LateErrors(tmp_path / "a"), (tmp_path / "b").open("w+b", buffering=0)):
        buffer = bytearray(300)
        with opened as file:
            answers.append(
                [
                    file.write(content),
                    file.seek(100),
                    file.write(memoryview(content)[:50]),
                    file.tell(),
                    file.seek(-300, os.SEEK_END),
                    file.readinto(buffer),
                    bytes(buffer),
                    file.seek(10),
                    file.seek(5, os.SEEK_CUR),
                    file.read(20),
                    file.truncate(900),
                    file.seek(0, os.SEEK_END),
                ]
            )
            file.flush()
    assert answers[0] == answers[1]
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("checked", [False, True])
def test_late_errors_are_raised_later(tmp_path, checked):
    """A limit of 1,000 bytes per file (RLIMIT_FSIZE) simulates a full disk."""
    code = f"""
import resource, signal
from svae.jobs.hdf5 import File, LateErrors, new_hdf5
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
with LateErrors({str(tmp_path / "a")!r}) as file:
    print(file.write(b"x" * 900), file.write(b"y" * 300), file.write(b"z"), file.truncate(2000))
    buffer = bytearray(b"?" * 20)
    file.seek(1100), file.readinto(buffer)
    print(buffer.count(0), file.seek(0, 2))
    if {checked}:
        file.check()
    print("end of the block")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    end = "" if checked else "end of the block\n"
    assert done.stdout == f"900 300 1 2000\n20 2000\n{end}"
    assert done.returncode == 1 and "OSError: [Errno 27] File too large" in done.stderr


@pytest.mark.parametrize("fits", [True, False])
def test_a_new_hdf5_file_on_a_full_disk(tmp_path, fits):
    """The error is one of Python, and the interpreter survives it, which HDF5 alone does not."""
    code = f"""
import resource, signal
import numpy as np
from svae.errors import UserError
from svae.jobs.hdf5 import new_hdf5
from svae.jobs.files import replacing
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with replacing({str(tmp_path / "a.h5")!r}) as temporary, new_hdf5(temporary) as file:
        file["a"] = np.arange(float({5_000 if fits else 50_000}))
        print("written")
except UserError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, *rest = done.stdout.splitlines()
    assert first == "written" and all("(File too large; " in line for line in rest)
    assert len(rest) == (0 if fits else 1)
    assert [path.name for path in tmp_path.iterdir()] == (["a.h5"] if fits else [])
    if fits:
        with h5py.File(tmp_path / "a.h5") as file:
            assert (file["a"][:] == np.arange(5000)).all()


def test_a_file_that_is_locked_or_open_elsewhere_can_be_read(tmp_path):
    path = tmp_path / "a.h5"
    with new_hdf5(path) as file:
        file.add("a", np.arange(3))
    with path.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            h5py.File(path, "r")
        with File(path, "remedy") as file:
            assert list(file["a"][:]) == [0, 1, 2]
    with h5py.File(path, "r"), File(path, "remedy") as file:
        assert list(file["a"][:]) == [0, 1, 2]


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_a_file_system_without_locks(tmp_path, monkeypatch, caplog, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    target = tmp_path / "seed-0"
    with only_writer(target), replacing(target) as temporary:
        temporary.write_text("content")
    assert target.read_text() == "content"
    assert [path.name for path in tmp_path.iterdir()] == ["seed-0"]
    (line,) = caplog.messages
    assert f"{target} cannot be locked on this file system" in line
