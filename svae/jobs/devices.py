"""Which device a job computes on: one GPU a job where there are any, else the CPU.

Nothing here imports TensorFlow before `set_up`, since what is set after its start has no effect.
A job runs

    with on_device(device, threads) as line:
        log.info(line)
        ...

`device` is the configuration's: `auto`, a GPU where there is one that works, else the CPU; `cpu`,
never a GPU; `gpu`, a GPU or an error.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from svae.errors import UserError

log = logging.getLogger(__name__)

LOCK_FOLDER = Path(tempfile.gettempdir()) / f"svae-gpu-{os.getuid()}"
POLL_SECONDS = 1.0
# A driver that must first wake many cards takes seconds to answer.
QUERY_SECONDS = 20.0


@contextlib.contextmanager
def on_device(device: str, threads: int) -> Iterator[str]:
    """Start TensorFlow on a GPU that is this job's alone, or on the CPU; give a line for the log.

    Waits where other jobs hold all GPUs. See `gpus_for`, `claim_gpu` and `set_up`.
    """
    with claim_gpu(LOCK_FOLDER, gpus_for(device)) as gpu:
        yield set_up(gpu, threads, device)


def gpus_for(device: str) -> list[str]:
    """Give the GPUs of which a job under `device` takes one, as `visible_gpus` does.

    UserError if it must have one and none is visible.
    """
    if device == "cpu":
        return []
    gpus = visible_gpus()
    if device == "gpu" and not gpus:
        raise UserError(no_gpu())
    return gpus


def no_gpu() -> str:
    """Say what was looked for where no GPU is visible, and the way out."""
    told = "`nvidia-smi -L` names none"
    if not shutil.which("nvidia-smi"):
        told = "there is no nvidia-smi on the PATH and no /dev/nvidia0"
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        told = f"CUDA_VISIBLE_DEVICES is '{allowed}', which allows none that is there"
    return (
        f"device is gpu, but no NVIDIA GPU is visible: {told}; make it visible (driver, "
        f"CUDA_VISIBLE_DEVICES, the cluster's request for a GPU), or set device: auto"
    )


def visible_gpus(device_folder: Path = Path("/dev")) -> list[str]:
    """Give the NVIDIA GPUs that this process may use, as entries for CUDA_VISIBLE_DEVICES.

    They are UUIDs where nvidia-smi tells them: an index means different cards to two jobs that a
    scheduler has given one card each, and CUDA need not count as nvidia-smi does. Without
    nvidia-smi the device files in `device_folder` are counted, and the entries are indices.

    CUDA_VISIBLE_DEVICES, if set, narrows the choice as CUDA itself reads it: indices (counted as
    nvidia-smi counts) or UUIDs (which may be shortened), up to the first that is not there.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None and allowed.strip() in ("", "-1"):
        return []
    if shutil.which("nvidia-smi"):
        listing = _nvidia_smi()
        # A line is "GPU 0: NVIDIA A100 (UUID: GPU-5a1b...)"; a slice of a card stands indented
        # below it, "  MIG 1g.5gb Device 0: (UUID: MIG-...)".
        gpus = re.findall(r"^GPU \d+:.*\(UUID: (\S+)\)", listing, re.MULTILINE)
        slices = re.findall(r"^\s+MIG .*\(UUID: (\S+)\)", listing, re.MULTILINE)
    else:
        # Numbers in the names of device files may have gaps in a container; CUDA's have none.
        gpus = [str(index) for index, _ in enumerate(device_folder.glob("nvidia[0-9]*"))]
        slices = []
    if allowed is None or not gpus:
        return gpus
    chosen: list[str] = []
    for entry in allowed.split(","):
        gpu = _find(entry.strip(), gpus, slices)
        if gpu is None:
            break
        if gpu not in chosen:
            chosen.append(gpu)
    return chosen


def _nvidia_smi() -> str:
    """Give what `nvidia-smi -L` prints; nothing, and a warning, if it fails."""
    try:
        return subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=QUERY_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("no GPU is used, since `nvidia-smi -L` failed: %s", error)
        return ""


