"""Complete runs of the real pipeline, each in its own folder."""

import json
import os
import re
import subprocess
import sys

import h5py
import pytest
import yaml
from helpers.archives import cifar_members, numbered_images, write_tar
from helpers.workflow import CLONE, MEASURED, SMALL, VARIANTS, Workflow

from svae.config import memory
from svae.config.resolve import resolve
from svae.jobs.devices import claim_gpu

pytestmark = pytest.mark.workflow


def small_cifar10(path):
    """An archive in the official layout: 300 images for training and validation, 60 test."""
    return write_tar(path, cifar_members(numbered_images(300), numbered_images(60, 300)))


def test_a_change_and_back_computes_nothing(tmp_path):
    """Of settings of the training and of the conversion, and of the data set."""
    workflow = Workflow(tmp_path)
    archive = small_cifar10(tmp_path / "own.tar.gz")
    first = {
        "dataset": "cifar10",
        "sources": {"cifar10": {"archive": archive.name}},
        "variants": {"low_rank": VARIANTS["low_rank"]},
        "conversion": {"crop": None, "size": None, "max_images": 600},
        "training": {
            "epochs": 1,
            "batch_size": 50,
            "learning_rate": 0.001,
            "learning_rate_schedule": "constant",
            "objective": "elbo",
        },
        "sampling": {"n_samples": 50},
        "parzen": {"fresh_draws": 0},
        "feature_distances": {"features": None},
    }
    run = tmp_path / "runs/cifar10/low_rank/seed-0"
    record = str(run.relative_to(tmp_path) / "run.json")
    score = "results/parzen_low_rank.json"

    def work(changes, target=record):
        """Conversions and trained epochs, according to the logs."""
        workflow.configure(first)
        workflow.configure(changes)
        dataset = changes.get("dataset", "cifar10")
        # What a log says at the end of a conversion and of an epoch; before, of a slow one, more.
        ends = {
            f"convert_{dataset}": " images (",
            f"train_{dataset}_low_rank_seed-0": "active maps",
        }
        logs = [tmp_path / "logs" / f"{job}.log" for job in ends]
        for log in logs:
            log.unlink(missing_ok=True)
        workflow.run(target)
        texts = [log.read_text() if log.exists() else "" for log in logs]
        return tuple(text.count(end) for text, end in zip(texts, ends.values(), strict=True))

    changed = {"training": {"learning_rate": 0.01}, "conversion": {"crop": 24, "size": 32}}
    other = {"dataset": "mnist_5k", "training": {"objective": "weighted"}}

    def weights():
        content = (run / "final.weights.h5").read_bytes()
        recorded = json.loads((run / "run.json").read_text())["weights_sha256"]
        return content, recorded

    assert work({}, score) == (1, 1)
    before, content = weights(), (tmp_path / score).read_text()
    scored = json.loads(content)
    assert scored["dataset"] == "cifar10" and scored["dimension"] == 3072
    assert scored["objective"] == "elbo" and scored["decoder_variance"] > 0
    assert "the checksum of own.tar.gz differs" in scored["dataset_source_note"]
    assert work(changed) == (1, 1)
    assert all(new != old for new, old in zip(weights(), before, strict=True))
    assert work(other, score) == (1, 1)
    assert json.loads((tmp_path / score).read_text())["dimension"] == 784
    assert work({}, score) == (0, 0)
    assert weights() == before and (tmp_path / score).read_text() == content
    # Everything else is requested here for the first time, or belongs to the other data set.
    rest = ("contact_sheet", "comparison", "training_curves", "grids", "charts", "summary")
    rest += ("result", "report", "baselines", "examples", *(score.name for score in MEASURED))
    assert workflow.planned() == dict.fromkeys(set(rest) - {"result", "parzen"}, 1)

    # TensorBoard shows the current runs only.
    events = list((tmp_path / "runs/cifar10").rglob("*tfevents*"))
    assert events and all(path.is_relative_to(run / "tensorboard") for path in events)

    def listed(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "svae.jobs.set_aside", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    _, store, changed_run, total = listed()
    assert store.startswith("set-aside/data/cifar10.h5/") and store.endswith(" crop, size")
    assert changed_run.endswith(" learning_rate, dataset_checksum")
    assert total.startswith("2 set aside, ")
    assert listed("--delete")[-1].startswith("2 deleted, ")
    assert listed() == ["nothing is set aside"]
    assert workflow.planned(score) == {}


def test_outputs_go_to_the_directory(tmp_path):
    """From the clone, with --directory: its config.yaml is used; sources are relative to it."""
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
    """An nvidia-smi that lists `count` GPUs, first on the PATH."""
    tool = folder / "bin" / "nvidia-smi"
    tool.parent.mkdir()
    lines = "\n".join(f"GPU {i}: NVIDIA Fake (UUID: GPU-fake-{i})" for i in range(count))
    tool.write_text(f"#!/bin/sh\necho '{lines}'\n")
    tool.chmod(0o755)
    path = f"{tool.parent}{os.pathsep}{os.environ['PATH']}"
    every = ",".join(str(number) for number in range(count))
    return {"PATH": path, "CUDA_VISIBLE_DEVICES": every}


SPECTRUM = "runs/mnist_5k/baselines/spectrum.npz"
RECORDS = [f"runs/mnist_5k/{name}/seed-0/run.json" for name in ("vanilla", "low_rank")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A workflow of two trainings, with everything that they need."""
    workflow = Workflow(tmp_path_factory.mktemp("prepared"))
    names = ("vanilla", "low_rank")
    few = {"conversion": {"max_images": 500}}
    workflow.configure(SMALL | few | {"variants": {name: {"posterior": name} for name in names}})
    workflow.run("--cores", "2", SPECTRUM)
    return workflow


@pytest.fixture
def small(prepared, tmp_path):
    """The same in its own folder."""
    return prepared.copy(tmp_path / "small")


# Stands in for a training. It takes a GPU as one does, and ends only when TOGETHER of them have got
# that far: if fewer run at the same time, it fails. The pause lets others begin that must not.
STAND_IN = f"""
import os
import re
import time
from pathlib import Path

from {claim_gpu.__module__} import LOCK_FOLDER, claim_gpu, gpus_for


def note(event):
    with Path("events.txt").open("a") as file:
        file.write(f"{{event}} {{snakemake.wildcards.variant}}\\n")


note("begin")
with claim_gpu(LOCK_FOLDER, gpus_for(snakemake.params.device)) as gpu:
    note(f"given {{gpu}}")
    time.sleep(0.5)
    for _ in range(6000):
        if Path("events.txt").read_text().count("given") >= int(os.environ["TOGETHER"]):
            break
        time.sleep(0.05)
    else:
        raise TimeoutError
    note("end")
Path(snakemake.output.record).write_text("{{}}")
"""


@pytest.mark.parametrize(
    ("device", "count", "given"),
    [
        ("auto", 0, ["None", "None"]),
        ("auto", 2, ["GPU-fake-0", "GPU-fake-1"]),
        ("gpu", 2, ["GPU-fake-0", "GPU-fake-1"]),
        ("cpu", 1, ["None", "None"]),
    ],
)
def test_parallel_trainings(small, tmp_path, device, count, given):
    """Two of them, each on its own GPU or both on the CPU."""
    events = stand_in(small, tmp_path, device, count, together=2)
    assert sorted(line.split()[1] for line in events if line.startswith("given")) == given


@pytest.mark.parametrize("device", ["auto", "gpu"])
def test_trainings_on_one_gpu(small, tmp_path, device):
    """One after the other: the second does not start while the first has the GPU."""
    events = stand_in(small, tmp_path, device, 1, together=1)
    assert [line.rpartition(" ")[0] for line in events] == ["begin", "given GPU-fake-0", "end"] * 2


def stand_in(small, tmp_path, device, count, together):
    """The notes of two stand-ins, of which `together` must have a GPU, or none, at a time."""
    small.configure({"device": device})
    (small.folder / "scripts/train.py").write_text(STAND_IN)
    environment = {"TMPDIR": str(tmp_path), **fake_gpus(tmp_path, count)}
    small.run("--cores", "2", *RECORDS, **environment, TOGETHER=str(together))
    return (small.folder / "events.txt").read_text().splitlines()


def test_a_training_with_an_unusable_gpu(small, tmp_path):
    """It logs a warning that names this GPU, and trains on the CPU."""
    environment = {"TMPDIR": str(tmp_path), **fake_gpus(tmp_path, 2)}
    small.run("--cores", "2", RECORDS[0], **environment)
    log = (small.folder / "logs/train_mnist_5k_vanilla_seed-0.log").read_text()
    assert "TensorFlow cannot use GPU GPU-fake-0" in log
    assert "waiting for a GPU" not in log
    content = json.loads((small.folder / RECORDS[0]).read_text())
    assert content["device"] == "running on the CPU with 1 thread"


def test_device_cpu_uses_no_gpu(small, tmp_path):
    small.configure({"device": "cpu"})
    environment = {"TMPDIR": str(tmp_path), **fake_gpus(tmp_path, 1)}
    record = RECORDS[1]
    small.run("--cores", "2", record, **environment)
    content = json.loads((small.folder / record).read_text())
    assert content["device"] == "running on the CPU with 1 thread"
    assert not any("GPU" in path.read_text() for path in (small.folder / "logs").glob("train*"))
    assert not list(tmp_path.glob("svae-gpu-*"))
    # Another device retrains nothing, and a missing GPU is no error if none is needed.
    assert small.planned("--config", "device=gpu", "--", record) == {}
    small.run("--cores", "2", "--config", "device=gpu", "--", record)


def test_device_gpu_without_a_gpu_stops_before_anything_runs(tmp_path):
    workflow = Workflow(tmp_path)
    workflow.configure(SMALL | {"device": "gpu"})
    done = workflow.run("--cores", "2", *RECORDS, check=False)
    assert done.returncode != 0
    assert "device is gpu, but no NVIDIA GPU is visible" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()
    # Nothing else needs one, and a dry run shows what would run.
    assert workflow.planned(*RECORDS) == {"convert": 1, "spectrum": 1, "train": 2}
    workflow.run("--cores", "2", "data/mnist_5k.h5")


def test_device_gpu_with_an_unusable_gpu_fails_the_training(small, tmp_path):
    small.configure({"device": "gpu"})
    environment = {"TMPDIR": str(tmp_path), **fake_gpus(tmp_path, 1)}
    done = small.run("--cores", "2", RECORDS[0], check=False, **environment)
    assert done.returncode != 0
    log = (small.folder / "logs/train_mnist_5k_vanilla_seed-0.log").read_text()
    assert "TensorFlow cannot use GPU GPU-fake-0" in log
    assert "Traceback" not in log
    assert not list((small.folder / "runs").rglob("identity.json"))
    assert "No finished training of vanilla. For the report of the others, " in done.stderr
    assert "run the same command with --config variants='{vanilla: false}'\n" in done.stderr


# Stand-in for a cluster: it records what a job requests and which configuration it would read, and
# fails the job.
CLUSTER = """
import re
import shutil
from pathlib import Path

from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
from snakemake_interface_executor_plugins.settings import CommonSettings

common_settings = CommonSettings(
    non_local_exec=True, implies_no_shared_fs=False, job_deploy_sources=False
)


class Executor(RemoteExecutor):
    def run_job(self, job):
        gpus, memory = job.resources.get("gpu", 0), job.resources["mem_mb"]
        asked = f"{job.name}: gpu {gpus}, threads {job.threads}, {memory} MB"
        asked += f", {job.resources.runtime} min\\n"
        command = self.format_job_exec(job)
        assert "--config " not in command, command
        (configuration,) = re.findall(r"--configfiles (\\S+)", command)
        shutil.copy(configuration.strip("'"), "submitted.yaml")
        with Path("asked.txt").open("a") as file:
            file.write(asked)
        info = SubmittedJobInfo(job)
        self.report_job_submission(info)
        self.report_job_error(info)

    async def check_active_jobs(self, active_jobs):
        for info in ():
            yield info

    def cancel_jobs(self, active_jobs):
        pass
"""


@pytest.mark.parametrize("count", [0, 1])
@pytest.mark.parametrize(
    ("device", "asked"), [("gpu", "gpu 1, threads 2"), ("auto", "gpu 0, threads 2")]
)
def test_trainings_on_a_cluster(small, tmp_path, device, asked, count):
    """They ask for a GPU if they must have one, whatever the submitting machine has, and do not
    wait there for one another. A job that failed asks for more. All of the configuration goes with
    them, with what --config and --configfile say."""
    small.configure({"training": {"threads": 2}, "device": device})
    plugin = small.folder / "snakemake_executor_plugin_standin"
    plugin.mkdir()
    (plugin / "__init__.py").write_text(CLUSTER)
    environment = fake_gpus(tmp_path, count)
    cluster = ("--executor", "standin", "--jobs", "2", "--keep-going", "--retries", "1")
    wait = ("--seconds-between-status-checks", "1")
    (small.folder / "more.yaml").write_text("sampling: {n_samples: 200, batch_size: 50}\n")
    wait += ("--configfile", "more.yaml", "--config", "checkpoints={minutes: 5}", "--")
    done = small.command_line(*cluster, *wait, *RECORDS, check=False, **environment)
    assert "Error in the configuration" not in done.stderr
    lines = (small.folder / "asked.txt").read_text().splitlines()
    config = resolve(yaml.safe_load((small.folder / "config.yaml").read_text()), small.folder)
    store = small.folder / "data/mnist_5k.h5"
    of_jobs = {
        memory.of_training(config, settings, store) + memory.OF_SNAKEMAKE
        for settings in config.variants.values()
    }
    (megabytes,) = of_jobs
    expected = [
        f"train: {asked}, {attempt * megabytes} MB, {attempt * 10} min"
        for attempt in (1, 2)
        for _ in RECORDS
    ]
    assert sorted(lines) == sorted(expected), done.stderr
    submitted = yaml.safe_load((small.folder / "submitted.yaml").read_text())
    expected = yaml.safe_load((small.folder / "config.yaml").read_text())
    expected["sampling"] |= {"n_samples": 200, "batch_size": 50}
    minutes = submitted["checkpoints"].pop("minutes"), expected["checkpoints"].pop("minutes")
    assert submitted == expected and int(minutes[0]) == 5


NO_SHARED_FILES = ("--shared-fs-usage", "none", "--forceall", "-n")


def test_jobs_that_share_no_files_declare_all_that_they_read(tmp_path):
    """Weights and history of a run are outputs of its training, and inputs of what reads them."""
    workflow = Workflow(tmp_path)
    workflow.configure(SMALL | {"variants": {"low_rank": VARIANTS["low_rank"]}})
    workflow.configure({"sampling": {"prior": "gaussian"}})
    for path in (tmp_path / "rules").glob("*.smk"):  # messages take the place of the files
        path.write_text(re.sub(r"^ +message:\n.*\n", "", path.read_text(), flags=re.MULTILINE))
    done = workflow.run(*NO_SHARED_FILES)
    text = done.stdout + done.stderr
    assert "a training that is stopped starts from nothing" in text
    jobs = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)+)", text, re.MULTILINE)
    run = "runs/mnist_5k/low_rank/seed-0"
    named = {
        (rule, kind, file)
        for rule, lines in jobs
        for kind, files in re.findall(r"^    (input|output): (.*)$", lines, re.MULTILINE)
        for file in ("final.weights.h5", "history.jsonl")
        if f"{run}/{file}" in files
    }
    readers = ("prior", "sample", "parzen", "scores", "examples")
    assert named == {
        *(("train", "output", file) for file in ("final.weights.h5", "history.jsonl")),
        *((rule, "input", "final.weights.h5") for rule in readers),
        ("training_curves", "input", "history.jsonl"),
    }


def test_a_folder_of_images_that_jobs_do_not_share(tmp_path):
    workflow = Workflow(tmp_path)
    sources = {"images": {"archive": str(CLONE / "docs")}}
    workflow.configure({**SMALL, "dataset": "images", "sources": sources})
    done = workflow.run(*NO_SHARED_FILES, check=False)
    assert done.returncode == 1
    (line,) = (line for line in done.stderr.splitlines() if line.startswith("Error"))
    assert f"{CLONE / 'docs'} is a folder" in line and "zip or tar" in line
