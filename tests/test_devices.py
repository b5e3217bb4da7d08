"""The GPU that a job gets, and the settings of TensorFlow."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from svae.errors import UserError
from svae.jobs import devices
from svae.jobs.devices import claim_gpu, gpus_for, visible_gpus

REPOSITORY = Path(__file__).parents[1]

A = "GPU-11111111-aaaa-bbbb-cccc-000000000000"
B = "GPU-12222222-aaaa-bbbb-cccc-000000000000"
SLICE = "MIG-33333333-aaaa-bbbb-cccc-000000000000"
LISTING = f"""\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: {A})
GPU 1: Tesla V100 (16 GB) (UUID: {B})
  MIG 1g.5gb      Device  0: (UUID: {SLICE})
"""


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Return a function that provides a stand-in for nvidia-smi, and device files."""
    programs, device_folder = tmp_path / "bin", tmp_path / "dev"
    programs.mkdir()
    device_folder.mkdir()
    monkeypatch.setenv("PATH", str(programs))

    def furnish(nvidia_smi=None, device_files=(), visible=None):
        if nvidia_smi is not None:
            program = programs / "nvidia-smi"
            program.write_text(f"#!/bin/sh\n{nvidia_smi}\n")
            program.chmod(0o755)
        for name in device_files:
            (device_folder / name).touch()
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        return device_folder

    return furnish


ANY = ["nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "null"]
TELL = f"[ \"$*\" = -L ] || exit 2\n/bin/cat <<'END'\n{LISTING}END"


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        (None, [A, B]),
        ("", []),
        ("-1", []),
        ("0", [A]),
        ("1", [B]),
        ("1,0", [B, A]),
        (" 0 , 1 ", [A, B]),
        ("0,0", [A]),
        ("2", []),
        ("0,-1,1", [A]),
        ("2,0", []),
        (B, [B]),
        ("GPU-12", [B]),
        (f"{B},0", [B, A]),
        (SLICE, [SLICE]),
        ("GPU-9", []),
        ("NoDevFiles", []),
    ],
)
def test_gpus_listed_by_nvidia_smi(machine, visible, expected):
    assert visible_gpus(machine(TELL, ANY, visible)) == expected


@pytest.mark.parametrize(
    ("device_files", "visible", "expected"),
    [
        (ANY, None, ["0", "1"]),
        (["nvidia3"], None, ["0"]),
        (["nvidiactl", "nvidia-uvm", "null"], None, []),
        ([], None, []),
        ([], "0", []),
        ([], A, []),
        (ANY, "", []),
        (ANY, "-1", []),
        (ANY, "1", ["1"]),
        (ANY, "1,2", ["1"]),
        (ANY, f"{A},0", [A, "0"]),
        (ANY, "NoDevFiles", []),
        ([f"nvidia{n}" for n in range(11)], "10", ["10"]),
    ],
)
def test_gpus_listed_by_device_files(machine, device_files, visible, expected):
    assert visible_gpus(machine(None, device_files, visible)) == expected


@pytest.mark.parametrize(
    ("nvidia_smi", "warns"),
    [
        ("echo 'Failed to initialize NVML' >&2\nexit 9", True),
        ("exec /bin/sleep 60", True),
        ("echo 'No devices found.'", False),
    ],
)
def test_no_gpu_if_nvidia_smi_lists_none(machine, monkeypatch, caplog, nvidia_smi, warns):
    if "sleep" in nvidia_smi:
        monkeypatch.setattr(devices, "QUERY_SECONDS", 0.5)
    assert visible_gpus(machine(nvidia_smi, ANY)) == []
    assert ("nvidia-smi -L" in caplog.text) == warns


@pytest.mark.parametrize(
    ("nvidia_smi", "visible"), [(None, None), (None, "0"), (TELL, ""), (TELL, "-1")]
)
def test_no_program_is_started_unnecessarily(machine, monkeypatch, nvidia_smi, visible):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("started a program"))
    assert visible_gpus(machine(nvidia_smi, [], visible)) == []


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, [A, B]),
        ("auto", "", []),
        ("gpu", None, [A, B]),
        ("gpu", "1", [B]),
        ("cpu", None, []),
    ],
)
def test_gpus_for_a_device(machine, device, visible, expected):
    machine(TELL, ANY, visible)
    assert gpus_for(device) == expected


@pytest.mark.parametrize(
    ("nvidia_smi", "visible", "looked_for"),
    [
        (None, None, "no nvidia-smi"),
        ("echo 'No devices found.'", None, "`nvidia-smi -L` lists none"),
        (TELL, "", "CUDA_VISIBLE_DEVICES is ''"),
        (TELL, "7", "CUDA_VISIBLE_DEVICES is '7'"),
    ],
)
def test_a_required_gpu_that_is_missing(machine, nvidia_smi, visible, looked_for):
    machine(nvidia_smi, [], visible)
    if nvidia_smi is None and Path("/dev/nvidia0").exists():
        pytest.skip("this machine has a GPU")
    with pytest.raises(UserError, match="device is gpu") as caught:
        gpus_for("gpu")
    message = str(caught.value)
    assert looked_for in message and "device: auto" in message and "\n" not in message


