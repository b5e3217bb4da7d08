"""Checkpoints: their content, which of them are kept, and damaged ones."""

import logging
import sys

import keras
import numpy as np
import pytest
from helpers.disks import run_on_small_disk

from svae.errors import UserError
from svae.training.checkpoints import Checkpoints, State


def variables(value=0.0):
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (), (5,)]
    return [keras.Variable(rng.normal(size=shape) + value) for shape in shapes] + [
        keras.Variable(7, dtype="int64")
    ]


def state(step):
    records = [{"epoch": 1, "train_loss": 1 / 3, "valid_kl_nats_per_map": [0.1, 0.2]}]
    sums = {"loss": 0.1 + 0.2, "sse": 1e-300, "kl": 1 / 7, "penalty": 0.0}
    return State(step, records, sums, 12.5, step, 1 / 9, [{"epoch": 1, "rolled_back": True}])


def test_saved_values_are_restored(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    saved, found = variables(), variables(1.0)
    path = checkpoints.save(state(12), saved)
    assert path == checkpoints.newest() == tmp_path / "checkpoints/step-000000012.npz"
    assert checkpoints.restore(found) == state(12)
    for a, b in zip(saved, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_last_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (5, 999_999_999, 1_000_000_000):
        checkpoints.save(state(step), variables())
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-1000000000.npz",
        "step-999999999.npz",
    ]
    assert checkpoints.restore(variables()).step == 1_000_000_000


def test_the_start_of_the_epoch_is_kept_and_later_ones_can_be_dropped(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    for step in (4, 8, 9, 10, 11):
        checkpoints.save(state(step), variables(), epoch_start=8)
    names = [f"step-{step:09}.npz" for step in (8, 10, 11)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    checkpoints.drop_after(8)
    assert [path.name for path in tmp_path.iterdir()] == names[:1]
    assert checkpoints.restore(variables()).step == 8


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    content = bytearray(path.read_bytes())
    content[150] ^= 1  # within the first array
    path.write_bytes(content)


DAMAGES = {
    "cut": cut,
    "a bit": flip,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "a pickle": lambda path: np.savez(path.open("wb"), state=np.array([print], dtype=object)),
    "another array": lambda path: np.savez(path.open("wb"), state=np.zeros(3)),
    "another state": lambda path: np.savez(
        path.open("wb"), state=np.frombuffer(b'{"steps": 3}', np.uint8)
    ),
    "too few arrays": lambda path: np.savez(
        path.open("wb"), state=np.frombuffer(b'{"step": 3}', np.uint8), **{"0000": np.zeros((3, 4))}
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_skipped_with_a_log_line(tmp_path, caplog, damage):
    checkpoints = Checkpoints(tmp_path)
    first, second = variables(), variables(1.0)
    checkpoints.save(state(3), first)
    DAMAGES[damage](checkpoints.save(state(6), second))
    found = variables(2.0)
    assert checkpoints.restore(found) == state(3)
    for a, b in zip(first, found, strict=True):
        np.testing.assert_array_equal(a, b)
    assert checkpoints.newest().name == "step-000000003.npz"
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "step-000000006.npz is damaged" in record.getMessage()


def test_without_an_intact_one_nothing_is_restored(tmp_path):
    checkpoints, found = Checkpoints(tmp_path / "none"), variables()
    assert checkpoints.restore(found) is None
    assert "no checkpoint yet" in checkpoints.way_back()
    cut(checkpoints.save(state(3), found))
    assert checkpoints.restore(found) is None
    for a, b in zip(variables(), found, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_not_saved(tmp_path, value):
    checkpoints, lost = Checkpoints(tmp_path), variables()
    good = checkpoints.save(state(3), lost)
    lost[2].assign(np.full(5, value))
    with pytest.raises(UserError, match=r"step 6: .*longer finite.*the last good .*step-000000003"):
        checkpoints.save(state(6), lost)
    assert list(tmp_path.iterdir()) == [good]


FILL = """
import sys
from pathlib import Path
import keras
import numpy as np
from svae.training.checkpoints import Checkpoints, State
from svae.errors import UserError

checkpoints = Checkpoints(Path(sys.argv[1]))
values = [keras.Variable(np.ones(60_000, np.float32))]
checkpoints.save(State(3), values)
try:
    checkpoints.save(State(6), values)
except UserError as error:
    print(error)
print("restored", checkpoints.restore(values).step)
"""


@pytest.mark.slow
def test_a_full_disk_leaves_the_previous_checkpoint(tmp_path):
    (tmp_path / "disk").mkdir()
    command = [sys.executable, "-c", FILL, str(tmp_path / "disk")]
    done = run_on_small_disk(tmp_path / "disk", 400_000, command)
    assert done.returncode == 0, done.stderr
    message, restored, left = done.stdout.splitlines()
    assert "step-000000006.npz cannot be written: no space left on the disk" in message
    assert (restored, left) == ("restored 3", "left: step-000000003.npz")
