"""No failing call of the system and no kill changes a result.

A few points of each kind run in `make test`; `make test-faults` tries many, and ends with counts.
"""

import hashlib
import json
import pickle
import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from helpers import faults
from helpers.finished import make_finished
from helpers.reports import make_arguments
from helpers.servers import File as FileOnServer
from helpers.servers import serving
from PIL import Image

from svae.jobs.files import read_json, read_zip
from svae.training.tensorboard import _events

CONVERT = """
from svae.jobs.logs import log_to
with log_to("log"):
    from svae.datasets.convert import convert
    convert("images", {"archive": "../pictures"}, "out/a.h5", crop="square", size=16)
"""
SCORE = """
from svae.jobs.logs import log_to
with log_to("log"):
    from pathlib import Path
    import numpy as np
    from svae.jobs.files import write_json
    from svae.scores import kept
    from svae.scores.spectrum import Spectrum
    part = np.arange(12.0).reshape(3, 4)
    Spectrum(part[0], part[1], part, 1.5, 9, "abc").save("out/a.npz")
    write_json("out/a.json", {"a": 1})
    kept.keep(Path("out/measured/a.zip"), "recipe", {}, "out/a.json", "out/a.npz")
    assert kept.restore(Path("out/measured/a.zip"), "recipe", {}, "out/b.json", "out/b.npz")
"""
FETCH = """
from svae.jobs.logs import log_to
with log_to("log"):
    from pathlib import Path
    from svae.datasets.fetch import fetch
    url, known_hash = Path("../address").read_text().split()
    fetch(
        "out/a.bin", [url], known_hash, size=None, timeout=10, retries=0, progress=False, by_hand=""
    )
"""
# Snakemake deletes what is there of an output.
EXPORT = """
from svae.jobs.logs import log_to
with log_to("log"):
    import shutil
    from svae.jobs import devices
    devices.set_up(None, 1)
    from svae.settings.export import ExportSettings
    from svae.use.export import export
    shutil.rmtree("out/export", ignore_errors=True)
    export("../data.h5", "../run", "../samples.h5", "out/export", ExportSettings(n_images=3))
"""
PICTURES = """
from svae.jobs.logs import log_to
with log_to("log"):
    import numpy as np
    from svae.jobs.files import replacing
    from svae.jobs.hdf5 import new_hdf5
    with replacing("out/pictures.h5") as temporary, new_hdf5(temporary) as file:
        for name in "abc":
            file.add(name, np.arange(30000.0))
        file.attrs["title"] = "Waves"
"""
SAMPLE = """
from svae.jobs.logs import log_to
with log_to("log"):
    from svae.jobs import devices
    devices.set_up(None, 1)
    from svae.sampling.prior import sample
    from svae.settings.sampling import SamplingSettings
    sample("../run", "out/samples.h5", SamplingSettings(n_samples=20, batch_size=10))
"""
TRAIN = """
from svae.jobs.logs import log_to
with log_to("log"):
    from svae.jobs import devices
    devices.set_up(None, 1)
    from pathlib import Path
    from test_training import TINY, train
    train(Path("../data.h5"), Path("out/run"), TINY)
"""
REPORT_IMPORTS = """
import matplotlib
matplotlib.use("agg")
import matplotlib.backends.backend_agg
import svae.report.page, svae.report.summary
import svae.report.draw_charts, svae.report.draw_curves, svae.report.draw_grids
"""
START = """
import pickle
from pathlib import Path
from svae.jobs.logs import log_to
with log_to("log"):
    arguments = pickle.loads(Path("../arguments").read_bytes())
"""
REPORT = (
    START
    + """
    from svae.report.page import write
    from svae.report.summary import summarise
    write("out/report.html", **arguments)
    of = arguments["files"], arguments["attributes"]
    tables = {"csv": "out/a.csv", "markdown": "out/a.md", "pairs": "out/pairs.csv"}
    summarise(*of, license=arguments["license"], **tables)
"""
)
CHARTS = (
    START
    + """
    from svae.report.draw_charts import draw
    from svae.report.study import read
    draw(read("Waves", arguments["files"]), [f"out/{i}.png" for i in range(4)])
"""
)
GRIDS = (
    START
    + """
    from svae.report import draw_curves, draw_grids
    draw_grids.draw(
        ["tiny"], ["../pictures.h5"], "out/1.png", "out/2.png", "out/3.png", ["out/4.png"]
    )
    draw_curves.draw(["tiny"], ["../run/run.json"], "out/5.png")
"""
)
# What each imports before it is forked, and what it then does. Those that take longest come first,
# so that no worker of `make test-faults` waits for another at the end.
PROGRAMS = {
    "train": (f"sys.path[:0] = {[str(Path(__file__).parent)]}\nimport test_training", TRAIN),
    "export": ("import svae.use.export", EXPORT),
    "sample": ("import svae.sampling.prior", SAMPLE),
    "charts": (REPORT_IMPORTS, CHARTS),
    "grids and curves": (REPORT_IMPORTS, GRIDS),
    "report": (REPORT_IMPORTS, REPORT),
    "convert": ("import svae.datasets.convert, svae.datasets.readers.images", CONVERT),
    "score": ("import svae.scores.kept, svae.scores.spectrum", SCORE),
    "pictures": ("import svae.jobs.hdf5", PICTURES),
    "fetch": ("import svae.datasets.fetch", FETCH),
}
# How many calls of a name fail, and how many states that kills leave are tried, where a run takes
# seconds; elsewhere, all.
CALLS = {"train": 3, "export": 1, "charts": 3, "grids and curves": 3}
STATES = {"export": 6}
ALL = 10_000

