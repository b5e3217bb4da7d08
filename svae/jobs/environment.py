"""Environment variables that could change a result or break a job, from the caller's shell.

A notebook sets the back end of matplotlib, a file in the home folder the data format of Keras, a
shell the optimisation level of Python. Jobs inherit all of it. `settle` is called once, where the
Snakefile is read, so that every job starts with the same. Other variables stay as they are, above
all those that say what a job may use: the numbers of threads of BLAS and OpenMP, which threads are
set by `training.threads` for TensorFlow; the GPUs (CUDA_VISIBLE_DEVICES); locking of HDF5 files
(HDF5_USE_FILE_LOCKING); the processor as OpenBLAS sees it (OPENBLAS_CORETYPE); search paths.

Imported by the Snakefile and run before anything is installed: standard library only.
"""

import os
import re
import sys
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from svae.errors import UserError

SET = {
    "MPLBACKEND": "agg",
    "KERAS_BACKEND": "tensorflow",
    # Keras reads keras.json there: another data format, float type or epsilon. A folder that can
    # neither exist nor be made has none.
    "KERAS_HOME": os.devnull,
    "PYTHONNOUSERSITE": "1",
    "PYTHONUTF8": "1",
}
CLEARED = (
    *("PYTHONHOME", "PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONPLATLIBDIR", "PYTHONWARNINGS"),
    *("HDF5_DRIVER", "HDF5_DRIVER_CONFIG"),
    *("CUBLAS_WORKSPACE_CONFIG", "NVIDIA_TF32_OVERRIDE"),
)
# Of these families only what is KEPT: where to log, and how to use the memory of a GPU.
CLEARED_FAMILIES = ("TF_", "XLA_", "ONEDNN_", "DNNL_", "CUDNN_")
KEPT = ("TF_CPP_", "TF_FORCE_GPU_ALLOW_GROWTH", "TF_GPU_ALLOCATOR", "TF_GPU_THREAD_")

SPECIAL = re.compile(r"""[\s'"\\$`&;|<>()*?\[\]{}]""")  # to a shell, within a path


def settle(environment: MutableMapping[str, str] = os.environ) -> None:
    """Set and clear variables in place; processes that are started later inherit it."""
    for name in list(environment):
        family = name.startswith(CLEARED_FAMILIES) and not name.startswith(KEPT)
        if family or name in CLEARED:
            del environment[name]
    environment.update(SET)


def check_python(path: Path | str) -> None:
    """UserError if Snakemake cannot start jobs with a Python at this path, which it does not quote.

    Every job would end with exit code 127 and no log.
    """
    text = os.path.abspath(path)  # noqa: PTH100 -- links stay, since this is what Snakemake runs
    signs = "".join(sorted(set(SPECIAL.findall(text))))
    if signs:
        raise UserError(
            f"{text}: Snakemake cannot start jobs with a Python in a folder whose path has any of "
            f"the characters {signs!r}. Put the environment elsewhere, as in "
            f"`make run VENV=$HOME/spatial-vae-environment` and then "
            f"`$HOME/spatial-vae-environment/bin/snakemake`, or move the clone"
        )


def check_cache(environment: Mapping[str, str] = os.environ) -> None:
    """UserError if Snakemake cannot write its cache, which it does before it reads a Snakefile."""
    home = environment.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 -- may have none
    folder = Path(environment.get("XDG_CACHE_HOME") or f"{home}/.cache", "snakemake")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        allowed = os.access(folder, os.W_OK | os.X_OK)
    except OSError:
        allowed = False
    if not allowed:
        raise UserError(
            f"{folder}: Snakemake cannot write its cache to this folder. Name another place, for "
            f"make and for snakemake: `export XDG_CACHE_HOME=FOLDER`"
        )


if __name__ == "__main__":
    try:
        check_python(sys.argv[1])
        check_cache()
    except UserError as error:
        sys.exit(f"Error: {error}")
