"""The events are read with TensorBoard's own reader, which also detects duplicate steps."""

import io
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from helpers.builders import make_images, make_model, make_step, step
from helpers.disks import run_on_small_disk
from helpers.histories import make_record
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import TENSORS, EventAccumulator

from svae.streams import Stream, generator
from svae.training.tensorboard import TensorBoard

SAMPLES, RECONSTRUCTIONS = "pictures/samples", "pictures/reconstructions"
D = 32 * 32 * 3
IMAGES = make_images(3)


@pytest.fixture(scope="module")
def model():
    return make_model(dropout=0.5)


def run(folder, model, records, epochs=(), picture_epochs=0, images=IMAGES, ends=True):
    """A training of these epochs, from 0; `records` contains the earlier ones."""
    callback = TensorBoard(folder, records, picture_epochs, images)
    callbacks = keras.callbacks.CallbackList([callback], model=model)
    callbacks.on_train_begin()
    for epoch in epochs:
        records.append(make_record(epoch + 1))
        callbacks.on_epoch_end(epoch)
    if ends:
        callbacks.on_train_end()


def tensors(folder, name):
    """{tag: {step: value}} of a writer; every step once."""
    events = EventAccumulator(str(folder / name), size_guidance={TENSORS: 0}).Reload()
    found = {}
    for tag in events.Tags()["tensors"]:
        values = [(event.step, event.tensor_proto) for event in events.Tensors(tag)]
        found[tag] = {step: tf.make_ndarray(value) for step, value in values}
        assert [key for key, _ in values] == sorted(found[tag])
    return found


def pictures(folder, tag):
    """{step: uint8 (height, width, channel)}."""
    found = tensors(folder, "validation").get(tag, {})
    return {
        step: np.asarray(Image.open(io.BytesIO(values[2]))).reshape(
            int(values[1]), int(values[0]), -1
        )
        for step, values in found.items()
    }


