"""No fault of a disk changes a result: flipped bits, cut files, failing calls, kills.

A few points of each kind run in `make test`; `make test-faults` tries many, and ends with counts.
"""

import hashlib
import pickle
import shutil
from collections import Counter
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import faults
from helpers.reports import make_arguments
from helpers.scored import score_of
from matplotlib.figure import Figure
from PIL import Image
from test_checkpoints import state, variables
from test_training import TINY, make_store, train

from svae.datasets import SPLITS, origins
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer
from svae.errors import UserError
from svae.jobs.files import read_json, read_npz, read_zip, replacing, write_json
from svae.jobs.hdf5 import File, new_hdf5
from svae.model.saved import load_model
from svae.report import captions, draw_grids
from svae.report.png import save
from svae.sampling import examples
from svae.sampling.prior import sample
from svae.settings.sampling import SamplingSettings
from svae.training.checkpoints import Checkpoints
from svae.training.history import best_epoch, read_history
from svae.training.run_folder import RunFolder

# Damage to files ------------------------------------------------------------------------------


def make_texts(path):
    rng = np.random.default_rng(0)
    with Writer(path) as writer:
        for split in SPLITS:
            images = rng.integers(0, 256, (70, 4, 4, 1), np.uint8)
            names = [f"{split}/{i} é" for i in range(70)]
            writer.append(split, images, names, ["", "cat"] * 35)
        attributes = {f"key {i}": i for i in range(20)}
        writer.finish({"padding": 2, "list": ["x" * 50] * 200, "none": None, **attributes})


def store_content(path):
    with Store(path) as store:
        images = [store.images(split).tobytes() for split in SPLITS]
        one_by_one = [store.split(split)[5].tobytes() for split in SPLITS]
        texts = [origins.names(store, split) for split in SPLITS]
        some = [origins.labels(store, split, [0, 5]) for split in SPLITS]
        return store.attributes, images, one_by_one, texts, some


def make_arrays(path):
    with replacing(path) as temporary, new_hdf5(temporary) as file:
        for name in ("a", "b", "c"):
            file.add(name, np.random.default_rng(0).normal(size=(20, 7, 3)))
        file.attrs["title"] = "Waves"


def h5_content(path):
    with File(path, "delete it") as file:
        return file.attributes(), {name: file[name][:].tobytes() for name in ("a", "b", "c")}


def make_npz(path):
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, a=np.arange(50.0), text="one", nothing=np.zeros((0, 3)))


def npz_content(path):
    return {name: (array.tolist(), array.dtype) for name, array in read_npz(path).items()}


def make_json(path):
    write_json(path, {"a": [1, 0.1, None, True], "text": "Zoë", "inner": {"b": 1e-300}, "c": 7})


def checkpoint_content(path):
    """None where it was damaged, so that an earlier one would be used."""
    values, copy = variables(1.0), path.with_name("copy")
    faults.emptied(copy)
    shutil.copy(path, copy / path.name)
    found = Checkpoints(copy).restore(values)
    if found is None:
        raise UserError("skipped")
    return found, [np.asarray(value).tobytes() for value in values]


def make_png(path):
    figure = Figure(figsize=(0.4, 0.3), dpi=40)
    figure.text(0.1, 0.1, "a")
    save(figure, path)


KINDS = {
    "a.png": (make_png, lambda path: captions.pictures({"dataset": path}, {}, "", ["a"])),
    "store.h5": (make_texts, store_content),
    "arrays.h5": (make_arrays, h5_content),
    "a.json": (make_json, read_json),
    "a.npz": (make_npz, npz_content),
    "a.zip": (make_npz, lambda path: read_zip(path, "a.npy", "text.npy")),
    "step-000000012.npz": (
        lambda path: Checkpoints(path.parent).save(state(12), variables()),
        checkpoint_content,
    ),
}


@pytest.mark.parametrize("scale", [1, pytest.param(40, marks=pytest.mark.faults)])
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_noticed(tmp_path, kind, scale, record_property):
    make, content = KINDS[kind]
    make(tmp_path / kind)
    found = faults.outcomes(
        tmp_path / kind, lambda: content(tmp_path / kind), 50 * scale, 10 * scale
    )
    record_property("faults", (f"damage to {kind}", dict(found)))
    assert found["wrong"] == 0 and found["refused"] > found["tried"] // 4


def test_the_test_notices_what_is_not_noticed(tmp_path):
    """HDF5 without checksums, as before: another content is accepted."""
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(1000)

    def content():
        try:
            with h5py.File(tmp_path / "a.h5") as file:
                return file["a"][:].tolist()
        except (OSError, RuntimeError, KeyError) as error:
            raise UserError("refused") from error

    assert faults.outcomes(tmp_path / "a.h5", content, 40, 0)["wrong"] > 10


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["a"] = np.arange(3)
        file.attrs["title"] = "Waves"
    with File(tmp_path / "a.h5", "delete it") as file:
        assert file["a"][:].tolist() == [0, 1, 2] and file.attributes() == {"title": "Waves"}
    (tmp_path / "a.json").write_text('{"a": 1, "b": "c"}')
    assert read_json(tmp_path / "a.json") == {"a": 1, "b": "c"}


