"""Choice of the device for a job: one GPU per job if there are any, otherwise the CPU.

Nothing here imports TensorFlow before `set_up`, because settings made after it starts have no
effect. A job runs

    with on_device(device, threads) as line:
        log.info(line)
        ...

`device` is that of the configuration: `auto`, a GPU if there is a working one, otherwise the CPU;
`cpu`, never a GPU; `gpu`, a GPU or an error.
"""

import contextlib
import fcntl
import logging
import os
import re
import shutil
import stat
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
# A driver that must first initialise many cards takes seconds to answer.
QUERY_SECONDS = 20.0


@contextlib.contextmanager
def on_device(device: str, threads: int) -> Iterator[str]:
    """Start TensorFlow on a GPU claimed for this job only, or on the CPU; yield a log line.

    Waits while other jobs hold all GPUs. See `gpus_for`, `claim_gpu` and `set_up`.
    """
    with claim_gpu(LOCK_FOLDER, gpus_for(device)) as gpu:
        yield set_up(gpu, threads, device)


def gpus_for(device: str) -> list[str]:
    """Return the GPUs of which a job under `device` takes one, in the form of `visible_gpus`.

    UserError if the job must have a GPU and none is visible.
    """
    if device == "cpu":
        return []
    gpus = visible_gpus()
    if device == "gpu" and not gpus:
        raise UserError(no_gpu())
    return gpus


def no_gpu() -> str:
    """Return the message for a missing GPU: what was checked, and what to do."""
    reason = "`nvidia-smi -L` lists none"
    if not shutil.which("nvidia-smi"):
        reason = "there is no nvidia-smi on the PATH and no /dev/nvidia0"
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        reason = f"CUDA_VISIBLE_DEVICES is '{allowed}', which allows no existing GPU"
    return (
        f"device is gpu, but no NVIDIA GPU is visible: {reason}; make one visible (driver, "
        f"CUDA_VISIBLE_DEVICES, a request for a GPU from the cluster), or set device: auto"
    )


def visible_gpus(device_folder: Path = Path("/dev")) -> list[str]:
    """Return the NVIDIA GPUs that this process may use, as entries for CUDA_VISIBLE_DEVICES.

    The entries are UUIDs if nvidia-smi is available: if a scheduler gives two jobs a card each, an
    index means different cards to them, and CUDA may number cards differently from nvidia-smi.
    Without nvidia-smi the entries are indices, one for each device file in `device_folder`.

    CUDA_VISIBLE_DEVICES, if set, restricts the result as in CUDA itself: indices (in the order of
    nvidia-smi) or UUIDs (possibly shortened), up to the first that does not exist.
    """
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None and allowed.strip() in ("", "-1"):
        return []
    if shutil.which("nvidia-smi"):
        listing = _nvidia_smi()
        # A line is "GPU 0: NVIDIA A100 (UUID: GPU-5a1b...)"; a slice of a card is listed indented
        # below the card, "  MIG 1g.5gb Device 0: (UUID: MIG-...)".
        gpus = re.findall(r"^GPU \d+:.*\(UUID: (\S+)\)", listing, re.MULTILINE)
        slices = re.findall(r"^\s+MIG .*\(UUID: (\S+)\)", listing, re.MULTILINE)
    else:
        # Numbers in the names of device files may have gaps in a container; CUDA's indices do not.
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


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Modules that cannot be imported meanwhile: Keras imports these where it can, for parts of it
    that are not used here, and a third of the time in which TensorFlow starts is theirs."""
    new = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(new))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in new:
            sys.modules.pop(name, None)


def _nvidia_smi() -> str:
    """The output of `nvidia-smi -L`; empty, with a warning, if it fails."""
    try:
        return subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=QUERY_SECONDS, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        log.warning("no GPU is used, because `nvidia-smi -L` failed: %s", error)
        return ""


def _find(entry: str, gpus: list[str], slices: list[str]) -> str | None:
    """The device meant by an entry of CUDA_VISIBLE_DEVICES, or None if it does not exist."""
    if entry.isdecimal():
        return gpus[int(entry)] if int(entry) < len(gpus) else None
    if not entry.startswith(("GPU-", "MIG-")):
        return None
    if gpus[0].isdecimal():
        # Only device files are known; CUDA resolves the UUID.
        return entry
    return next((uuid for uuid in gpus + slices if uuid.startswith(entry)), None)


@contextlib.contextmanager
def claim_gpu(lock_folder: Path, gpus: list[str]) -> Iterator[str | None]:
    """Claim one of `gpus` for this process only, and yield it; without GPUs, yield None.

    Waits while other processes hold all of them. A claim is an operating-system lock on one file
    per device in `lock_folder`, which is released when the process exits for whatever reason. The
    folder must be local to the machine and shared by the user's jobs on it: LOCK_FOLDER.
    """
    if not gpus:
        yield None
        return
    _make_private(lock_folder)
    claim = _try_claim(lock_folder, gpus)
    if claim is None:
        log.info("waiting for a GPU: other jobs hold %s", ", ".join(gpus))
    while claim is None:
        time.sleep(POLL_SECONDS)
        claim = _try_claim(lock_folder, gpus)
    gpu, file = claim
    with file:
        yield gpu


def _make_private(folder: Path) -> None:
    """Make a folder that only this user can use. UserError if it is a link or another user's: who
    made it could keep jobs waiting, or have them make files elsewhere."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        raise UserError(
            f"{folder}, where GPUs are claimed, is a link, a file or another user's folder; set "
            f"TMPDIR to a folder of your own"
        )
    if status.st_mode & 0o077:
        folder.chmod(0o700)


