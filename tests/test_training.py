"""Trainings of a few steps: reproducible, resumed, set aside, stopped in time."""

import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from helpers import stores
from helpers.builders import ELBO, make_images, settings

from svae.datasets import store
from svae.datasets.feed import Feed
from svae.errors import UserError
from svae.jobs import set_aside
from svae.jobs.disk import only_writer
from svae.jobs.files import read_json
from svae.jobs.set_aside import SetAside
from svae.model import batch_norm
from svae.model.saved import load_model
from svae.settings.services import Services, TensorBoardSettings
from svae.streams import Stream, generator
from svae.training import step as training_step
from svae.training import train as training
from svae.training.history import read_history
from svae.training.loop import Loop
from svae.training.run_folder import RunFolder
from svae.training.step import TrainingStep

SHAPE = (32, 32, 1)
TINY = settings(batch_size=8, epochs=2, dropout=0.5, kl_warmup_epochs=1.5)


def make_store(path, train=24, valid=6, test=10, changes=None):
    counts = {"train": train, "valid": valid, "test": test}
    splits = {name: make_images(n, SHAPE, seed=i) for i, (name, n) in enumerate(counts.items())}
    for name in changes or ():
        splits[name] = 255 - splits[name]
    stores.write(path, splits, {"dataset": "waves", "title": "Waves", "padding": 0})
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "waves.h5")


def aside_of(folder):
    return SetAside(folder, folder.parent / "aside" / folder.name)


def asides(folder):
    """The runs that were in `folder` and were set aside."""
    return [entry.content for entry in aside_of(folder).entries()]


CPU = "running on the CPU with 1 thread"


def train(data, folder, what=TINY, seed=0, code="c0de", device=CPU):
    keras.utils.clear_session()  # layers are numbered from the start, as in a new process
    training.train(
        data,
        folder,
        what,
        Services(tensorboard=TensorBoardSettings(picture_epochs=0)),
        variant="tiny",
        seed=seed,
        code=code,
        device=device,
        aside_folder=aside_of(folder).folder,
    )
    return read_json(folder / "run.json")


def weights(folder):
    return load_model(folder)[0].get_weights()


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained") / "seed-0"
    train(data, folder)
    return folder


def test_record_and_history(trained):
    record = read_json(trained / "run.json")
    lines = [json.loads(line) for line in (trained / "history.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert [line["step"] for line in lines] == [3, 6]
    assert record["dimension"] == 1024 and record["steps"] == 6
    terms = {"sse_per_image", "kl_nats_per_image", "active_entries", "active_maps"}
    weight = {"kl_weight", "equivalent_variance_at_unit_beta", "equivalent_beta_at_unit_variance"}
    assert {f"valid_{name}" for name in terms} | weight <= lines[0].keys()
    assert weight <= record.keys()
    for split, n in (("train", 24), ("valid", 6), ("test", 10)):
        assert terms <= record[split].keys() and record[split]["n_images"] == n
    assert record["equivalent_variance_at_unit_beta"] == record["kl_weight"] / 2
    assert record["training_seconds"] == pytest.approx(sum(line["seconds"] for line in lines))
    objective = record["valid"]["sse_per_image"] + 2 * record["valid"]["kl_nats_per_image"]
    assert record["valid"]["objective_sse_plus_w_kl"] == pytest.approx(objective, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 5])
def test_every_bit_depends_on_the_seed(data, trained, tmp_path, seed):
    train(data, tmp_path / "again", seed=seed)
    assert same(weights(trained), weights(tmp_path / "again")) == (seed == 0)


@pytest.mark.slow
def test_more_epochs_continue_like_an_uninterrupted_training(data, tmp_path):
    """With weights of all kinds: also those of the decoder variance and of the arrangement."""
    what = replace(TINY, **ELBO, decoder_variance="learned", posterior="mvn", arrangement="dense")
    train(data, tmp_path / "parts", replace(what, epochs=1))
    parts = train(data, tmp_path / "parts", replace(what, epochs=3), device="running on GPU 0")
    whole = train(data, tmp_path / "whole", replace(what, epochs=3))
    assert same(weights(tmp_path / "parts"), weights(tmp_path / "whole"))
    assert not asides(tmp_path / "parts")
    for folder, record in (("parts", parts), ("whole", whole)):
        assert record.pop("training_seconds") > 0
        assert len(record.pop("history_sha256")) == 64
        assert len(read_history(tmp_path / folder)) == 3
    assert parts.pop("device") == f"{CPU}, then running on GPU 0"
    assert whole.pop("device") == CPU
    assert parts == whole


class Cut(Exception):
    pass


def begin(monkeypatch, *arguments, **keywords):
    """A training that is interrupted as soon as its folder and its feed are ready."""

    def cut(*arguments):
        raise Cut

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(training, "SpatialVAE", cut)
        train(*arguments, **keywords)


@pytest.mark.slow
def test_a_training_interrupted_before_its_record_ends_like_an_uninterrupted_one(
    data, trained, tmp_path, monkeypatch
):
    def cut(*arguments, **keywords):
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "finish", cut)
        with pytest.raises(Cut):
            train(data, tmp_path / "cut")
    run = RunFolder(tmp_path / "cut")
    assert not run.record.exists()
    train(data, tmp_path / "cut")
    assert same(weights(trained), weights(tmp_path / "cut"))
    assert [line["step"] for line in read_history(run.path)] == [3, 6]


