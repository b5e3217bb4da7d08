"""Prepared pictures: the same from any number of processes, none of which is left at the end."""

import contextlib
import io
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import psutil
import pytest
from PIL import Image

from svae.datasets.formats import decoding
from svae.datasets.formats.decoding import BrokenImage, Recipe, prepare
from svae.datasets.readers import Picture
from svae.datasets.workers import _alone, prepared
from svae.errors import UserError

HANGS = 300  # seconds
RECIPE = Recipe(crop=20, size=10, channels=3)


def png(number):
    """A picture of one colour, which encodes its number."""
    buffer = io.BytesIO()
    Image.new("RGB", (24, 30), (number & 255, number >> 8, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def pictures(count, broken=()):
    for number in range(count):
        content = b"no image" if number in broken else png(number)
        yield Picture(("train", "valid", "test")[number % 3], f"picture {number}", content)


def workers():
    return [
        process
        for process in psutil.Process().children(recursive=True)
        if "svae.datasets.workers" in " ".join(process.cmdline())
    ]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("count", [0, 1, 64, 1000])
def test_every_picture_is_yielded_once_and_in_order(processes, count):
    blocks = prepared(pictures(count, broken=(5, 200)), RECIPE, processes)
    found = list(itertools.chain.from_iterable(blocks))
    assert [one.name for one in found] == [f"picture {number}" for number in range(count)]
    for number, (split, _, image, _) in enumerate(found):
        assert split == ("train", "valid", "test")[number % 3]
        if number in (5, 200):
            assert isinstance(image, BrokenImage) and "PNG" in str(image)
        else:
            assert image.shape == (10, 10, 3) and image.dtype == np.uint8
            assert (image == (number & 255, number >> 8, 7)).all()
    assert workers() == []


ARRAY = np.arange(30 * 24 * 3, dtype=np.uint8).reshape(30, 24, 3)


@pytest.mark.parametrize(
    ("content", "recipe", "processes", "started"),
    [
        (ARRAY, Recipe(None, None, 3), 2, 0),
        (ARRAY, Recipe(20, None, 3), 2, 2),
        (ARRAY, Recipe(None, None, 1), 2, 2),
        (png(1), Recipe(None, None, 3), 3, 3),
        (png(1), Recipe(None, None, 3), 1, 0),
    ],
)
def test_processes_are_started_only_if_there_is_work(content, recipe, processes, started):
    blocks = prepared((Picture("train", "a", content) for _ in range(2000)), recipe, processes)
    next(blocks)
    assert len(workers()) == started
    blocks.close()
    assert workers() == []


def test_no_more_processes_than_blocks():
    blocks = prepared(pictures(70), RECIPE, 8)
    next(blocks)
    assert len(workers()) == 2
    assert len(list(blocks)) == 1


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("size", [100, 3 << 20])
def test_a_bounded_number_of_blocks_is_read_ahead(processes, size):
    read = 0

    def source():
        nonlocal read
        for read in range(1, 10_000):  # noqa: B007
            yield Picture("train", "a", b"x" * size)

    blocks = prepared(source(), RECIPE, processes)
    for block in itertools.islice(blocks, 20):
        assert len(block) * size <= 4 << 20
        time.sleep(0.005)
    blocks.close()
    assert read <= (20 + 3 * processes) * (64 if size == 100 else 1)


def test_an_error_of_the_reader_ends_all_workers():
    def source():
        yield from pictures(1000)
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        list(prepared(source(), RECIPE, 2))
    assert workers() == []


def test_a_programming_error_in_a_worker_shows_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)in a worker process.*Traceback.*TypeError"):
        list(prepared(pictures(3), Recipe(20, 10.5, 3), 2))
    assert workers() == []


# A message of several megabytes, in the middle of which the signal often arrives.
@pytest.mark.parametrize("moment", [0.0, 0.01, 0.02, 0.05, 0.1])
def test_a_killed_worker_is_an_error_at_once(moment):
    endless = (Picture("train", "a", np.tile(ARRAY, (60, 40, 1))) for _ in itertools.count())
    blocks = prepared(endless, Recipe(None, None, 1), 3)
    next(blocks)
    time.sleep(moment)
    workers()[1].kill()
    with pytest.raises(UserError, match=r"killed by SIGKILL.*memory.*--cores"):
        for _ in itertools.islice(blocks, 100):  # many more than are in progress
            pass
    assert workers() == []


SCRIPT = """
import itertools, sys
print("imported", flush=True)
from svae.datasets.formats.decoding import Recipe
from svae.datasets.readers import Picture
from svae.datasets.workers import _alone, prepared

content = bytes.fromhex(sys.argv[1])
endless = (Picture("train", "a", content) for _ in itertools.count())
for number, _ in enumerate(prepared(endless, Recipe(20, 10, 3), 2)):
    if number == 1:
        print("works", flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Start a script, without `if __name__ == "__main__"`, and wait for its workers."""
    path = tmp_path / "endless.py"
    path.write_text(SCRIPT)
    started = []

    def start(**settings):
        command = [sys.executable, path, png(1).hex()]
        process = subprocess.Popen(command, text=True, stdout=-1, stderr=-1, **settings)
        started.append(process)
        assert [process.stdout.readline() for _ in range(2)] == ["imported\n", "works\n"]
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) == 2
        return process, children

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"])
def test_no_worker_outlives_the_script(start, name):
    script, children = start()
    script.send_signal(getattr(signal, name))
    assert psutil.wait_procs(children, timeout=HANGS)[1] == []
    output, errors = script.communicate()
    assert script.returncode == -getattr(signal, name)
    assert output == ""  # no worker imported the script
    assert errors.count("Traceback") == errors.count("KeyboardInterrupt") == (name == "SIGINT")


def test_ctrl_c_in_the_terminal_stops_all(start):
    """The terminal sends it to the whole process group."""
    script, children = start(start_new_session=True)
    assert script.pid not in {os.getpgid(child.pid) for child in children}
    os.killpg(script.pid, signal.SIGINT)
    assert psutil.wait_procs(children, timeout=HANGS)[1] == []
    assert script.communicate()[1].count("Traceback") == 1


def test_a_worker_imports_nothing_heavy():
    code = "import sys; import svae.datasets.workers; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"h5py", "tensorflow", "keras", "scipy", "matplotlib", "yaml"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP"])
def test_only_large_pictures_wait_for_others(monkeypatch, kind):
    monkeypatch.setattr(decoding, "LARGE", 24 * 30)
    entered = []

    @contextlib.contextmanager
    def alone():
        entered.append(True)
        yield
        entered.append(False)

    for width, expected in ((24, []), (25, [True, False])):
        entered.clear()
        buffer = io.BytesIO()
        Image.new("RGB", (width, 30)).save(buffer, kind)
        assert prepare(buffer.getvalue(), RECIPE, alone).shape == (10, 10, 3)
        assert entered == expected


def test_one_process_at_a_time_has_a_large_picture():
    """Another process, with the same file, gets the lock before and after, but not meanwhile."""
    with tempfile.TemporaryFile() as file:
        code = "import fcntl, sys; fcntl.lockf(int(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)"

        def locked():
            command = [sys.executable, "-c", code, str(file.fileno())]
            done = subprocess.run(
                command, pass_fds=[file.fileno()], capture_output=True, check=False
            )
            return b"BlockingIOError" in done.stderr

        before = locked()
        with pytest.raises(BrokenImage), _alone(file.fileno()):
            meanwhile = locked()
            raise BrokenImage
        assert (before, meanwhile, locked()) == (False, True, False)