# Damage to a run --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    data = make_store(folder / "data.h5")
    train(data, folder / "run", TINY)
    sample(folder / "run", folder / "samples.h5", SamplingSettings(n_samples=20, batch_size=10))
    examples.write(data, folder / "run", folder / "samples.h5", 1, folder / "pictures.h5")
    score_of("objective", folder, folder, record="run/run.json")
    return folder


def lost(path):
    path.unlink()


def emptied(path):
    path.write_bytes(b"")


def halved(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished training of which run.json is lost, and its weights; the names of its files."""
    folder = tmp_path_factory.mktemp("whole")
    train(make_store(folder / "data.h5"), folder / "run", BEST)
    weights = [weight.tobytes() for weight in load_model(folder / "run")[0].get_weights()]
    (folder / "run/run.json").unlink()
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    names = {path.relative_to(folder / "run").as_posix() for path in files}
    names = sorted(name for name in names if not name.startswith("tensorboard"))
    assert {"identity.json", "history.jsonl", "finished.json"} < set(names) and len(names) > 6
    return folder, weights, names


BEST = TINY.__class__(**{**vars(TINY), "epochs": 3, "weights": "best"})
DAMAGE = {"halved": halved, "lost": lost, "emptied": emptied}


def check_continued(whole, folder, damaged, damage):
    """A copy of the run with these files damaged ends with the same weights."""
    origin, expected, _ = whole
    shutil.copytree(origin / "run", folder / "run")
    for name in damaged:
        DAMAGE[damage](folder / "run" / name)
    train(origin / "data.h5", folder / "run", BEST)
    model, record = load_model(folder / "run")
    assert [weight.tobytes() for weight in model.get_weights()] == expected, damaged
    read_history(folder / "run", record["history_sha256"])
    assert not (folder / "aside").exists(), damaged


@pytest.mark.slow
def test_a_damaged_run_is_continued_and_nothing_is_set_aside(tmp_path, whole):
    """All of its files at once, but for a checkpoint and the weights that belong to it."""
    names = whole[2]
    steps = [name for name in names if "/step-" in name]
    best = [name for name in names if "/best-" in name]
    assert len(steps) > 1
    check_continued(whole, tmp_path, sorted({*names} - {steps[0], *best}), "halved")


@pytest.mark.faults
@pytest.mark.parametrize("damage", DAMAGE)
def test_every_file_of_a_damaged_run(tmp_path, whole, damage, record_property):
    for number, name in enumerate(whole[2]):
        check_continued(whole, tmp_path / str(number), [name], damage)
    counts = {"tried": len(whole[2]), "resumed": len(whole[2]), "wrong": 0}
    record_property("faults", (f"a file of a run is {damage}", counts))


READ = {
    "data.h5": lambda folder: store_content(folder / "data.h5"),
    "run/run.json": lambda folder: read_json(folder / "run/run.json"),
    "run/finished.json": lambda folder: read_json(folder / "run/finished.json"),
    "run/identity.json": lambda folder: RunFolder(folder / "run")._identity(),
    "run/history.jsonl": lambda folder: read_history(
        folder / "run", read_json(folder / "run/run.json")["history_sha256"]
    ),
    "run/final.weights.h5": lambda folder: hashlib.sha256(
        b"".join(weight.tobytes() for weight in load_model(folder / "run")[0].get_weights())
    ).digest(),
    "samples.h5": lambda folder: samples_content(folder / "samples.h5"),
    "pictures.h5": lambda folder: {
        name: value if isinstance(value, str) else value.tobytes()
        for name, value in draw_grids._read(folder / "pictures.h5").items()
    },
    "objective.json": lambda folder: read_json(folder / "objective.json"),
    "objective_per_image.npz": lambda folder: npz_content(folder / "objective_per_image.npz"),
}


def samples_content(path):
    with File(path, "delete it") as file:
        return str(file.attributes()), file["samples"][:].tobytes()


@pytest.mark.faults
@pytest.mark.parametrize("name", READ)
def test_damage_to_what_a_stage_reads(finished, name, record_property):
    flips = 60 if "weights" in name else 1500
    found = faults.outcomes(finished / name, lambda: READ[name](finished), flips, 20)
    record_property("faults", (f"damage to {name}", dict(found)))
    assert found["wrong"] == 0


def test_other_best_weights_are_noticed(finished):
    run = RunFolder(finished / "run")
    found = Checkpoints(run.checkpoints.folder)
    content = next(iter(sorted(run.checkpoints.folder.glob("step-*.npz"), reverse=True)))
    text = read_npz(content)["state"].tobytes()
    from svae.training.checkpoints import _state

    newest = _state(np.frombuffer(text, np.uint8))
    dimension = 32 * 32
    best = run.best_weights(best_epoch(newest.records, dimension))
    assert found.newest() == content and run.lacks_best(newest, dimension) is None
    before = best.read_bytes()
    try:
        best.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
        assert "missing or damaged" in run.lacks_best(newest, dimension)
        best.unlink()
        assert best.name in run.lacks_best(newest, dimension)
    finally:
        best.write_bytes(before)


# Failing calls and kills --------------------------------------------------------------------------

CONVERT = """
from svae.jobs.logs import log_to
with log_to("log"):
    from svae.datasets.convert import convert
    convert("images", {"archive": "../pictures"}, "out/a.h5", crop="square", size=16)
"""
SCORE = """
from svae.jobs.logs import log_to
with log_to("log"):
    import numpy as np
    from svae.scores.spectrum import Spectrum
    from svae.jobs.files import write_json
    part = np.arange(12.0).reshape(3, 4)
    Spectrum(part[0], part[1], part, 1.5, 9, "abc").save("out/spectrum.npz")
    write_json("out/score.json", {"a": 1})
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
# What each imports before it is forked, and what it then does.
PROGRAMS = {
    "convert": ("import svae.datasets.convert, svae.datasets.readers.images", CONVERT),
    "report": (REPORT_IMPORTS, REPORT),
    "charts": (REPORT_IMPORTS, CHARTS),
    "grids and curves": (REPORT_IMPORTS, GRIDS),
    "score": ("import svae.scores.spectrum", SCORE),
    "pictures": ("import svae.jobs.hdf5", PICTURES),
    "sample": ("import svae.sampling.prior", SAMPLE),
    "train": (f"sys.path[:0] = {[str(Path(__file__).parent)]}\nimport test_training", TRAIN),
}
# Whose content is the same in every run; other files have times.
SAME = (".h5", ".npz", "score.json", ".html", ".csv", ".md", ".png")
# Points per call where a run takes seconds; elsewhere, every call fails once.
MOST = {"charts": 4, "grids and curves": 4, "sample": 2, "train": 2}


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name.endswith(SAME)
        and "checkpoints" not in path.parts
        and not path.name.startswith(".")  # temporary files, which the next run must remove
    }