STARTS = {
    "an empty folder": (),
    "half an identity": (".abcdefgh-identity.json",),
    "two of them": (".abcdefgh-identity.json", ".a_cdefg1-identity.json"),
}


@pytest.mark.parametrize("names", STARTS.values(), ids=STARTS)
def test_what_is_killed_at_its_start_is_not_set_aside(tmp_path, names):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{")
    assert not RunFolder(folder).prepare({"settings": {"epochs": 1}}, aside_of(folder))
    assert not asides(folder)
    assert [path.name for path in folder.rglob("*") if path.is_file()] == ["identity.json"]


HOLDER = """
import sys
from svae.jobs.disk import only_writer
with only_writer(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_run_folder_has_one_writer(data, tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "run")]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"another process is still writing .*run"):
            train(data, tmp_path / "run")
        assert not (tmp_path / "run").exists()
        other.kill()
    with only_writer(tmp_path / "run"):  # the lock was released when its process exited
        pass


CHANGES = {
    "settings": {"what": replace(TINY, learning_rate=0.01)},
    "fewer epochs": {"what": replace(TINY, epochs=1)},
    "memory": {"what": replace(TINY, image_memory_mb=7)},
    "code": {"code": "0ther"},
    "seed": {"seed": 3},
}


def content(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def finished_before(trained, folder):
    """A copy of the finished run, as Snakemake leaves it before it reruns the job; its files."""
    shutil.copytree(trained, folder)
    (folder / "run.json").unlink()
    return content(folder)


@pytest.mark.parametrize("change", [*CHANGES, "data"])
def test_another_run_is_set_aside_completely(data, trained, tmp_path, monkeypatch, change):
    folder = tmp_path / "seed-0"
    before = finished_before(trained, folder)
    other = make_store(tmp_path / "other.h5", changes=["train"]) if change == "data" else data
    begin(monkeypatch, other, folder, **CHANGES.get(change, {}))
    (aside,) = asides(folder)
    assert content(aside) == before
    assert [path.name for path in folder.iterdir()] == ["identity.json"]


OTHER = CHANGES["settings"]["what"]


@pytest.fixture
def taken(monkeypatch):
    """The epochs that were trained, as (learning rate, epoch)."""
    epochs = []
    original = Loop._steps

    def counted(self, step, batches, epoch):
        epochs.append((self.settings.learning_rate, epoch + 1))
        original(self, step, batches, epoch)

    monkeypatch.setattr(Loop, "_steps", counted)
    return epochs


@pytest.mark.slow
def test_changing_a_setting_and_back_trains_nothing(data, trained, tmp_path, monkeypatch, taken):
    folder = tmp_path / "seed-0"
    before = finished_before(trained, folder)
    train(data, folder, OTHER)
    (folder / "run.json").unlink()
    assert taken == [(0.01, 1), (0.01, 2)]
    taken.clear()
    monkeypatch.setattr(training, "SpatialVAE", None)  # and nothing is evaluated
    for what in (TINY, OTHER, TINY):
        record = train(data, folder, what)
        assert record["settings"]["learning_rate"] == what.learning_rate
        (folder / "run.json").unlink()
        (aside,) = asides(folder)
        rates = {TINY.learning_rate, 0.01} - {what.learning_rate}
        assert {read_json(aside / "identity.json")["settings"]["learning_rate"]} == rates
    assert taken == [] and content(folder) == before


@pytest.mark.parametrize("what", [TINY, replace(TINY, threads=2)], ids=["same", "threads"])
def test_a_finished_run_is_recognised_in_place(data, trained, tmp_path, monkeypatch, taken, what):
    folder = tmp_path / "seed-0"
    finished_before(trained, folder)
    monkeypatch.setattr(training, "SpatialVAE", None)
    assert train(data, folder, what) == read_json(trained / "run.json")


@pytest.mark.slow
def test_two_runs_are_set_aside_and_more_epochs_resume(data, trained, tmp_path, taken):
    folder = tmp_path / "seed-0"
    finished_before(trained, folder)
    train(data, folder, OTHER)
    train(data, folder, replace(OTHER, batch_size=4, epochs=1))
    assert len(asides(folder)) == 2
    taken.clear()
    train(data, folder, replace(TINY, epochs=3))
    assert taken == [(TINY.learning_rate, 3)]
    train(data, tmp_path / "whole", replace(TINY, epochs=3))
    assert same(weights(folder), weights(tmp_path / "whole"))
    assert len(asides(folder)) == 2


@pytest.mark.slow
def test_the_run_with_the_most_progress_returns(data, trained, tmp_path, taken):
    """One run of one epoch is in place, and one of two, which are requested, is set aside."""
    folder = tmp_path / "seed-0"
    finished_before(trained, folder)
    train(data, folder, replace(TINY, epochs=1))
    taken.clear()
    assert train(data, folder) == read_json(trained / "run.json")
    assert taken == []


@pytest.mark.slow
@pytest.mark.parametrize("moves", [0, 1])
def test_killed_between_setting_aside_and_bringing_back(
    data, trained, tmp_path, monkeypatch, taken, moves
):
    folder = tmp_path / "seed-0"
    before = finished_before(trained, folder)
    begin(monkeypatch, data, folder, OTHER)
    left = iter(range(moves))

    def killed(source, target):
        if next(left, None) is None:
            raise Cut
        return source.rename(target)

    with monkeypatch.context() as patch, pytest.raises(Cut):
        patch.setattr(set_aside, "_move", killed)
        train(data, folder)
    assert folder.exists() == (moves == 0) and len(asides(folder)) == 1 + moves
    train(data, folder)
    (folder / "run.json").unlink()
    assert content(folder) == before and taken == [] and len(asides(folder)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["weights", "weights and checkpoints", "history"])
def test_a_damaged_run_is_repaired_as_far_as_needed(
    data, trained, tmp_path, monkeypatch, taken, caplog, damaged
):
    folder = tmp_path / "seed-0"
    finished_before(trained, folder)
    begin(monkeypatch, data, folder, OTHER)
    (aside,) = asides(folder)
    if "weights" in damaged:
        (aside / "final.weights.h5").write_bytes(b"other weights")
    if "checkpoints" in damaged:
        for path in (aside / "checkpoints").iterdir():
            path.write_bytes(b"other variables")
    if "history" in damaged:
        (aside / "history.jsonl").write_text("{")
    gpu = "running on GPU 0"
    assert train(data, folder, device=gpu)["device"] == (gpu if "checkpoints" in damaged else CPU)
    assert ("final.weights.h5 is damaged" in caplog.text) == ("weights" in damaged)
    assert len(taken) == (2 if "checkpoints" in damaged else 0)
    assert same(weights(trained), weights(folder)) and len(read_history(folder)) == 2


@pytest.mark.slow
def test_no_part_of_another_run_affects_a_new_one(data, trained, tmp_path):
    what = replace(TINY, learning_rate=0.01)
    finished_before(trained, tmp_path / "seed-0")
    record = train(data, tmp_path / "seed-0", what)
    fresh = train(data, tmp_path / "fresh", what)
    assert record["weights_sha256"] == fresh["weights_sha256"]
    assert len(read_history(tmp_path / "seed-0")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("split", ["valid", "test"])
def test_nothing_is_fitted_to_held_out_images(data, trained, tmp_path, split):
    other = make_store(tmp_path / "other.h5", changes=[split])
    record = train(other, tmp_path / "seed-0")
    assert same(weights(trained), weights(tmp_path / "seed-0"))
    changed = read_json(trained / "run.json")[split]["sse_per_image"]
    assert record[split]["sse_per_image"] != changed


@pytest.mark.slow
def test_the_optimal_variance_is_the_training_sets(data, tmp_path):
    what = replace(TINY, **ELBO, decoder_variance="optimal", beta=4.0)
    record = train(data, tmp_path / "run", what)
    assert record["decoder_variance"] == pytest.approx(record["train"]["mse_per_pixel"], rel=1e-5)
    assert record["kl_weight"] == pytest.approx(2 * 4 * record["decoder_variance"])
    for split in ("train", "valid", "test"):
        terms, v = record[split], record["decoder_variance"]
        nll = 512 * math.log(2 * math.pi * v) + terms["sse_per_image"] / (2 * v)
        elbo = -nll - terms["kl_nats_per_image"]
        assert terms["elbo_nats_per_image"] == pytest.approx(elbo, rel=1e-4)


@pytest.mark.slow
def test_gradients_that_overflow_float16_at_every_scale_stop_the_training(
    data, tmp_path, monkeypatch
):
    what = replace(TINY, precision="mixed_float16")
    train(data, tmp_path / "run", what)
    monkeypatch.setattr(training_step, "LEAST_SCALE", 2.0**60)
    with pytest.raises(
        UserError, match=r"step 1 \(epoch 1\): the gradients are not finite .*precision float32"
    ):
        train(data, tmp_path / "other", what)


def test_a_loss_that_is_not_finite_stops_the_training_at_its_step(data, tmp_path):
    what = settings(posterior="naive", batch_size=8, epochs=30, learning_rate=1e6)
    with pytest.raises(
        UserError, match=r"step \d+ \(epoch \d+\): .*not finite \(loss .*sse .*kl "
    ) as e:
        train(data, tmp_path / "run", what)
    assert "training.learning_rate" in str(e.value)
    run = RunFolder(tmp_path / "run")
    lines = read_history(run.path)
    assert all(math.isfinite(x) for line in lines for x in line.values() if isinstance(x, float))
    newest = run.checkpoints.newest()
    assert f"the last good checkpoint is {newest}" in str(e.value) if lines else newest is None
    assert not (tmp_path / "run" / "run.json").exists()
    assert not (tmp_path / "run" / "final.weights.h5").exists()


def test_too_few_training_images(data, tmp_path):
    with pytest.raises(UserError, match=r"batch_size is 25.*24 training images"):
        train(data, tmp_path / "run", replace(TINY, batch_size=25))
    assert not (tmp_path / "run").exists()


def test_the_memory_for_images_bounds_the_feed(data, tmp_path, monkeypatch):
    bounds = []

    def watched(images, batch_size, seed, memory):
        bounds.append(memory)
        return Feed(images, batch_size, seed, memory)

    monkeypatch.setattr(training, "Feed", watched)
    for megabytes in (1, 2):
        what = replace(TINY, image_memory_mb=megabytes)
        begin(monkeypatch, data, tmp_path / f"{megabytes}", what)
    assert bounds == [1e6, 2e6]


def test_batch_norm_is_estimated_over_shuffled_batches(data, trained):
    with store.Store(data) as opened:
        images = opened.images("train")
    model = load_model(trained)[0]
    RunFolder(trained).checkpoints.restore(TrainingStep(model, 3, 0.3).variables)
    order = generator(0, Stream.EPOCH_ORDER, TINY.epochs).permutation(24)
    batch_norm.reestimate(model, [images[np.sort(part)] for part in np.split(order, 3)])
    for expected, found in zip(model.get_weights(), weights(trained), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
def test_a_learned_variance_starts_at_that_of_the_pixels(tmp_path):
    data = make_store(tmp_path / "waves.h5", train=300)
    with store.Store(data) as opened:
        expected = np.var(opened.images("train") / 127.5 - 1)
    still = {**ELBO, "decoder_variance": "learned", "decoder_variance_learning_rate": 1e-12}
    record = train(data, tmp_path / "run", replace(TINY, epochs=1, batch_size=300, **still))
    assert record["decoder_variance"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.slow
def test_load_model_requires_the_recorded_weights(data, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=r"no finished run"):
        load_model(folder)
    train(data, folder)
    target = folder / "final.weights.h5"
    content = target.read_bytes()
    target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(UserError, match=r"final.weights.h5 is not the file"):
        load_model(folder)
    target.unlink()
    with pytest.raises(UserError, match=r"final.weights.h5 is missing"):
        load_model(folder)


@pytest.mark.slow
def test_early_stopping_uses_the_weights_of_the_best_epoch(data, tmp_path):
    what = replace(TINY, learning_rate=0.02, epochs=40, early_stopping_patience=1)
    record = train(data, tmp_path / "early", what)
    lines = read_history(tmp_path / "early")
    losses = [line["valid_objective_sse_plus_w_kl"] for line in lines]
    best = losses.index(min(losses)) + 1
    assert record["early_stopped"] and len(lines) == record["epochs_trained"] == best + 1 < 40
    assert record["weights_of_epoch"] == record["best_epoch"] == best

    # the same weights as after a training of that many epochs, except batch-norm statistics, which
    # are estimated in an order that depends on the number of epochs
    train(data, tmp_path / "best", replace(what, epochs=best, early_stopping_patience=None))
    models = [load_model(tmp_path / name)[0] for name in ("early", "best")]
    for a, b in zip(*(model.trainable_variables for model in models), strict=True):
        np.testing.assert_array_equal(a, b)

    # more epochs change nothing: it has stopped
    again = train(data, tmp_path / "early", replace(what, epochs=50))
    assert again["epochs_trained"] == record["epochs_trained"]
    assert len(read_history(tmp_path / "early")) == best + 1


@pytest.mark.slow
def test_a_cosine_schedule_depends_on_the_epochs(data, tmp_path, monkeypatch):
    what = replace(TINY, learning_rate_schedule="cosine", epochs=1)
    begin(monkeypatch, data, tmp_path / "run", what)
    train(data, tmp_path / "run", replace(what, epochs=2))
    assert len(asides(tmp_path / "run")) == 1
    rates = [line["learning_rate"] for line in read_history(tmp_path / "run")]
    shares = [0.5 * (1 + math.cos(math.pi * step / 6)) for step in (2, 5)]
    assert rates == pytest.approx([TINY.learning_rate * share for share in shares], rel=1e-5)


@pytest.mark.slow
def test_a_dead_run_is_reported_once(data, tmp_path, caplog):
    what = replace(TINY, learning_rate=1e-12, kl_warmup_epochs=0, epochs=5, batch_size=2)
    record = train(data, tmp_path / "run", what)
    (warning,) = [text for text in record["warnings"] if text.startswith("dead run")]
    assert caplog.text.count(warning) == 1