def _find(entry: str, gpus: list[str], slices: list[str]) -> str | None:
    """Give the device that one entry of CUDA_VISIBLE_DEVICES means, or None if it is not there."""
    if entry.isdecimal():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    if gpus[0].isdecimal():
        # Only device files are known: which card a UUID names is left to CUDA.
        return entry
    return next((uuid for uuid in gpus + slices if uuid.startswith(entry)), None)


@contextlib.contextmanager
def claim_gpu(lock_folder: Path, gpus: list[str]) -> Iterator[str | None]:
    """Hold one of `gpus` for this process alone, and give it; with no GPUs, give None.

    Waits while other processes hold them all. A claim is an operating-system lock on one file a
    device in `lock_folder`, so it ends with the process, however that ends. The folder must be
    local to the machine and shared by the user's jobs on it: LOCK_FOLDER.
    """
    if not gpus:
        yield None
        return
    lock_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    claim = _try_claim(lock_folder, gpus)
    if claim is None:
        log.info("waiting for a GPU: other jobs hold %s", ", ".join(gpus))
    while claim is None:
        time.sleep(POLL_SECONDS)
        claim = _try_claim(lock_folder, gpus)
    gpu, file = claim
    with file:
        yield gpu


def _try_claim(lock_folder: Path, gpus: list[str]) -> tuple[str, IO[str]] | None:
    for gpu in gpus:
        # The file stays: a removed one could be locked by one job and made anew by the next.
        file = (lock_folder / f"{gpu.replace('/', '_')}.lock").open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return gpu, file
    return None


def set_up(gpu: str | None, threads: int, device: str = "auto") -> str:
    """Start TensorFlow on one device, so that equal jobs give equal bits; give a line for the log.

    gpu      an entry for CUDA_VISIBLE_DEVICES, as `claim_gpu` gives it; None: the CPU.
    threads  CPU threads within one operation. Operations run one after another.
    device   what becomes of a GPU that TensorFlow cannot use: auto, a warning, and the job runs on
             the CPU; gpu, a UserError.

    To be called before anything else imports TensorFlow; RuntimeError if that was too early for
    these settings to take effect. Random operations need seeds from here on.
    """
    late = "cannot choose the device and threads: TensorFlow was started before set_up"
    if gpu and "tensorflow" in sys.modules and os.environ.get("CUDA_VISIBLE_DEVICES") != gpu:
        raise RuntimeError(f"{late}; call set_up before anything imports TensorFlow")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if gpu is None else gpu
    # Without a driver TensorFlow reports an error (level 2) for every job that wants no GPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if gpu is None else "2")
    # TensorFlow takes oneDNN's kernels by itself on some of Intel's processors alone; on others a
    # training step takes half as long again without them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        if gpu is None:
            tf.config.set_visible_devices([], "GPU")
        found = tf.config.get_visible_devices("GPU")
        for one in found:
            tf.config.experimental.set_memory_growth(one, True)
    except RuntimeError as error:
        raise RuntimeError(f"{late} ({error}); call set_up first") from error
    tf.config.experimental.enable_op_determinism()

    if found:
        name = tf.config.experimental.get_device_details(found[0]).get(
            "device_name", "name unknown"
        )
        return f"running on {f'GPU {gpu}' if gpu.isdecimal() else gpu} ({name})"
    if gpu is not None:
        reason = (
            "Either TensorFlow is installed without the CUDA libraries (repair: `pip install -e "
            "'.[gpu]'`), or the NVIDIA driver is too old for them (repair: a newer driver)."
        )
        if device == "gpu":
            raise UserError(
                f"device is gpu, and GPU {gpu} is there, but TensorFlow cannot use it. {reason} Or "
                f"set device: auto, to train on the CPU"
            )
        log.warning(
            "GPU %s is there, but TensorFlow cannot use it, so this job runs on the CPU, far "
            "slower. %s",
            gpu,
            reason,
        )
    return f"running on the CPU with {threads} thread{'s' if threads > 1 else ''}"