@pytest.fixture
def prepared(finished, tmp_path):
    """A folder with what the programs read, in the folder in which they run."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    for path in ("data.h5", "run", "pictures.h5"):
        (tmp_path / path).symlink_to(finished / path)
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        image = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"pictures/{number}.png")
    with (tmp_path / "arguments").open("wb") as file:
        pickle.dump(make_arguments(tmp_path, ["vanilla", "naive"]), file)
    return faults.emptied(tmp_path / "here")


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
    with open("out/." + name, "w") as file:
        file.write("x")
        file.flush()
        os.fsync(file.fileno()) if flush else None
        file.write("y" * after)
    os.rename("out/." + name, "out/" + name)
os.mkdir("out")
write("a", True, 0)
write("b", False, 0)
write("c", True, 1)
os.fsync(os.open("out", os.O_RDONLY))
write("d", True, 0)
open("out/e", "w")
"""
    with faults.Program("", code) as running:
        files, lost = running.after_a_power_cut(tmp_path, tmp_path / "out")
    assert (files, lost) == (["a", "b", "c", "d", "e"], ["b", "c", "d", "e"])


@pytest.mark.faults
@pytest.mark.parametrize("what", faults.FAULTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_faults_of_calls(prepared, program, what, record_property):
    """After a failing call: one line and nothing half-written; after it or a kill, the next run
    makes what a run without faults makes, and leaves nothing else."""
    with faults.Program(*PROGRAMS[program]) as running:
        found = outcomes_of_faults(running, prepared, what, MOST.get(program, 10_000))
    record_property("faults", (f"{what} in {program}", dict(found)))
    assert found["wrong"] == 0


def outcomes_of_faults(program, here, what, most):
    code, printed = program.run(here)
    assert code == 0, printed
    whole = contents(here / "out")
    assert whole
    found = Counter(tried=0, refused=0, complete=0, resumed=0, wrong=0)
    for call in faults.FAULTS[what]:
        count = program.points(faults.emptied(here), call)
        for number in faults.spread(count, most):
            code, printed = program.fault(faults.emptied(here), call, what, number)
            complete = contents(here / "out").items() <= whole.items()
            if what == "KILL":
                outcome, fine = "resumed", complete
            elif code == 0:
                outcome, fine = "complete", contents(here / "out") == whole
            else:
                outcome = "refused"
                errors = [line for line in printed.splitlines() if "Error" in line]
                fine = complete and code == 1 and len(errors) == 1
                fine &= "Traceback" not in printed and "bytes free" in errors[0]
            again, then = program.run(here)
            fine &= again == 0 and contents(here / "out") == whole
            fine &= not list((here / "out").rglob(".????????-*"))
            found["tried"] += 1
            found[outcome if fine else "wrong"] += 1
            if not fine:
                print(what, call, number, code, printed[-600:], then[-300:])
    return found
