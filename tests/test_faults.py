"""No fault of a disk changes a result: flipped bits, cut files, failing calls, kills.

A few points of each kind run in `make test`; `make test-faults` tries many, and ends with counts.
"""

import hashlib
import json
import pickle
import re
import shutil
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import h5py
import numpy as np
import pytest
from helpers import faults
from helpers.reports import make_arguments
from helpers.scored import score_of
from helpers.servers import File as FileOnServer
from helpers.servers import serving
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
from svae.scores import feature_reference, kept
from svae.scores.spectrum import Spectrum, load
from svae.settings.sampling import SamplingSettings
from svae.training.checkpoints import Checkpoints
from svae.training.history import best_epoch, read_history
from svae.training.run_folder import RunFolder
from svae.training.tensorboard import _events

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
    kept.keep(kept.place(folder / "run", "objective"), "recipe", {}, *score_in(folder))
    part = np.arange(16.0).reshape(4, 4)
    Spectrum(part[0], part[1], part, 1.5, 9, "abc").save(folder / "spectrum.npz")
    feature_reference.save(feature_reference.Fitted({"a": 1}, part), folder / "features.npz")
    return folder


def score_in(folder):
    return folder / "objective.json", folder / "objective_per_image.npz"


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
    "run/measured/objective.zip": lambda folder: kept_content(folder),
    "spectrum.npz": lambda folder: repr(vars(load(folder / "spectrum.npz"))),
    "features.npz": lambda folder: repr(vars(feature_reference.load(folder / "features.npz"))),
}

# The files that stages write, by their places: the row of READ or KINDS whose test damages such a
# file, or why none does.
RUN = "runs/*/*/seed-*"
NOT_READ = "no stage reads it"
WRITTEN = {
    "data/*.h5": "data.h5",
    "data/raw/*/.*.checksums.json": "a.json",
    "data/raw/*/*": "its checksum is published; another stops the conversion",
    "set-aside/*/about.json": "a.json",
    "set-aside/data/*.h5": "its checksum is in about.json; another converts again",
    "set-aside/runs/*": "what is brought back is checked like any run",
    "runs/*/baselines/baselines.json": "a.json",
    "runs/*/baselines/spectrum.npz": "spectrum.npz",
    "runs/*/baselines/features.npz": "features.npz",
    f"{RUN}/identity.json": "run/identity.json",
    f"{RUN}/history.jsonl": "run/history.jsonl",
    f"{RUN}/finished.json": "run/finished.json",
    f"{RUN}/run.json": "run/run.json",
    f"{RUN}/final.weights.h5": "run/final.weights.h5",
    f"{RUN}/checkpoints/step-*.npz": "step-000000012.npz",
    f"{RUN}/checkpoints/best-*.weights.h5": "test_other_best_weights_are_noticed",
    f"{RUN}/tensorboard/*": "only TensorBoard shows it, and its records have checksums",
    f"{RUN}/prior.h5": "arrays.h5",
    f"{RUN}/samples.h5": "samples.h5",
    f"{RUN}/pictures.h5": "pictures.h5",
    f"{RUN}/scores/*.json": "objective.json",
    f"{RUN}/scores/*_per_image.npz": "objective_per_image.npz",
    f"{RUN}/measured/*.zip": "run/measured/objective.zip",
    "results/*.png": "a.png",
    "results/parzen_*.json": NOT_READ,
    "results/rate_distortion.json": NOT_READ,
    "results/*.csv": NOT_READ,
    "results/summary.md": NOT_READ,
    "results/report.html": NOT_READ,
    "results/export_*/*": NOT_READ,
}


def without_row(names):
    """Those of these files, by their places in the working folder, that WRITTEN lacks."""
    return [name for name in names if not any(fnmatch(name, kind) for kind in WRITTEN)]


@pytest.mark.slow
def test_damage_to_every_file_of_a_run_is_tested(finished):
    """tests/test_workflow.py asks the same of all files of the workflow."""
    for row in WRITTEN.values():
        assert " " in row or row in globals() or (row in READ) + (row in KINDS) == 1, row
    files = [path for path in (finished / "run").rglob("*") if path.is_file()]
    names = [f"runs/a/b/seed-0/{path.relative_to(finished / 'run')}" for path in files]
    assert len(names) > 10 and without_row(names) == []
    assert without_row(["results/a.txt", f"{RUN}/a.h5"]) == ["results/a.txt", f"{RUN}/a.h5"]


def kept_content(folder):
    targets = folder / "again.json", folder / "again.npz"
    if not kept.restore(kept.place(folder / "run", "objective"), "recipe", {}, *targets):
        raise UserError("it is measured again")
    return [path.read_bytes() for path in targets]


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
# What each imports before it is forked, and what it then does.
PROGRAMS = {
    "convert": ("import svae.datasets.convert, svae.datasets.readers.images", CONVERT),
    "report": (REPORT_IMPORTS, REPORT),
    "charts": (REPORT_IMPORTS, CHARTS),
    "grids and curves": (REPORT_IMPORTS, GRIDS),
    "score": ("import svae.scores.kept, svae.scores.spectrum", SCORE),
    "pictures": ("import svae.jobs.hdf5", PICTURES),
    "fetch": ("import svae.datasets.fetch", FETCH),
    "sample": ("import svae.sampling.prior", SAMPLE),
    "train": (f"sys.path[:0] = {[str(Path(__file__).parent)]}\nimport test_training", TRAIN),
    "export": ("import svae.use.export", EXPORT),
}
# How many calls of a name fail, and how many states that kills leave are tried, where a run takes
# seconds; elsewhere, all.
MOST = {
    "charts": (3, 12),
    "grids and curves": (3, 12),
    "sample": (3, 12),
    "train": (3, 10),
    "export": (1, 6),
}
EVERY = (10_000, 10_000)

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
NO_RESULT = re.compile(rf"(?!out/)|out/{EVENTS}/|.*\.(lock|checksums\.json)$")


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
def test_failing_calls(prepared, program, what, record_property):
    with faults.Program(*PROGRAMS[program]) as running:
        of, found = outcomes_of_errors(running, prepared, what, MOST.get(program, EVERY)[0])
    record_property("faults", (f"{what} in {program}, of {of} calls", dict(found)))
    assert found["wrong"] == 0


@pytest.mark.faults
@pytest.mark.parametrize("program", PROGRAMS)
def test_kills(prepared, program, record_property):
    with faults.Program(*PROGRAMS[program]) as running:
        of, found = outcomes_of_kills(running, prepared, MOST.get(program, EVERY)[1])
    record_property("faults", (f"kills in {program}, {of}", dict(found)))
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
