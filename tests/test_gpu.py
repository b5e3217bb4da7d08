"""Tests that need a GPU: `make test-gpu`. Skipped if none is visible.

Each training runs in a process of its own, since the process of the tests computes on the CPU.
"""

import functools
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.builders import ELBO
from helpers.visible import GPUS
from helpers.workflow import SMALL, Workflow

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not GPUS, reason="no GPU is visible (nvidia-smi, CUDA_VISIBLE_DEVICES)"),
]
# Relative, of a loss, between a GPU and the CPU: rounding, as the weights' first steps amplify it.
TOLERANCE = {"float32": 2e-3, "mixed_float16": 5e-3, "mixed_bfloat16": 1e-2}
LEARNED = {**ELBO, "decoder_variance": "learned"}
ENVIRONMENT = {
    key: value for key, value in os.environ.items() if not key.startswith(("CUDA_", "TF_"))
}


SCORED = """
import json, sys
from svae.jobs import devices
gpu = json.loads(sys.argv[1])
devices.set_up(gpu, threads=1, device="auto" if gpu is None else "gpu")
import numpy as np
import tensorflow as tf
from svae.scores.kernel_density import log_likelihoods
rng = np.random.default_rng(0)
images = rng.uniform(-1, 1, (60, 3072)).astype(np.float32)
samples = rng.uniform(-1, 1, (400, 3072)).astype(np.float32)
samples[:20] = images[:20] + rng.normal(0, 1e-3, (20, 3072))
found = log_likelihoods(images, samples, np.logspace(-1, 0, 10))
device = tf.matmul(samples[:1], samples[:1], transpose_b=True).device
print(json.dumps({"device": device, "log_likelihoods": found.tolist()}))
"""


def test_scores_on_a_gpu_are_those_of_the_cpu():
    clone = Path(__file__).parent.parent
    found = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", SCORED, json.dumps(gpu)],
                cwd=clone,
                env={**ENVIRONMENT, "PYTHONPATH": str(clone)},
                capture_output=True,
                text=True,
                check=True,
            ).stdout.splitlines()[-1]
        )
        for gpu in (GPUS[0], None)
    ]
    assert "GPU:0" in found[0]["device"] and "CPU" in found[1]["device"]
    values = [np.array(each["log_likelihoods"]) for each in found]
    np.testing.assert_allclose(*values, atol=0.01, rtol=0)


@functools.cache
def trained(where, precision, jit_compile=False, again=0, steps=8, tf32=True, posterior="low_rank"):
    """What tests/helpers/gpu_job.py prints; `again` tells equal jobs apart."""
    request = {
        "gpu": GPUS[0] if where == "gpu" else None,
        "steps": steps,
        "tf32": tf32,
        "posterior": posterior,
        "precision": precision,
        "jit_compile": jit_compile,
        **LEARNED,
    }
    clone = Path(__file__).parent.parent
    path = os.pathsep.join([str(clone), str(clone / "tests")])
    done = subprocess.run(
        [sys.executable, "tests/helpers/gpu_job.py", json.dumps(request)],
        cwd=clone,
        env={**ENVIRONMENT, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


PRECISIONS = pytest.mark.parametrize("precision", TOLERANCE)
COMPILED = pytest.mark.parametrize("jit_compile", [False, True], ids=["plain", "xla"])


@PRECISIONS
@COMPILED
def test_a_gpu_computes_what_the_cpu_computes(precision, jit_compile):
    found = trained("gpu", precision, jit_compile)
    expected = trained("cpu", "float32")
    assert "CPU" not in found["line"] and GPUS[0] in found["line"]
    assert "GPU:0" in found["weights_on"]
    assert found["losses"] == pytest.approx(expected["losses"], rel=TOLERANCE[precision])


@pytest.mark.parametrize("posterior", ["vanilla", "naive", "mvn", "low_rank"])
def test_float32_without_tf32_differs_from_the_cpu_by_rounding(posterior):
    found = trained("gpu", "float32", steps=2, tf32=False, posterior=posterior)
    expected = trained("cpu", "float32", steps=2, tf32=False, posterior=posterior)
    assert found["losses"][0] == pytest.approx(expected["losses"][0], rel=1e-5)
    assert found["losses"][1] == pytest.approx(expected["losses"][1], rel=1e-3)


@PRECISIONS
@COMPILED
def test_equal_jobs_give_equal_bits(precision, jit_compile):
    first, second = (trained("gpu", precision, jit_compile, again) for again in (0, 1))
    assert first["losses"] == second["losses"]
    assert first["sha256"] == second["sha256"]


def test_a_job_sees_one_gpu_and_allocates_memory_as_needed():
    found = trained("gpu", "float32")
    assert found["gpus"] == 1 and found["growth"] == [True]
    assert 0 < found["peak_mb"] < 2000


@pytest.mark.workflow
def test_as_many_parallel_trainings_as_there_are_gpus(tmp_path):
    """The whole pipeline with device: gpu; each training on its own GPU."""
    names = ("low_rank", "vanilla", "mvn", "naive")[: max(2, min(4, len(GPUS)))]
    workflow = Workflow(tmp_path)
    workflow.configure(
        SMALL | {"variants": {name: {"posterior": name} for name in names}, "device": "gpu"}
    )
    workflow.run("--cores", "4", CUDA_VISIBLE_DEVICES=",".join(GPUS))
    given = [
        re.search(r"running on (?:GPU )?(\S+)", path.read_text())[1]
        for path in (tmp_path / "logs").glob("train*")
    ]
    assert set(given) <= set(GPUS)
    if len(GPUS) >= len(names):
        assert len(set(given)) == len(names)
    assert (tmp_path / "results/summary.md").exists()
