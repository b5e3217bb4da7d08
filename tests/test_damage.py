"""No damage to a file changes a result: flipped bits, and files that are cut, empty or lost.

A few points of each kind run in `make test`; `make test-faults` tries many, and ends with counts.
"""

import hashlib
import shutil
from fnmatch import fnmatch

import h5py
import numpy as np
import pytest
from helpers import faults
from helpers.finished import make_finished
from matplotlib.figure import Figure
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
from svae.scores import feature_reference, kept
from svae.scores.spectrum import load
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
    return make_finished(tmp_path_factory.mktemp("finished"))


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