def python(script, *arguments, **options):
    """Run `script` in a new Python from the repository's folder, with pipes."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


# Prints that it waits and which GPU it got, and holds the GPU until it reads a line.
CLAIM = """
    import logging, sys
    from pathlib import Path
    from svae.jobs.devices import claim_gpu

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    folder, *gpus = sys.argv[1:]
    with claim_gpu(Path(folder), gpus) as gpu:
        print(gpu, flush=True)
        sys.stdin.readline()
    print("released", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def job(tmp_path):
    """Return a function that starts a job that claims a GPU."""
    jobs = []

    def start(*gpus):
        jobs.append(python(CLAIM, tmp_path / "locks", *gpus))
        return jobs[-1]

    yield start
    for one in jobs:
        one.kill()
        one.communicate()


def say(job):
    job.stdin.write("go on\n")
    job.stdin.flush()


def release(job):
    """The job continues, without its GPU."""
    say(job)
    assert job.stdout.readline() == "released\n"


def finish(job):
    say(job)
    say(job)
    assert job.wait() == 0


def kill(job):
    job.send_signal(signal.SIGKILL)
    job.wait()


@pytest.mark.slow
@pytest.mark.parametrize("leave", [release, finish, kill])
@pytest.mark.parametrize("leaver", [0, 1])
def test_parallel_jobs_get_different_gpus(job, leave, leaver):
    pair = [job("0", B), job("0", B)]
    held = [one.stdout.readline().strip() for one in pair]
    assert sorted(held) == ["0", B]
    third = job("0", B)
    assert third.stdout.readline() == f"waiting for a GPU: other jobs hold 0, {B}\n"
    leave(pair[leaver])
    # The next line: it printed only once that it waits.
    assert third.stdout.readline().strip() == held[leaver]


def test_jobs_with_other_gpus_do_not_wait(job):
    first, second = job("0"), job("1")
    assert [one.stdout.readline() for one in (first, second)] == ["0\n", "1\n"]


def test_claims_within_one_process(tmp_path):
    folder = tmp_path / "not" / "there"
    with claim_gpu(folder, ["0", "1"]) as first, claim_gpu(folder, ["0", "1"]) as second:
        assert (first, second) == ("0", "1")
    with pytest.raises(ValueError, match="job"), claim_gpu(folder, ["0"]):
        raise ValueError("the job failed")
    with claim_gpu(folder, ["0"]) as again:
        assert again == "0"


def test_without_gpus_nothing_is_locked(tmp_path):
    with claim_gpu(tmp_path / "locks", []) as first, claim_gpu(tmp_path / "locks", []) as second:
        assert first is second is None
    assert not (tmp_path / "locks").exists()


# Prints the log line, the number of threads of the process, and the bits of a small network.
COMPUTE = """
    import hashlib, logging, os, sys
    from pathlib import Path
    from svae.jobs.devices import set_up

    assert "tensorflow" not in sys.modules
    logging.basicConfig(format="%(levelname)s %(message)s")
    gpu, threads = sys.argv[1] or None, int(sys.argv[2])
    line = set_up(gpu, threads)
    assert set_up(gpu, threads) == line

    import tensorflow as tf

    try:
        tf.random.normal((1,))
    except RuntimeError as error:
        refused = str(error)
    tf.random.set_seed(1)
    x = tf.random.normal((8, 24, 24, 3))
    kernel = tf.Variable(tf.random.normal((5, 5, 3, 8)))
    for _ in range(3):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(tf.tanh(tf.nn.conv2d(x, kernel, 2, "SAME")) ** 3)
        kernel.assign_sub(tape.gradient(loss, kernel))
    tasks = Path("/proc/self/task")
    print(line)
    print(tf.config.threading.get_intra_op_parallelism_threads())
    print(tf.config.threading.get_inter_op_parallelism_threads())
    print(len(list(tasks.iterdir())) if tasks.exists() else 0)
    print(hashlib.sha256(kernel.numpy().tobytes()).hexdigest())
    print(refused)
    try:
        set_up(gpu, threads + 1)
    except RuntimeError as error:
        print(error)
"""
NO_SUCH_GPU = "GPU-00000000-0000-0000-0000-000000000000"


@pytest.fixture(scope="module")
def computed():
    """Two equal jobs on the CPU with 1 thread, and one with 3 on a GPU that is unusable."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "CUDA_"))}
    results = []
    for gpu, threads in [("", 1), ("", 1), (NO_SUCH_GPU, 3)]:
        process = python(COMPUTE, gpu, threads, env=environment)
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        results.append((output.splitlines(), errors))
    return results


@pytest.mark.slow
def test_set_up_on_the_cpu(computed):
    for output, errors in computed[:2]:
        assert output[:3] == ["running on the CPU with 1 thread", "1", "1"]
        assert "cuda" not in errors.lower()


@pytest.mark.slow
def test_equal_jobs_give_equal_bits(computed):
    first, second, _ = computed
    assert first[0][4] == second[0][4]


@pytest.mark.slow
def test_an_unusable_gpu_means_the_cpu_and_a_warning(computed):
    output, errors = computed[2]
    assert output[:3] == ["running on the CPU with 3 threads", "3", "1"]
    (warning,) = {line for line in errors.splitlines() if line.startswith("WARNING")}
    assert NO_SUCH_GPU in warning
    assert "pip install -e '.[gpu]'" in warning


@pytest.mark.slow
def test_a_required_gpu_that_is_unusable_is_an_error():
    process = python(
        """
        import sys
        from svae.jobs.devices import set_up
        from svae.errors import UserError

        try:
            set_up(sys.argv[1], 1, "gpu")
        except UserError as error:
            print(error)
        """,
        NO_SUCH_GPU,
    )
    output, errors = process.communicate()
    (message,) = output.splitlines() or [errors]
    assert message.startswith(f"device is gpu, but TensorFlow cannot use GPU {NO_SUCH_GPU}")
    assert "pip install -e '.[gpu]'" in message and "device: auto" in message
    assert "WARNING" not in errors


@pytest.mark.slow
def test_random_numbers_without_a_seed_are_refused(computed):
    for output, _ in computed:
        assert "seed" in output[5]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_number_of_threads_takes_effect(computed):
    first, second, third = (int(output[3]) for output, _ in computed)
    assert first == second < third


@pytest.mark.slow
def test_set_up_refuses_to_run_too_late(computed):
    for output, _ in computed:
        assert "TensorFlow was started before set_up" in output[6]


def test_set_up_refuses_a_gpu_once_tensorflow_is_imported():
    process = python("""
        import sys, types
        from svae.jobs.devices import set_up

        sys.modules["tensorflow"] = types.ModuleType("tensorflow")
        set_up("0", 1)
    """)
    _, errors = process.communicate()
    assert "RuntimeError: cannot choose the device" in errors


# Stand-in for TensorFlow on a machine with a GPU; prints its calls and the environment.
FAKE_TENSORFLOW = """
import os
from unittest.mock import MagicMock

print("visible", os.environ["CUDA_VISIBLE_DEVICES"])
config = MagicMock()
config.get_visible_devices.return_value = ["first GPU"]
config.experimental.get_device_details.return_value = {"device_name": "NVIDIA A100"}
config.experimental.set_memory_growth = lambda device, on: print("growth", device, on)
"""


@pytest.mark.parametrize(
    ("gpu", "line"),
    [("1", "running on GPU 1 (NVIDIA A100)"), (A, f"running on {A} (NVIDIA A100)")],
)
def test_set_up_on_a_gpu(tmp_path, gpu, line):
    (tmp_path / "tensorflow.py").write_text(FAKE_TENSORFLOW)
    process = python(
        "import sys; from svae.jobs.devices import set_up; print(set_up(sys.argv[1], 1, 'gpu'))",
        gpu,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    output, errors = process.communicate()
    assert output.splitlines() == [f"visible {gpu}", "growth first GPU True", line], errors


# Who owns the folder of claims ---


def as_link(folder):
    (folder.parent / "elsewhere").mkdir()
    folder.symlink_to("elsewhere")


PLACES = {
    "a link": as_link,
    "a link to nothing": lambda folder: folder.symlink_to("nothing"),
    "a file": lambda folder: folder.touch(),
}


@pytest.mark.parametrize("make", PLACES.values(), ids=PLACES)
def test_claims_are_not_made_in_what_somebody_else_prepared(tmp_path, make):
    make(tmp_path / "locks")
    before = sorted(tmp_path.rglob("*"))
    refusal = pytest.raises(UserError, match=r"locks, where GPUs are claimed.*set TMPDIR")
    with refusal, claim_gpu(tmp_path / "locks", ["0"]):
        pass
    assert sorted(tmp_path.rglob("*")) == before


def test_another_users_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "locks").mkdir(mode=0o777)
    user = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: user + 1)
    refusal = pytest.raises(UserError, match="another user's folder")
    with refusal, claim_gpu(tmp_path / "locks", ["0"]):
        pass


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o700])
def test_the_folder_of_claims_is_private(tmp_path, mode):
    (tmp_path / "locks").mkdir()
    (tmp_path / "locks").chmod(mode)
    with claim_gpu(tmp_path / "locks", ["0"]) as gpu:
        assert gpu == "0"
    assert (tmp_path / "locks").stat().st_mode & 0o777 == 0o700
