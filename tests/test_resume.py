"""Trainings in separate processes that are killed or asked to stop, and resume."""

import json
import signal
import subprocess
import sys
import time

import pytest
from helpers.builders import make_images
from helpers.stores import write

from svae.jobs.files import read_json

# 3 epochs of 20 steps of the default network, with dropout, batch norm and shuffling. A checkpoint
# after every step. `kill`: where the process kills itself, and how often it passes this place
# before.
TRAIN = """
import os, signal, sys
from pathlib import Path
from svae.jobs import devices
devices.set_up(None, 1)
import numpy as np
from svae.model import batch_norm
from svae.training import checkpoints, terms, loop, train as training
from svae.jobs.logs import log_to
from svae.settings.services import CheckpointSettings, Services, TensorBoardSettings
from svae.settings.training import TrainingSettings

data, folder, log, where, passes = sys.argv[1:]
folder, passes = Path(folder), int(passes)


def killed_within(function):
    def killing(*arguments, **keywords):
        global passes
        passes -= 1
        if passes < 0:
            if where == "save":
                arguments[0].write(b"half of it")
                arguments[0].flush()
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **keywords)

    return killing


if where == "save":
    np.savez = killed_within(np.savez)
if where == "step":
    loop.tf.constant = killed_within(loop.tf.constant)
if where == "validation":
    terms.Evaluator.__call__ = killed_within(terms.Evaluator.__call__)
if where == "statistics":
    batch_norm.reestimate = killed_within(batch_norm.reestimate)
settings = TrainingSettings(
    posterior="low_rank",
    low_rank_start="published",
    objective="elbo",
    kl_weight=None,
    decoder_variance="learned",
    decoder_variance_learning_rate=0.01,
    kl_warmup_epochs=2.0,
    epochs=3,
    batch_size=10,
    learning_rate_warmup_epochs=0.5,
    gradient_clip_norm=1.0,
    threads=1,
)
with log_to(log):
    training.train(
        data,
        folder,
        settings,
        Services(
            checkpoints=CheckpointSettings(minutes=1e-6),
            tensorboard=TensorBoardSettings(picture_epochs=0),
        ),
        variant="low_rank",
        seed=0,
        code="c0de",
        device="the CPU",
        aside_folder=folder.parent / "aside",
    )
"""


def start(data, folder, where="nowhere", passes=0):
    log = folder.parent / f"{folder.name}.log"
    command = [sys.executable, "-c", TRAIN, *map(str, (data, folder, log, where, passes))]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def log_of(folder):
    return (folder.parent / f"{folder.name}.log").read_text()


