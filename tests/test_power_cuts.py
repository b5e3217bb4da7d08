"""What was written is there after a power cut: images of disks, and the order of system calls."""

import numpy as np
import pytest
from helpers import disks
from matplotlib.figure import Figure
from test_checkpoints import state, variables
from test_training import TINY, make_store, train

from svae.datasets import SPLITS
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer
from svae.jobs import files
from svae.jobs.files import read_json, replacing, write_json
from svae.jobs.hdf5 import File, new_hdf5
from svae.model.saved import load_model
from svae.report.png import save
from svae.training.checkpoints import Checkpoints
from svae.training.history import read_history


def write_store(path, version):
    with replacing(path) as temporary, Writer(temporary) as writer:
        for split in SPLITS:
            writer.append(split, np.full((9, 4, 4, 1), version, np.uint8), ["a"] * 9, [""] * 9)
        writer.finish({"padding": 0})


def read_store(path):
    with Store(path) as store:
        return {int(store.images(split).max()) for split in SPLITS}


def write_arrays(path, version):
    with replacing(path) as temporary, new_hdf5(temporary) as file:
        file.add("a", np.full(1000, version))


def read_arrays(path):
    with File(path, "delete it") as file:
        return set(file["a"][:].tolist())


def read_checkpoint(path):
    values = variables(0.0)
    Checkpoints(path).restore(values)
    return {np.asarray(values[0]).flat[0]}


def draw(path, version):
    figure = Figure()
    figure.text(0.1, 0.1, str(version))
    save(figure, path)


WRITERS = {
    "a.json": (
        lambda path, version: write_json(path, {"a": version}),
        lambda path: {read_json(path)["a"]},
    ),
    "store.h5": (write_store, read_store),
    "arrays.h5": (write_arrays, read_arrays),
    "checkpoints": (
        lambda path, version: Checkpoints(path).save(state(version), variables(float(version))),
        read_checkpoint,
    ),
    "a.png": (draw, lambda path: path.read_bytes()),
}


@pytest.mark.faults
@pytest.mark.parametrize("flushes", [True, False])
@pytest.mark.parametrize("kind", disks.FILE_SYSTEMS)
def test_files_right_after_they_were_written(tmp_path, monkeypatch, kind, flushes, record_property):
    """Without flushes, as a test of this test, some are lost."""
    if not flushes:
        monkeypatch.setattr(files, "flush", lambda path: None)
    images = {}
    with disks.Disk(tmp_path, kind) as disk:
        for name, (write, read) in WRITERS.items():
            for version in (1, 2):
                write(disk.folder / name, version)
                images[name, version] = disk.image(), read(disk.folder / name)
        kept = []
        for (name, _), (image, written) in images.items():
            disk.turn_to(image)
            try:
                kept.append(WRITERS[name][1](disk.folder / name) == written)
            except Exception:
                kept.append(False)
    if flushes:
        counts = {"tried": len(kept), "complete": sum(kept), "wrong": kept.count(False)}
        record_property("faults", (f"power cuts after writing, {kind}", counts))
    assert all(kept) == flushes


@pytest.mark.faults
@pytest.mark.parametrize("kind", disks.FILE_SYSTEMS)
def test_a_training_resumes_after_a_power_cut(tmp_path, monkeypatch, kind, record_property):
    """At each of its checkpoints, and at its end: the weights are those of the whole training."""
    what = TINY.__class__(**{**vars(TINY), "epochs": 3, "weights": "best"})
    data = make_store(tmp_path / "data.h5")
    images = []
    with disks.Disk(tmp_path, kind) as disk:
        saved = Checkpoints.save

        def saving(*arguments, **options):
            path = saved(*arguments, **options)
            images.append(disk.image())
            return path

        with monkeypatch.context() as patched:
            patched.setattr(Checkpoints, "save", saving)
            train(data, disk.folder / "run", what)
        images.append(disk.image())
        expected = load_model(disk.folder / "run")[0].get_weights()
        for number, image in enumerate(images):
            disk.turn_to(image)
            finished = (disk.folder / "run/run.json").exists()
            assert finished == (number == len(images) - 1)
            record = train(data, disk.folder / "run", what)
            weights = load_model(disk.folder / "run")[0].get_weights()
            assert all(map(np.array_equal, weights, expected)), number
            assert len(read_history(disk.folder / "run", record["history_sha256"])) == 3
            assert not (disk.folder / "aside").exists()
    counts = {"tried": len(images), "resumed": len(images), "wrong": 0}
    record_property("faults", (f"power cuts in a training, {kind}", counts))
    assert len(images) > 3
