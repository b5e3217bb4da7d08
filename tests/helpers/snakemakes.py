"""Many Snakemakes from one start: each is forked after the imports, which take longer than a plan.

    done = snakemake(["-n"], folder, environment)

does what `python -m snakemake -n` does in the folder, in a process of its own, with that
environment and no input. This file is also the program of the process that forks them.
"""

import atexit
import functools
import importlib
import json
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

# Modules that Snakemake imports late, for most plans.
SOON_IMPORTED = ("snakemake.cli", "snakemake.report", "smart_open", "yte", "jsonschema", "yaml")


def snakemake(
    arguments: Sequence[str | Path], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess:
    """Run Snakemake without starting Python, and return the same as `subprocess.run`."""
    server = _server()
    with tempfile.TemporaryDirectory() as place:
        outputs = [Path(place, name) for name in ("output", "errors")]
        request = [[*map(str, arguments)], str(folder), dict(environment), [*map(str, outputs)]]
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code = server.stdout.readline()
        assert code, f"the process that forks Snakemakes ended with {server.wait()}"
        texts = [path.read_text() for path in outputs]
    return subprocess.CompletedProcess(request[0], int(code), *texts)


@functools.cache
def _server() -> subprocess.Popen:
    """Start the process that forks; it exits when this one does."""
    # It imports nothing of this package; each Snakemake imports the one that its environment names.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    server = subprocess.Popen(
        [sys.executable, "-P", __file__],
        env={**clean, "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(server.communicate)
    return server


def _serve() -> None:
    for name in SOON_IMPORTED:
        importlib.import_module(name)
    ours = [name for name in sys.modules if name.partition(".")[0] in ("svae", "tensorflow")]
    assert not ours, ours
    requests, replies = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    for line in requests:
        child = os.fork()
        if not child:
            requests.close()
            replies.close()
            _become_snakemake(*json.loads(line))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        print(code, file=replies, flush=True)


def _become_snakemake(
    arguments: list[str], folder: str, environment: dict[str, str], outputs: list[str]
) -> None:
    """Do what `python -m snakemake` does after its start."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    path = environment.get("PYTHONPATH", "")
    sys.path[:0] = [folder, *filter(None, path.split(os.pathsep))]
    for number, name in enumerate(outputs, start=1):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv[1:] = arguments
    # Snakemake stores this at its import, for its messages.
    sys.modules["snakemake.workflow"].Workflow._rundir = folder
    # An exit or an exception ends this process, as it would end Snakemake.
    runpy.run_module("snakemake", run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    _serve()