def results(folder):
    """Weights, record and history, without times."""
    times = ("seconds", "images_per_second", "training_seconds", "history_sha256")
    lines = [json.loads(line) for line in (folder / "history.jsonl").read_text().splitlines()]
    return (
        (folder / "final.weights.h5").read_bytes(),
        [
            {key: value for key, value in content.items() if key not in times}
            for content in [*lines, read_json(folder / "run.json")]
        ],
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "waves.h5"
    counts = {"train": 205, "valid": 20, "test": 30}
    splits = {
        name: make_images(n, (32, 32, 1), seed=i) for i, (name, n) in enumerate(counts.items())
    }
    write(path, splits, {"dataset": "waves", "title": "Waves", "padding": 0})
    return path


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert start(data, folder).wait() == 0
    return folder


def wait_for_step(folder, step):
    """Wait until there is a checkpoint of this step or a later one."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        saved = [int(path.stem[5:]) for path in (folder / "checkpoints").glob("step-*.npz")]
        if max(saved, default=0) >= step:
            return
        time.sleep(0.01)
    raise TimeoutError


# In a step, while a checkpoint is written, in a validation, and in the final pass.
MOMENTS = (("step", 7), ("save", 12), ("save", 3), ("validation", 1), ("statistics", 0))


@pytest.mark.slow
def test_a_training_killed_anywhere_ends_like_an_uninterrupted_one(data, whole, tmp_path):
    folder = tmp_path / "run"
    for where, passes in MOMENTS:
        assert start(data, folder, where, passes).wait() == -signal.SIGKILL
        assert not (folder / "run.json").exists()
    # Each appends to the log, which Snakemake would remove before.
    resumed = [line for line in log_of(folder).splitlines() if "resuming after" in line]
    assert list((folder / "checkpoints").glob("step-*.npz"))
    assert start(data, folder).wait() == 0
    assert "after step" in resumed[0] and len(resumed) == 4
    assert results(folder) == results(whole)
    names = [path.name[:5] for path in (folder / "checkpoints").iterdir()]
    assert names.count("step-") == 2 and set(names) == {"step-", "best-"}  # no half-written file


@pytest.mark.slow
def test_a_training_asked_to_stop_saves_and_resumes(data, whole, tmp_path):
    folder = tmp_path / "run"
    for name, step in (("SIGINT", 3), ("SIGTERM", 25)):
        process = start(data, folder)
        wait_for_step(folder, step)
        for _ in range(3):  # Snakemake sends its own signal after the terminal's
            process.send_signal(getattr(signal, name))
        assert process.wait() == 128 + getattr(signal, name)
        log = log_of(folder)
        assert f"stopped by {name}; run snakemake again to resume" in log and "Traceback" not in log
        saved = max(int(path.stem[5:]) for path in (folder / "checkpoints").glob("step-*.npz"))
        assert f"step {saved} is saved in " in log and step <= saved < 60
    assert start(data, folder).wait() == 0
    assert "resuming after" in log_of(folder)
    assert results(folder) == results(whole)


def test_a_training_with_nothing_to_save_stops_at_once():
    code = """
import os, signal, sys, time
from svae.errors import Stopped
from svae.training.stopping import stop_request
signal.signal(signal.SIGHUP, signal.SIG_IGN)
try:
    with stop_request() as request:
        os.kill(os.getpid(), signal.SIGHUP)  # ignored, as under nohup
        request.check()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)
except Stopped as stopped:
    print(stopped, stopped.exit_code)
print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "stopped by SIGTERM; run snakemake again to resume 143\nTrue\n"


# The signal comes while a library runs, which converts what it raises.
WITHIN = """
import os, signal
from svae.errors import Stopped, UserError
from svae.training.stopping import stop_request

def stop():
    os.kill(os.getpid(), signal.SIGTERM)

def converted(errors):
    try:
        stop()
    except errors as error:
        raise RuntimeError("converted") from error

def swallowed():
    try:
        stop()
    except BaseException:
        pass

def in_keras(method):
    import keras
    layer = keras.layers.Dense(2)
    setattr(layer, method, lambda *arguments: stop())
    layer(keras.ops.ones((1, 2)))

def in_tensorflow():
    import tensorflow as tf
    tf.numpy_function(stop, [], [])

def other_error():
    swallowed()
    raise UserError("the disk is full")

for name, call in CASES.items():
    try:
        with stop_request() as request:
            call()
            request.check()
    except BaseException as error:
        print(name, type(error).__name__)
"""
CASES = {
    "an Exception": "lambda: converted(Exception)",
    "anything": "lambda: converted(BaseException)",
    "nothing": "swallowed",
}
IN_LIBRARIES = {
    "building": "lambda: in_keras('build')",
    "calling": "lambda: in_keras('call')",
    "a function of TensorFlow": "in_tensorflow",
}


@pytest.mark.parametrize("cases", [CASES, pytest.param(IN_LIBRARIES, marks=pytest.mark.slow)])
def test_a_signal_within_a_library_stops(cases):
    table = ", ".join(
        f"{name!r}: {call}" for name, call in {**cases, "an error": "other_error"}.items()
    )
    code = WITHIN.replace("CASES.items()", f"{{{table}}}.items()")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = [f"{name} Stopped" for name in cases] + ["an error UserError"]
    assert done.stdout.splitlines() == expected, done.stderr[-2000:]
