"""Whole runs of the real pipeline, each in a folder of its own."""

import itertools
import json
import os
import re

import h5py
import pytest
import yaml
from archives import cifar_members, numbered_images, write_tar
from workflow import CLONE, SMALL, VARIANTS, Workflow

pytestmark = pytest.mark.workflow


def small_cifar10(path):
    """An archive in the official layout: 300 images for training and validation, 60 test."""
    return write_tar(path, cifar_members(numbered_images(300), numbered_images(60, 300)))


def overlap(folder):
    """Whether any two trainings ran at the same time, by the times in their logs."""
    spans = []
    for path in (folder / "logs").glob("train*"):
        times = re.findall(r"^[\d-]+ [\d:,]+", path.read_text(), re.MULTILINE)
        spans.append((times[0], times[-1]))
    spans.sort()
    return any(start < end for (_, end), (start, _) in itertools.pairwise(spans))


def test_changed_settings_and_data_sets(tmp_path):
    """A cached run of other settings is set aside and not used; more epochs go on; a data set and
    back again trains nothing."""
    workflow = Workflow(tmp_path)
    archive = small_cifar10(tmp_path / "own.tar.gz")
    one = {
        "sources": {"cifar10": {"archive": archive.name}},
        "variants": {"low_rank": VARIANTS["low_rank"]},
        "training": {"epochs": 1, "batch_size": 50},
        "sampling": {"n_samples": 50},
    }
    workflow.configure(one)
    workflow.run()
    run = tmp_path / "runs/mnist_5k/low_rank/seed-0"
    first = json.loads((run / "run.json").read_text())

    workflow.configure({"training": {"epochs": 2}})
    workflow.run()
    assert (
        "goes on behind epoch 1"
        in (tmp_path / "logs/train_mnist_5k_low_rank_seed-0.log").read_text()
    )
    assert len((run / "history.jsonl").read_text().splitlines()) == 2

    workflow.configure({"training": {"epochs": 1, "learning_rate": 0.01}})
    workflow.run()
    second = json.loads((run / "run.json").read_text())
    assert second["settings"]["learning_rate"] == 0.01
    assert second["weights_sha256"] != first["weights_sha256"]
    assert len((run / "history.jsonl").read_text().splitlines()) == 1
    aside = run.with_name("seed-0.set-aside-1")
    assert json.loads((aside / "identity.json").read_text())["settings"]["epochs"] == 2
    score = json.loads((tmp_path / "results/parzen_low_rank.json").read_text())

    workflow.run("--config", "dataset=cifar10", "training={objective: elbo}")
    there = json.loads((tmp_path / "results/parzen_low_rank.json").read_text())
    assert there["dataset"] == "cifar10" and there["dimension"] == 3072
    assert there["objective"] == "elbo" and there["decoder_variance"] > 0
    assert "differs by checksum" in there["dataset_source_note"]
    assert "**Warning:**" in (tmp_path / "results/summary.md").read_text()
    assert workflow.planned() == {
        "result": 1,
        "comparison": 1,
        "contact_sheet": 1,
        "training_curves": 1,
        "summary": 1,
    }
    workflow.run()
    assert json.loads((tmp_path / "results/parzen_low_rank.json").read_text()) == score


def test_outputs_go_to_the_directory(tmp_path):
    """From the clone, with --directory: its config.yaml wins, sources are relative to it."""
    workflow = Workflow(tmp_path / "unused")
    working = tmp_path / "elsewhere"
    working.mkdir()
    small_cifar10(working / "own.tar.gz")
    content = {
        "dataset": "cifar10",
        "sources": {"cifar10": {"archive": "own.tar.gz"}},
        "variants": {"naive": {"posterior": "naive"}},
    }
    (working / "config.yaml").write_text(yaml.safe_dump(content))
    target = "data/cifar10.h5"
    workflow.run("--directory", str(working), "-s", str(CLONE / "Snakefile"), target)
    with h5py.File(working / target) as file:
        assert file["test"].shape == (60, 32, 32, 3)
        assert file["train"].shape[0] + file["valid"].shape[0] == 300
    assert not (workflow.folder / "data").exists()


def fake_gpus(folder, count):
    """A nvidia-smi that tells of `count` GPUs, in front of the PATH."""
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    lines = "\n".join(f"GPU {i}: NVIDIA Fake (UUID: GPU-fake-{i})" for i in range(count))
    tool.write_text(f"#!/bin/sh\necho '{lines}'\n")
    tool.chmod(0o755)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    every = ",".join(str(number) for number in range(count))
    return {"PATH": path, "CUDA_VISIBLE_DEVICES": every}


GIVEN = {0: [], 1: ["GPU-fake-0", "GPU-fake-0"], 2: ["GPU-fake-0", "GPU-fake-1"]}


@pytest.mark.parametrize("count", GIVEN)
def test_one_training_one_gpu(tmp_path, count):
    """Two trainings on one GPU run one after the other; on two side by side, each on its own; and
    without any side by side on the CPU.

    TensorFlow cannot see these GPUs: each job says so, naming the one it was given, and goes on.
    """
    workflow = Workflow(tmp_path)
    names = ("vanilla", "low_rank")
    workflow.configure(SMALL | {"variants": {name: {"posterior": name} for name in names}})
    records = [f"runs/mnist_5k/{name}/seed-0/run.json" for name in names]
    environment = {"TMPDIR": str(tmp_path), **fake_gpus(tmp_path, count)}
    workflow.run("--cores", "2", "data/mnist_5k.h5", **environment)
    workflow.run("--cores", "2", *records, **environment)
    logs = [path.read_text() for path in (tmp_path / "logs").glob("train*")]
    given = [found[0] for log in logs if (found := re.search(r"GPU-fake-\d", log))]
    assert sorted(given) == GIVEN[count]
    assert not any("waiting for a GPU" in log for log in logs)
    assert overlap(tmp_path) == (count != 1)