def grid(images, columns=8):
    """Each image copied to its place, with a white border of one pixel."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    picture = np.full((rows * (height + 2), columns * (width + 2), channels), 255, np.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + 2) + 1, i % columns * (width + 2) + 1
        picture[top : top + height, left : left + width] = image
    return picture


def levels(x):
    return np.round((np.asarray(x) + 1) * 127.5).astype(np.uint8)


def test_every_term_has_its_chart(tmp_path, model):
    records = []
    run(tmp_path, model, records, range(3))
    train, valid = tensors(tmp_path, "train"), tensors(tmp_path, "validation")
    charts = {
        "loss/objective_sse_plus_w_kl": ("train_sse_per_image", "valid_objective_sse_plus_w_kl"),
        "loss/sse_per_image": ("train_sse_per_image", "valid_sse_per_image"),
        "loss/kl_nats_per_image": ("train_kl_nats_per_image", "valid_kl_nats_per_image"),
        "loss/as_minimised": ("train_loss", None),
        "training/kl_weight": ("kl_weight", None),
        "training/kl_warmup_factor": ("kl_warmup_factor", None),
        "training/learning_rate": ("learning_rate", None),
        "training/images_per_second": ("images_per_second", None),
        "latent/active_entries": (None, "valid_active_entries"),
        "latent/active_maps": (None, "valid_active_maps"),
    }
    assert train.keys() == {tag for tag, (key, _) in charts.items() if key}
    shown = {tag for tag, (_, key) in charts.items() if key}
    assert valid.keys() == shown | {"latent/kl_nats_per_map"}
    for tag, keys in charts.items():
        for found, key in zip((train, valid), keys, strict=True):
            if key:
                expected = [record[key] for record in records]
                if key == "train_sse_per_image" and "objective" in tag:
                    expected = [
                        r[key] + r["kl_weight"] * r["train_kl_nats_per_image"] for r in records
                    ]
                assert list(found[tag]) == [1, 2, 3]
                assert list(found[tag].values()) == pytest.approx(expected, rel=1e-6)
    for record in records:
        left, right, count = valid["latent/kl_nats_per_map"][record["epoch"]].T
        per_map = record["valid_kl_nats_per_map"]
        assert count.sum() == len(per_map)
        assert (left[0], right[-1]) == pytest.approx((min(per_map), max(per_map)), rel=1e-6)


def test_the_elbo_has_its_own_chart_and_unit(tmp_path, model):
    record = make_record(1, objective="elbo", decoder_variance=0.25, kl_weight=2 * 0.25 * 3)
    callback = TensorBoard(tmp_path, [record], 0, make_images(1))
    callback.set_model(model)
    callback.on_train_begin()
    callback.on_train_end()
    tag = "loss/objective_negative_elbo_with_beta"
    valid = tensors(tmp_path, "validation")
    loss = -record["valid_elbo_nats_per_image"]
    assert valid["loss/negative_elbo_nats_per_image"][1] == loss
    loss += 2 * record["valid_kl_nats_per_image"]
    assert valid[tag][1] == pytest.approx(loss, rel=1e-5)
    train = tensors(tmp_path, "train")
    nll = D / 2 * np.log(2 * np.pi * 0.25) + record["train_sse_per_image"] / 0.5
    assert train[tag][1] == pytest.approx(nll + 3 * record["train_kl_nats_per_image"], rel=1e-5)
    assert train["training/decoder_variance"][1] == 0.25
    assert "loss/objective_sse_plus_w_kl" not in train


@pytest.mark.parametrize(
    ("picture_epochs", "expected"), [(0, []), (1, [1, 2, 3, 4, 5]), (2, [2, 4, 5]), (9, [5])]
)
def test_when_pictures_are_drawn(tmp_path, model, picture_epochs, expected):
    run(tmp_path, model, [], range(5), picture_epochs)
    for tag in (SAMPLES, RECONSTRUCTIONS):
        assert list(pictures(tmp_path, tag)) == expected


@pytest.mark.parametrize(("shape", "count"), [((32, 32, 3), 11), ((28, 28, 1), 40)])
def test_pictures_show_samples_of_one_noise_and_reconstructions(tmp_path, shape, count):
    take_step = make_step(shape, padding=2 if shape[0] == 28 else 0)
    model = take_step.model
    images = make_images(count, shape)
    records = []
    rng = generator(model.seed, Stream.PRIOR_LATENTS)
    z = rng.standard_normal((100, 3, 3, 4), np.float32)
    expected = []

    def expect():
        shown = images[:32]
        output = levels(model(shown / np.float32(127.5) - 1))
        rows = range(0, len(shown), 8)
        pairs = [grid(part[i : i + 8]) for i in rows for part in (shown, output)]
        expected.append((grid(levels(model.decode(z[:64]))), np.concatenate(pairs)))

    run(tmp_path, model, records, [0], 1, images)
    expect()
    step(take_step, images)
    run(tmp_path, model, records, [1], 1, images)
    expect()
    for tag, one, two in zip((SAMPLES, RECONSTRUCTIONS), *expected, strict=True):
        found = pictures(tmp_path, tag)
        np.testing.assert_array_equal(found[1], one)
        np.testing.assert_array_equal(found[2], two)
        assert not np.array_equal(one, two)


def test_the_model_and_all_random_state_stay_as_they_were(tmp_path):
    def draws():
        return float(tf.random.normal(())), float(keras.random.normal(()))

    found = []
    for writes in (False, True):
        keras.utils.set_random_seed(5)
        take_step = make_step(dropout=0.5)
        model = take_step.model
        before = model.get_weights()
        if writes:
            run(tmp_path, model, [], range(2), 1)
        for one, other in zip(before, model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)
        found.append((draws(), step(take_step, make_images())))
    assert found[0] == found[1]


def kept(folder):
    """What must not change when a training resumes: all values, by writer, tag and step."""
    return {
        (name, tag, step): value.tolist()
        for name in ("train", "validation")
        for tag, values in tensors(folder, name).items()
        for step, value in values.items()
    }


@pytest.mark.slow
@pytest.mark.parametrize("stopped_behind", [3, 5])
def test_a_resumed_training_neither_duplicates_nor_loses_an_epoch(tmp_path, model, stopped_behind):
    """It was killed in epoch 6 and resumes after an earlier one; then the same again."""
    run(tmp_path / "whole", model, [], range(8), 2)
    parts, records = tmp_path / "parts", []
    run(parts, model, records, range(5), 2, ends=False)
    for _ in range(2):
        del records[stopped_behind:]
        run(parts, model, records, range(stopped_behind, 5), 2, ends=False)
    del records[stopped_behind:]
    run(parts, model, records, range(stopped_behind, 8), 2)
    assert kept(parts) == kept(tmp_path / "whole")
    for name in ("train", "validation"):
        assert len(list((parts / name).iterdir())) == 2


def test_lost_events_are_rewritten_from_the_history(tmp_path, model):
    run(tmp_path / "whole", model, [], range(4))
    records = []
    run(tmp_path / "parts", model, records, range(3))
    (cut,) = (path for path in (tmp_path / "parts/train").iterdir() if "kept" not in path.name)
    cut.write_bytes(cut.read_bytes()[:-150])  # as after a kill
    run(tmp_path / "parts", model, records, [3])
    assert kept(tmp_path / "parts") == kept(tmp_path / "whole")
    run(tmp_path / "new", model, records)
    assert kept(tmp_path / "new") == kept(tmp_path / "whole")


def test_a_kill_while_events_are_dropped_duplicates_nothing(tmp_path, model):
    """The kept events already exist in a new file, and so do the files that they came from."""
    records = []
    run(tmp_path, model, records, range(3), 1)
    before = {path: path.read_bytes() for path in tmp_path.glob("*/*")}
    expected = kept(tmp_path)
    run(tmp_path, model, records)
    for path, content in before.items():
        if "kept" not in path.name:
            path.write_bytes(content)
    # TensorBoard reads every file with tfevents in its name.
    name = ".abcdefgh-events.out.tfevents.0000000000.kept"
    (tmp_path / "train" / name).write_bytes(content)
    run(tmp_path, model, records)
    assert kept(tmp_path) == expected
    assert not (tmp_path / "train" / name).exists()


def test_the_last_picture_is_drawn_once(tmp_path, model):
    """Even by a training that was killed between its last epoch and its end."""
    records = []
    run(tmp_path, model, records, range(3), 2, ends=False)
    run(tmp_path, model, records, [], 2)
    assert list(pictures(tmp_path, SAMPLES)) == [2, 3]
    before = kept(tmp_path)
    run(tmp_path, model, records, [], 2)
    assert kept(tmp_path) == before


FILL = """
import logging, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from helpers import visible
from svae.jobs import devices
devices.set_up(None, 1)
from helpers.builders import make_images, make_model
from helpers.histories import make_record
from svae.training.tensorboard import TensorBoard

logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder, records = Path(sys.argv[1]), []
callback = TensorBoard(folder / "events", records, 2, make_images(3))
callback.set_model(make_model())
callback.on_train_begin()
for epoch in range(4):
    if epoch == 1:
        status = os.statvfs(folder)
        (folder / "fill").write_bytes(bytes(status.f_bavail * status.f_frsize))
    records.append(make_record(epoch + 1))
    callback.on_epoch_end(epoch)
callback.on_train_end()
print("trained on")
"""


@pytest.mark.slow
def test_a_full_disk_ends_the_events_and_not_the_training(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    command = [sys.executable, "-c", FILL, str(disk), str(Path(__file__).parent)]
    done = run_on_small_disk(disk, 400_000, command)
    assert done.returncode == 0, done.stderr
    message, *rest = done.stdout.splitlines()
    assert message.startswith("warning: stopped writing events for TensorBoard: ")
    assert "No space left on device" in message
    assert rest[0] == "trained on"


@pytest.mark.slow
def test_the_command_of_the_readme_starts():
    """`tensorboard --logdir runs`, up to where it would serve."""
    command = [Path(sys.executable).parent / "tensorboard", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+\.\d+", done.stdout, re.M)
