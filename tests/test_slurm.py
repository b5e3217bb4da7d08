"""The workflow on a real SLURM of three nodes on this machine, through the profile for users."""

import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections import Counter

import pytest
from helpers.slurm import CPUS, DEBUG, LAST, Slurm, missing
from helpers.workflow import SMALL, VARIANTS, Workflow

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        bool(missing()), reason=f"SLURM is not installed: no {', '.join(missing())}"
    ),
]

NAMES = ["vanilla", "low_rank"]
EPOCHS = 30
STORE, SPECTRUM = "data/mnist_5k.h5", "runs/mnist_5k/baselines/spectrum.npz"
RUN = "runs/mnist_5k/{}/seed-0"
RECORDS = [f"{RUN}/run.json".format(name) for name in NAMES]
# What a site adds in a profile of its own. GPUs are asked for, but not there.
SITE = """
default-resources: [slurm_partition={partition}]
set-resources: ["train:gpu={gpus}"]
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


class OnSlurm(Workflow):
    """A workflow whose Snakemake submits its jobs to a partition."""

    def __init__(self, folder, slurm, partition, gpus, finished=None):
        """`finished`: a workflow that has data and spectrum."""
        super().__init__(folder)
        settings = {"epochs": EPOCHS, "threads": 2}
        variants = {name: {"posterior": VARIANTS[name]["posterior"]} for name in NAMES}
        few = {"conversion": {"max_images": 1000}}
        self.configure({**SMALL, **few, "training": settings, "variants": variants})
        for name in (STORE, SPECTRUM) if finished else ():
            (folder / name).parent.mkdir(parents=True)
            shutil.copy2(finished.folder / name, folder / name)
        self.slurm, self.site, self.log = slurm, folder / "site", folder / "snakemake.log"
        self.site.mkdir()
        (self.site / "config.yaml").write_text(SITE.format(partition=partition, gpus=gpus))

    def submit(self, *targets):
        profiles = ("--profile", str(self.site), "--workflow-profile", "profiles/slurm")
        with self.log.open("a") as log:
            options = {"stdout": log, "stderr": log, "environment": self.slurm.environment}
            return self.start(*profiles, *targets, **options)

    def jobs(self):
        return [job for job in self.slurm.jobs() if job.get("WorkDir") == str(self.folder)]

    def epochs(self, name):
        history = self.folder / RUN.format(name) / "history.jsonl"
        return len(history.read_text().splitlines()) if history.exists() else 0

    def training(self, name):
        """The job of a training that has finished another epoch, and has others to do."""
        before = self.epochs(name)
        until(lambda: self.epochs(name) > before)
        return next(
            job["JobId"]
            for job in self.jobs()
            if job["JobState"] == "RUNNING" and rule(job) == "train" and name in job["Comment"]
        )


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """Two workflows that ran to their ends, side by side, and what became of their jobs.

    Of the first, all jobs were interrupted with their Snakemake; then one training was cancelled,
    another exceeded its time, and the configuration was edited meanwhile. Of the second, one
    training was requeued, another lost its node, and their Snakemake was killed.
    """
    folder = tmp_path_factory.mktemp("slurm")
    with contextlib.ExitStack() as stack:
        slurm = stack.enter_context(Slurm())
        first = OnSlurm(folder / "first", slurm, "debug", gpus=1)
        snakemake = first.submit()
        stack.callback(lambda: snakemake.kill())
        until(first.jobs)
        refused = first.run("--cores", "1", check=False)
        ended = {"interrupted": first.training(NAMES[0])}
        os.killpg(snakemake.pid, signal.SIGINT)  # as a terminal does
        assert snakemake.wait(SECONDS) == 1
        snakemake = first.submit()

        second = OnSlurm(folder / "second", slurm, "every", gpus=0, finished=first)
        killed = second.submit(*RECORDS)
        stack.callback(killed.kill)

        ended["cancelled"] = first.training(NAMES[0])
        slurm.call("scancel", ended["cancelled"])
        ended["slow"] = first.training(NAMES[1])
        slurm.call("scancel", "--signal=STOP", ended["slow"])
        slurm.call("scontrol", "update", f"jobid={ended['slow']}", "EndTime=now+1")
        first.configure({"training": {"epochs": 1}})

        requeued, _ = [second.training(name) for name in NAMES]
        slurm.call("scontrol", "requeue", requeued)
        slurm.lose(LAST)
        killed.kill()

        # The third is undisturbed.
        third = OnSlurm(folder / "third", slurm, "none", gpus=0, finished=first)
        third.run("--cores", "4", *RECORDS)
        assert snakemake.wait(SECONDS) == 0, first.log.read_text()
        # Two minutes after its node was lost, a job starts again.
        until(lambda: {job["JobState"] for job in second.jobs()} == {"COMPLETED"})
        jobs = {"first": first.jobs(), "second": second.jobs()}
    first.configure({"training": {"epochs": EPOCHS}})
    workflows = {"first": first, "second": second, "undisturbed": third}
    return workflows, jobs, ended, refused


def test_each_ended_as_it_was_ended(ran):
    _, jobs, ended, _ = ran
    states = {job["JobId"]: job["JobState"] for job in jobs["first"]}
    assert states[ended["interrupted"]] == states[ended["cancelled"]] == "CANCELLED"
    assert states.pop(ended["slow"]) == "TIMEOUT"
    assert set(states.values()) == {"COMPLETED", "CANCELLED"}
    done = [job for job in jobs["first"] if job["JobState"] == "COMPLETED"]
    assert {job["NodeList"] for job in done} == set(DEBUG)


def test_few_jobs_are_submitted(ran):
    _, jobs, _, _ = ran
    rules = Counter(rule(job) for job in jobs["first"] if job["JobState"] == "COMPLETED")
    once = ["convert", "spectrum", "baselines"]
    assert rules == Counter([*once, *["train", "short"] * len(NAMES)])


def test_jobs_ask_for_what_they_use(ran):
    _, jobs, _, _ = ran
    for job in jobs["first"]:
        asked = dict(part.split("=") for part in job["TRES"].split(","))
        assert any("gpu" in value for key, value in job.items() if key.startswith("TresPer")) == (
            rule(job) == "train"
        ), job
        assert int(job["NumCPUs"]) <= CPUS and 500 <= int(asked["mem"].rstrip("M")) <= 8000
        assert job["TimeLimit"] != "UNLIMITED"
        if rule(job) == "train":
            assert job["NumCPUs"] == "2"


def test_jobs_of_a_lost_node_and_a_killed_snakemake_run_elsewhere(ran):
    _, jobs, _, _ = ran
    assert Counter(job["Restarts"] for job in jobs["second"]) == {"1": len(NAMES)}
    assert {job["NodeList"] for job in jobs["second"]} <= set(DEBUG)


def test_a_second_snakemake_is_refused(ran):
    refused = ran[-1]
    assert refused.returncode == 1
    assert "Another snakemake is at work" in refused.stderr


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("workflow", ["first", "second"])
def test_a_training_that_was_stopped_ends_with_the_same_weights(ran, workflow, name):
    """And with the epochs that were configured when it was submitted."""
    found, expected = (
        json.loads((ran[0][key].folder / RUN.format(name) / "run.json").read_text())
        for key in (workflow, "undisturbed")
    )
    assert found["epochs_trained"] == EPOCHS
    assert found["weights_sha256"] == expected["weights_sha256"]


def test_nothing_is_left_to_do(ran):
    workflows = ran[0]
    assert workflows["first"].planned() == {}
    workflows["second"].run("--unlock")
    assert workflows["second"].planned(*RECORDS) == {}
