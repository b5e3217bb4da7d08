"""No fault of a disk changes a result: flipped bits, cut files, failing calls, kills.

A few points of each kind run in `make test`; `make test-faults` tries many, and ends with counts.
"""

import hashlib
import shutil

import h5py
import numpy as np
import pytest
from helpers import faults
from helpers.scored import score_of
from test_checkpoints import state, variables
from test_training import TINY, make_store, train

from svae.datasets import SPLITS, origins
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer
from svae.errors import UserError
from svae.jobs.files import read_json, read_npz, read_zip, replacing, write_json
from svae.jobs.hdf5 import File, new_hdf5
from svae.model.saved import load_model
from svae.report import draw_grids
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


KINDS = {
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


MANY = pytest.mark.faults


@pytest.mark.slow
@pytest.mark.parametrize(
    "damage", [halved, pytest.param(lost, marks=MANY), pytest.param(emptied, marks=MANY)]
)
def test_a_damaged_run_is_continued_and_nothing_is_set_aside(tmp_path, finished, damage):
    """Every file of the run in turn, while it is unfinished: the same weights in the end."""
    what = TINY.__class__(**{**vars(TINY), "epochs": 3, "weights": "best"})
    data = finished / "data.h5"
    train(data, tmp_path / "whole", what)
    expected = [weight.tobytes() for weight in load_model(tmp_path / "whole")[0].get_weights()]
    files = [path for path in (tmp_path / "whole").rglob("*") if path.is_file()]
    names = {path.relative_to(tmp_path / "whole").as_posix() for path in files}
    names -= {name for name in names if name.startswith("tensorboard")}
    assert {"identity.json", "history.jsonl", "finished.json"} < names and len(names) > 7
    for name in sorted(names - {"run.json"}):
        shutil.copytree(tmp_path / "whole", tmp_path / "run", dirs_exist_ok=True)
        (tmp_path / "run/run.json").unlink()
        damage(tmp_path / "run" / name)
        train(data, tmp_path / "run", what)
        model, record = load_model(tmp_path / "run")
        assert [weight.tobytes() for weight in model.get_weights()] == expected, name
        read_history(tmp_path / "run", record["history_sha256"])
        assert not (tmp_path / "aside").exists(), name
        shutil.rmtree(tmp_path / "run")


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
import sys
sys.path[:0] = {tests!r}
from svae.jobs.logs import log_to
with log_to("log"):
    from svae.jobs import devices
    devices.set_up(None, 1)
    from pathlib import Path
    from test_training import TINY, train
    train(Path("../data.h5"), Path("out/run"), TINY)
"""
PROGRAMS = {
    "convert": CONVERT,
    "score": SCORE,
    "pictures": PICTURES,
    "sample": SAMPLE,
    "train": TRAIN.replace("{tests!r}", repr([str(__file__).rpartition("/")[0]])),
}
# Whose content is the same in every run; other files have times.
SAME = (".h5", ".npz", "score.json")
MOST = {"sample": 2, "train": 2}  # points per call; they take seconds each


def contents(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in files
        if path.name.endswith(SAME) and "checkpoints" not in path.parts
    }


@pytest.mark.faults
@pytest.mark.parametrize("what", faults.FAULTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_faults_of_calls(finished, tmp_path, program, what, record_property):
    """After a failing call: one line and nothing half-written; after it or a kill, the next run
    makes what a run without faults makes, and leaves nothing else."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    from PIL import Image

    for path in ("data.h5", "run"):
        (tmp_path / path).symlink_to(finished / path)
    (tmp_path / "pictures").mkdir()
    for number in range(40):
        image = np.random.default_rng(number).integers(0, 256, (20, 20, 3), np.uint8)
        Image.fromarray(image).save(tmp_path / f"pictures/{number}.png")
    code, here = PROGRAMS[program], tmp_path / "here"
    done = faults.run(code, faults.emptied(here))
    assert done.returncode == 0, done.stderr
    whole = contents(here / "out")
    assert whole
    found = {"tried": 0, "refused": 0, "complete": 0, "killed": 0, "wrong": 0}
    for call in faults.FAULTS[what]:
        count = faults.points(code, faults.emptied(here), call)
        for number in faults.spread(count, MOST.get(program, 25)):
            done = faults.fault(code, faults.emptied(here), call, what, number)
            found["tried"] += 1
            complete = contents(here / "out").items() <= whole.items()
            if what == "KILL":
                found["killed"] += 1
                fine = complete
            elif done.returncode == 0:
                found["complete"] += 1
                fine = contents(here / "out") == whole
            else:
                found["refused"] += 1
                errors = [line for line in done.stderr.splitlines() if "Error" in line]
                fine = complete and done.returncode == 1 and len(errors) == 1
                fine &= "Traceback" not in done.stderr and "bytes free" in errors[0]
            again = faults.run(code, here)
            fine &= again.returncode == 0 and contents(here / "out") == whole
            fine &= not list((here / "out").rglob(".????????-*"))
            if not fine:
                found["wrong"] += 1
                print(what, call, number, done.returncode, done.stderr[-600:], again.stderr[-300:])
    record_property("faults", (f"{what} in {program}", found))
    assert found["wrong"] == 0