def _try_claim(lock_folder: Path, gpus: list[str]) -> tuple[str, IO[str]] | None:
    for gpu in gpus:
        # The file stays: a removed one could still be locked by one job and recreated by the next.
        place = lock_folder / f"{gpu.replace('/', '_')}.lock"
        file = os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600), "a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
        else:
            return gpu, file
    return None


def set_up(gpu: str | None, threads: int, device: str = "auto") -> str:
    """Start TensorFlow on one device, with bit-identical results for equal jobs; return a log line.

    gpu      an entry for CUDA_VISIBLE_DEVICES, as yielded by `claim_gpu`; None: the CPU.
    threads  CPU threads within one operation. Operations run one after another.
    device   what happens if TensorFlow cannot use the GPU: auto, a warning, and the job runs on the
             CPU; gpu, a UserError.

    Must be called before anything else imports TensorFlow; RuntimeError if TensorFlow has already
    started, so that these settings would have no effect. From here on random operations need seeds.
    """
    late = "cannot choose the device and threads: TensorFlow was started before set_up"
    if gpu and "tensorflow" in sys.modules and os.environ.get("CUDA_VISIBLE_DEVICES") != gpu:
        raise RuntimeError(f"{late}; call set_up before anything imports TensorFlow")
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1" if gpu is None else gpu
    # Without a driver TensorFlow logs an error (level 2) for every job that uses no GPU.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3" if gpu is None else "2")
    # By default TensorFlow uses oneDNN's kernels only on some Intel processors; on others, a
    # training step takes 1.5 times as long without them.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _hidden("matplotlib", "pandas", "sklearn"):
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
        # Without `gpu`, none is found.
        return f"running on {f'GPU {gpu}' if gpu.isdecimal() else gpu} ({name})"  # type: ignore[union-attr]
    if gpu is not None:
        reason = (
            "Either TensorFlow is installed without the CUDA libraries (fix: `pip install -e "
            "'.[gpu]'`), or the NVIDIA driver is too old for them (fix: install a newer driver)."
        )
        if device == "gpu":
            raise UserError(
                f"device is gpu, but TensorFlow cannot use GPU {gpu}. {reason} Or set device: "
                f"auto, to train on the CPU"
            )
        log.warning(
            "TensorFlow cannot use GPU %s, so this job runs on the CPU, which is far slower. %s",
            gpu,
            reason,
        )
    return f"running on the CPU with {threads} thread{'s' if threads > 1 else ''}"