# What differs between equal runs.
TIMES = ("seconds", "images_per_second", "training_seconds", "history_sha256")


def contents(folder):
    """What lies in a folder under final names, without times; the checkpoints of a run, which is
    judged by its weights, are left out."""
    found = {}
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        place = path.relative_to(folder).parts
        if not place[-1].startswith(".") and not {"checkpoints", "tensorboard"} & {*place}:
            found["/".join(place)] = content_of(path)
    for place in folder.glob(f"{EVENTS}/*"):
        tags = sorted((step, tag) for step, tag, _ in _events(place) if tag)
        found[f"{EVENTS}/{place.name}"] = tags
    return found


EVENTS = "run/tensorboard"
# Also a scratch folder itself, whose handle is closed when it is deleted.
NO_RESULT = re.compile(rf"(?!out/)|out/{EVENTS}/|.*(\.lock|\.checksums\.json|-scratch)$")


def content_of(path):
    if path.suffix == ".json":
        return without_times(read_json(path))
    if path.suffix == ".jsonl":
        return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
    if path.suffix == ".zip":  # which has times
        return read_zip(path)
    return "a SavedModel" if "saved_model" in path.parts else path.read_bytes()


def without_times(record):
    return {key: value for key, value in record.items() if key not in TIMES}


def without(found, *starts):
    return {name: content for name, content in found.items() if not name.startswith(starts)}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return make_finished(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def prepared(finished, tmp_path, monkeypatch):
    """A folder with what the programs read, in the folder in which they run."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    for path in ("data.h5", "run", "samples.h5", "pictures.h5"):
        (tmp_path / path).symlink_to(finished / path)
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        image = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"pictures/{number}.png")
    with (tmp_path / "arguments").open("wb") as file:
        pickle.dump(make_arguments(tmp_path, ["vanilla", "naive"]), file)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    archive = bytes(200_000)
    with serving({"/a.bin": FileOnServer(archive)}) as server:
        known_hash = f"sha256:{hashlib.sha256(archive).hexdigest()}"
        (tmp_path / "address").write_text(f"{server.url}/a.bin {known_hash}")
        yield faults.emptied(tmp_path / "here")


@pytest.mark.faults
@pytest.mark.parametrize("program", PROGRAMS)
def test_kills(prepared, program, record_property):
    with faults.Program(*PROGRAMS[program]) as running:
        of, found = outcomes_of_kills(running, prepared, STATES.get(program, ALL))
    record_property("faults", (f"kills in {program}, {of}", dict(found)))
    assert found["wrong"] == 0


@pytest.mark.faults
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_writer_flushes_file_and_folder(prepared, program):
    """As a trace of system calls shows: write, fsync, rename, fsync of the folder."""
    with faults.Program(*PROGRAMS[program]) as running:
        files, lost = running.after_a_power_cut(prepared, prepared / "out")
    assert files and not [name for name in lost if "tensorboard" not in name]


def test_the_trace_notices_what_is_not_flushed(tmp_path):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    code = """
import os
def write(name, flush, after):
    temporary = "out/" + name + ".temporary"
    with open(temporary, "w") as file:
        file.write("x")
        file.flush()
        os.fsync(file.fileno()) if flush else None
        file.write("y" * after)
    os.rename(temporary, "out/" + name)
os.mkdir("out")
write("a", True, 0)
write("b", False, 0)
write("c", True, 1)
os.mkdir("out/.f")
write(".f/g", True, 0)
write(".f/h", False, 0)
os.fsync(os.open("out/.f", os.O_RDONLY))
write(".f/i", True, 0)
os.rename("out/.f", "out/f")
os.fsync(os.open("out", os.O_RDONLY))
write("d", True, 0)
open("out/e", "w")
"""
    with faults.Program("", code) as running:
        files, lost = running.after_a_power_cut(tmp_path, tmp_path / "out")
    assert files == ["a", "b", "c", "d", "e", "f/g", "f/h", "f/i"]
    assert lost == ["b", "c", "d", "e", "f/h", "f/i"]


@pytest.mark.faults
@pytest.mark.parametrize("what", faults.FAULTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_failing_calls(prepared, program, what, record_property):
    with faults.Program(*PROGRAMS[program]) as running:
        of, found = outcomes_of_errors(running, prepared, what, CALLS.get(program, ALL))
    record_property("faults", (f"{what} in {program}, of {of} calls", dict(found)))
    assert found["wrong"] == 0


def outcomes_of_errors(program, here, what, most):
    """(Number of calls, how often each outcome). After a failing call: exit code 1, one line and
    nothing half-written, or no effect; the next run makes what a run without faults makes."""
    code, printed = program.run(here)
    whole = contents(here / "out")
    assert code == 0 and whole, printed
    found = Counter(tried=0, refused=0, complete=0, wrong=0)
    points = program.points(faults.emptied(here), faults.FAULTS[what])
    by_call = {call: [point for point in points if point[0] == call] for call, *_ in points}
    chosen = (point for each in by_call.values() for point in faults.spread(each, most))
    for call, number, file in chosen:
        code, printed = program.fault(faults.emptied(here), call, what, number)
        left = contents(here / "out")
        if code == 0:
            # Lost events are only logged, and the run is finished without them.
            outcome, lost = "complete", (EVENTS,)
            fine = without(left, *lost) == without(whole, *lost)
            fine &= file is None or NO_RESULT.match(file) is not None
        else:
            outcome, lost = "refused", ()
            first, *more = [line for line in printed.splitlines() if "Error" in line] or [""]
            fine = code == 1 and not more and "Traceback" not in printed
            fine &= "bytes free" in first
            fine &= first.replace(f"{here}/", "").startswith("Error: out")
            fine &= without(left, EVENTS, "run/history.jsonl").items() <= whole.items()
        problem = problem_of_the_next_run(program, here, whole, *lost)
        found["tried"] += 1
        found[outcome if fine and not problem else "wrong"] += 1
        if problem or not fine:
            print(what, call, number, file, code, printed[-600:], problem)
    return len(points), found


def outcomes_of_kills(program, here, most):
    """(What there was to kill, how often each outcome). From what a kill at any operation leaves,
    the next run makes what a run without faults makes."""
    changes, states = program.states(faults.emptied(here))
    whole, found = contents(here / "out"), Counter(tried=0, resumed=0, wrong=0)
    for left in faults.spread(states, most):
        faults.restored(faults.emptied(here) / "out", left)
        problem = problem_of_the_next_run(program, here, whole)
        found["tried"] += 1
        found["wrong" if problem else "resumed"] += 1
        if problem:
            print("killed with", list(left), problem)
    return f"{changes} changes of files that leave {len(states)} states", found


def problem_of_the_next_run(program, here, whole, *lost):
    """None if it makes all but what is lost, and leaves nothing else."""
    code, printed = program.run(here)
    made = without(contents(here / "out"), *lost)
    hidden = [path.name for path in (here / "out").rglob(".*")]
    hidden = [name for name in hidden if not name.endswith(".checksums.json")]
    if code or made != without(whole, *lost) or hidden:
        differs = [name for name in whole if made.get(name) != whole[name]]
        return f"then {code}, {printed[-300:]}, {differs} differ, {hidden} left"
    return None


WRITES = """
import contextlib
import os
import sys
os.makedirs("out", exist_ok=True)
try:
    if not os.path.exists("out/a.csv"):
        temporary = "out/.a1b2c3d4-a.csv"
        with open(temporary, "w") as file:
            file.write("x")
        os.rename(temporary, "out/a.csv")
except OSError as error:
    sys.exit("Error: out/a.csv cannot be written, 0 bytes free")
"""
NOTICED = {
    "nothing": ("", ""),
    "its final name at once": ("out/.a1b2c3d4-a.csv", "out/a.csv"),
    "a temporary file that stays": ('"out/.a1b2c3d4-a.csv"', 'f"out/.{os.urandom(4).hex()}-a.csv"'),
    "an error without words": ("0 bytes free", ""),
    "an error that is no failure": (
        'with open(temporary, "w") as file:\n            file.write("x")',
        "file = os.open(temporary, os.O_CREAT | os.O_WRONLY)\n"
        '        os.write(file, b"x")\n'
        "        with contextlib.suppress(OSError):\n            os.close(file)",
    ),
}


@pytest.mark.parametrize("what", NOTICED)
def test_the_campaign_notices(tmp_path, what):
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    here = faults.emptied(tmp_path / "here")
    with faults.Program("", WRITES.replace(*NOTICED[what])) as running:
        kills = outcomes_of_kills(running, here, 99)[1]
        errors = outcomes_of_errors(running, here, "EIO", 99)[1]
    assert kills["tried"] > 2 and errors["tried"] > 1
    assert (kills["wrong"] + errors["wrong"] > 0) == (what != "nothing")


@pytest.mark.parametrize("program", ["score"])
def test_a_few_faults_of_calls(prepared, program):
    with faults.Program(*PROGRAMS[program]) as running:
        assert outcomes_of_kills(running, prepared, 4)[1]["wrong"] == 0
        assert outcomes_of_errors(running, prepared, "EIO", 1)[1]["wrong"] == 0
