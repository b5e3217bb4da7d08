"""The real Snakemake, stopped and killed in the middle of a training, and brought back."""

import json
import os
import signal
import time

import pytest
from helpers.workflow import VARIANTS, Workflow

pytestmark = pytest.mark.workflow

RUN = "runs/mnist_5k/low_rank/seed-0"
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
def whole(tmp_path_factory):
    workflow = Workflow(tmp_path_factory.mktemp("whole") / "whole")
    workflow.configure(SETTINGS)
    workflow.run(f"{RUN}/run.json")
    return workflow.folder


def stop(workflow, name):
    """Start Snakemake, and send the signal to all of it as soon as there is a new checkpoint."""

    def checkpoints():
        return set(workflow.folder.glob(f"{RUN}/checkpoints/step-*"))

    before = checkpoints()
    with workflow.start(f"{RUN}/run.json", "--rerun-incomplete") as process:
        limit = time.monotonic() + 120
        while not checkpoints() - before:
            assert process.poll() is None and time.monotonic() < limit
            time.sleep(0.05)
        os.killpg(process.pid, getattr(signal, name))
        assert process.wait(60) != 0
    assert not (workflow.folder / RUN / "run.json").exists()


def test_a_signal_to_all_of_it_loses_nothing(tmp_path, whole):
    """As Ctrl-C in a terminal does, and then a machine that is lost."""
    workflow = Workflow(tmp_path / "stopped")
    workflow.configure(SETTINGS)
    log = workflow.folder / "logs/train_mnist_5k_low_rank_seed-0.log"
    stop(workflow, "SIGINT")
    for _ in range(100):  # Snakemake may be gone a moment before its job
        if "run snakemake again" in log.read_text():
            break
        time.sleep(0.1)
    assert "stopped by SIGINT; to go on, run snakemake again" in log.read_text()
    stop(workflow, "SIGKILL")
    assert "goes on behind" in log.read_text()
    workflow.run("--unlock")
    workflow.run(f"{RUN}/run.json", "--rerun-incomplete")
    assert "goes on behind" in log.read_text()
    assert results(workflow.folder) == results(whole)
