"""The workflow on a real SLURM of two nodes on this machine, through the profile for users."""

import contextlib
import json
import re
import shutil
import time

import pytest
from helpers.slurm import CPUS, NODES, Slurm, missing
from helpers.workflow import SMALL, VARIANTS, Workflow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(missing()), reason=f"SLURM is not installed: no {', '.join(missing())}"
    ),
]

NAMES = ["vanilla", "low_rank"]
EPOCHS = 20
# What a site adds in a profile of its own. GPUs are asked for, but not there.
SITE = """
default-resources: [slurm_partition=debug]
set-resources: ["train:gpu=1"]
slurm-status-command: squeue
slurm-init-seconds-before-status-checks: 2
seconds-between-status-checks: 1
"""
SECONDS = 600  # until something must have happened


def until(found):
    end = time.monotonic() + SECONDS
    while not (value := found()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return value


def rule(job):
    """The rule of a job, or the group of rules."""
    return re.match(r"rule_([a-z]+)", job["Comment"])[1]


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A workflow that ran to its end, although one training was cancelled, another exceeded its
    time, and the configuration was edited meanwhile; all of its jobs, and those two."""
    workflow = Workflow(tmp_path_factory.mktemp("slurm") / "clone")
    settings = {"epochs": EPOCHS, "threads": 2}
    variants = {name: {"posterior": VARIANTS[name]["posterior"]} for name in NAMES}
    few = {"conversion": {"max_images": 1000}}
    workflow.configure({**SMALL, **few, "training": settings, "variants": variants})
    site = workflow.folder / "site"
    site.mkdir()
    (site / "config.yaml").write_text(SITE)

    def training(slurm, name):
        """The job of a training that has finished an epoch, and has others to do."""
        history = workflow.folder / f"runs/mnist_5k/{name}/seed-0/history.jsonl"
        until(lambda: history.exists() and history.read_text())
        return next(
            job["JobId"]
            for job in slurm.jobs()
            if job["JobState"] == "RUNNING" and rule(job) == "train" and name in job["Comment"]
        )

    with Slurm() as slurm, contextlib.ExitStack() as stack:
        stack.callback(lambda: snakemake.kill())
        log = (workflow.folder / "snakemake.log").open("w")
        snakemake = workflow.start(
            *("--profile", str(site), "--workflow-profile", "profiles/slurm"),
            **{"stdout": log, "stderr": log, "environment": slurm.environment},
        )
        cancelled = training(slurm, NAMES[0])
        slurm.call("scancel", cancelled)
        slow = training(slurm, NAMES[1])
        slurm.call("scancel", "--signal=STOP", slow)
        slurm.call("scontrol", "update", f"jobid={slow}", "EndTime=now+1")
        workflow.configure({"training": {"epochs": 1}})
        code = until(lambda: snakemake.poll() is not None) and snakemake.returncode
        said = (workflow.folder / "snakemake.log").read_text()
        assert code == 0, said
        jobs = slurm.jobs()
    workflow.configure({"training": {"epochs": EPOCHS}})
    return workflow, jobs, {"cancelled": cancelled, "slow": slow}


def test_each_ended_as_it_was_ended(ran):
    _, jobs, ended = ran
    states = {job["JobId"]: job["JobState"] for job in jobs}
    assert states.pop(ended["cancelled"]) == "CANCELLED"
    assert states.pop(ended["slow"]) == "TIMEOUT"
    assert set(states.values()) == {"COMPLETED"}
    assert {job["NodeList"] for job in jobs} == set(NODES)


def test_few_jobs_are_submitted(ran):
    _, jobs, ended = ran
    rules = sorted(rule(job) for job in jobs if job["JobId"] not in ended.values())
    of_runs = ["train", "short"] * len(NAMES)
    assert rules == sorted(["convert", "spectrum", "baselines", *of_runs])


def test_jobs_ask_for_what_they_use(ran):
    _, jobs, _ = ran
    for job in jobs:
        asked = dict(part.split("=") for part in job["TRES"].split(","))
        assert any("gpu" in value for key, value in job.items() if key.startswith("TresPer")) == (
            rule(job) == "train"
        ), job
        assert int(job["NumCPUs"]) <= CPUS and 500 <= int(asked["mem"].rstrip("M")) <= 8000
        assert job["TimeLimit"] != "UNLIMITED"
        if rule(job) == "train":
            assert job["NumCPUs"] == "2"


RECORD = "runs/mnist_5k/{}/seed-0/run.json"


@pytest.fixture(scope="module")
def undisturbed(ran, tmp_path_factory):
    """The folder of the same trainings on this machine."""
    twin = ran[0].copy(tmp_path_factory.mktemp("undisturbed") / "twin")
    for name in NAMES:
        shutil.rmtree(twin.folder / "runs/mnist_5k" / name)
    twin.run("--cores", "4", *(RECORD.format(name) for name in NAMES))
    return twin.folder


@pytest.mark.parametrize("name", NAMES)
def test_a_training_that_was_stopped_ends_with_the_same_weights(ran, undisturbed, name):
    """And with the epochs that were configured when it was submitted."""
    record = RECORD.format(name)
    found, expected = (
        json.loads((folder / record).read_text()) for folder in (ran[0].folder, undisturbed)
    )
    assert found["epochs_trained"] == EPOCHS
    assert found["weights_sha256"] == expected["weights_sha256"]


def test_nothing_is_left_to_do(ran):
    workflow, _, _ = ran
    assert workflow.planned() == {}
