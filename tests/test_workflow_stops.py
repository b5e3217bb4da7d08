"""The real Snakemake, stopped and killed in the middle of a training, and resumed."""

import json
import os
import signal
import subprocess
import time

import pytest
from helpers.workflow import VARIANTS, Workflow

pytestmark = pytest.mark.workflow

RUN = "runs/mnist_5k/low_rank/seed-0"
SPECTRUM = "runs/mnist_5k/baselines/spectrum.npz"
SETTINGS = {
    "training": {"epochs": 2, "threads": 1},
    "checkpoints": {"minutes": 0.02},
    "variants": {"low_rank": VARIANTS["low_rank"]},
}


def results(folder):
    """Weights and history of the finished run, without times."""
    times = ("seconds", "images_per_second")
    lines = [json.loads(line) for line in (folder / RUN / "history.jsonl").read_text().splitlines()]
    history = [{key: line[key] for key in line if key not in times} for line in lines]
    return (folder / RUN / "final.weights.h5").read_bytes(), history


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Everything that the training needs."""
    workflow = Workflow(tmp_path_factory.mktemp("prepared"))
    workflow.configure(SETTINGS)
    workflow.run(SPECTRUM)
    return workflow


@pytest.fixture(scope="module")
def whole(prepared, tmp_path_factory):
    workflow = prepared.copy(tmp_path_factory.mktemp("whole") / "whole")
    workflow.run(f"{RUN}/run.json")
    return workflow.folder


def stop(workflow, name):
    """Start Snakemake, and signal all its processes as soon as there is a new checkpoint."""

    def checkpoints():
        return set(workflow.folder.glob(f"{RUN}/checkpoints/step-*"))

    before = checkpoints()
    command = (f"{RUN}/run.json", "--rerun-incomplete")
    with workflow.start(*command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while not checkpoints() - before:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, getattr(signal, name))
        # Snakemake may exit before its job; this ends when no process can write any more.
        process.communicate()
        assert process.returncode != 0
    assert not (workflow.folder / RUN / "run.json").exists()


def test_a_signal_to_all_processes_loses_nothing(tmp_path, prepared, whole):
    """Like Ctrl-C in a terminal, and then like the loss of the machine."""
    workflow = prepared.copy(tmp_path / "stopped")
    log = workflow.folder / "logs/train_mnist_5k_low_rank_seed-0.log"
    stop(workflow, "SIGINT")
    assert "stopped by SIGINT; run snakemake again to resume" in log.read_text()
    stop(workflow, "SIGKILL")
    assert "resuming after" in log.read_text()
    workflow.run("--unlock")
    workflow.run(f"{RUN}/run.json", "--rerun-incomplete")
    assert "resuming after" in log.read_text()
    assert results(workflow.folder) == results(whole)
