"""What the caller's environment has reaches no job."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from helpers.environments import HOSTILE, OTHER_KERAS
from helpers.workflow import CLONE

from svae.errors import UserError
from svae.jobs.environment import check_cache, check_python, settle

OPEN = {
    "OMP_NUM_THREADS": "3",
    "OPENBLAS_NUM_THREADS": "3",
    "OPENBLAS_CORETYPE": "Haswell",
    "CUDA_VISIBLE_DEVICES": "1",
    "HDF5_USE_FILE_LOCKING": "FALSE",
    "TF_CPP_MIN_LOG_LEVEL": "0",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "PATH": "/usr/bin",
    "TMPDIR": "/scratch",
}
# How each library sees it, with what it imports by itself.
VIEWS = {
    "python": "import sys; print(sys.flags.optimize, sys.flags.utf8_mode, sys.warnoptions)",
    "matplotlib": "import matplotlib; print(matplotlib.get_backend())",
    "figures": "from svae.figures.style import blank; import matplotlib as m; print(m.rcParams)",
    "h5py": (
        "import h5py, io, os; path = f'{os.environ[\"HOME\"]}/a.h5'; h5py.File(path, 'w').close(); "
        "print(h5py.File(path).driver)"
    ),
}
KERAS = (
    "import keras; print(keras.backend.backend(), keras.config.image_data_format(), "
    "keras.config.floatx(), keras.config.epsilon(), keras.layers.Dense(1).__module__)"
)


# The locale and the time zone stay: they change no result and, in UTF-8 mode, no file.
@pytest.mark.parametrize("name", sorted(HOSTILE.keys() - {"LC_ALL", "TZ"}))
def test_each_variable_is_as_without_it(name):
    without, with_it = {}, {name: HOSTILE[name]}
    settle(without)
    settle(with_it)
    assert with_it == without and "MPLBACKEND" in without


def test_what_stays_open():
    environment = dict(OPEN)
    settle(environment)
    assert environment.items() >= OPEN.items()
    settle(again := dict(environment))
    assert again == environment


def view(code, home, hostile):
    home.mkdir()
    if hostile:
        (home / ".keras").mkdir()
        (home / ".keras/keras.json").write_text(json.dumps(OTHER_KERAS))
        (home / "matplotlibrc").write_text("font.size: 30\nfigure.facecolor: red\nsavefig.dpi: 7\n")
    clean = {key: value for key, value in os.environ.items() if key not in HOSTILE}
    environment = {**clean, "HOME": str(home), "PYTHONPATH": str(Path.cwd())}
    environment |= HOSTILE if hostile else {}
    settle(environment)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=home, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("library", VIEWS)
def test_every_library_sees_the_same(library, tmp_path):
    views = [view(VIEWS[library], tmp_path / str(hostile), hostile) for hostile in (True, False)]
    assert views[0] == views[1] != ""


@pytest.mark.slow
def test_keras_is_as_the_networks_need_it(tmp_path):
    seen = view(KERAS, tmp_path / "home", hostile=True)
    assert seen.startswith("tensorflow channels_last float32 1e-07 keras.src.layers")


# The Python ---------------------------------------------------------------------------------------

UNQUOTED = ["my clone", "it's", "clone (1)", "R&D", "a;b", "$HOME", "50%*", "n\nl", "[x]", "{a,b}"]


@pytest.mark.parametrize("name", UNQUOTED)
def test_a_path_that_snakemake_does_not_quote_is_refused(name):
    with pytest.raises(UserError) as caught:
        check_python(f"/home/{name}/.venv/bin/python")
    assert "make run VENV=" in str(caught.value)
    assert str(caught.value).startswith(f"/home/{name}/.venv/bin/python: ")


@pytest.mark.parametrize("name", ["clone", "a.b-c_d+e", "Übung", "50%", "x@y", "a,b"])
def test_a_path_that_needs_no_quotes_is_accepted(name, tmp_path):
    """As the shell sees it."""
    path = tmp_path / name / "python"
    path.parent.mkdir()
    path.symlink_to("/bin/echo")
    shell = subprocess.run(f"{path} started", shell=True, capture_output=True, text=True)
    assert shell.stdout == "started\n"
    check_python(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"HOME": "/proc/none"},
        {"HOME": "FILE"},
        {"XDG_CACHE_HOME": "FILE/cache"},
        {"HOME": "FOLDER", "XDG_CACHE_HOME": "FILE"},
        {"HOME": "/dev/null"},
    ],
)
def test_a_cache_that_cannot_be_written_is_one_line(changes, tmp_path):
    (tmp_path / "file").touch()
    places = {"FILE": str(tmp_path / "file"), "FOLDER": str(tmp_path)}
    environment = {
        key: re.sub("FILE|FOLDER", lambda found: places[found[0]], value)
        for key, value in changes.items()
    }
    with pytest.raises(UserError, match="export XDG_CACHE_HOME"):
        check_cache(environment)


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_a_cache_that_can_be_written(name, tmp_path):
    check_cache({"HOME": "/proc/none", name: str(tmp_path / "new é")})


@pytest.mark.parametrize(
    ("options", "arguments", "home", "message"),
    [
        (["-S"], [], "/", "No module named 'svae'; start the Snakemake that `make env` installs"),
        ([], [], "/proc/none", "/proc/none/.cache/snakemake: Snakemake cannot write its cache"),
        ([], ["--config", "name"], "FOLDER", "--config has 'name'; write KEY=VALUE"),
        ([], ["-n", "--config", "name=a"], "FOLDER", ""),
    ],
)
def test_what_the_profile_checks_before_snakemake(options, arguments, home, message, tmp_path):
    (code,) = yaml.safe_load((CLONE / "profiles/default/config.yaml").read_text())[
        "__definitions__"
    ]
    done = subprocess.run(
        [sys.executable, *options, "-c", code, *arguments],
        **{"cwd": "/", "capture_output": True, "text": True},
        env={"HOME": home.replace("FOLDER", str(tmp_path))},
    )
    assert done.returncode == bool(message)
    assert done.stderr.startswith(f"Error: {message}" if message else "")
    assert done.stderr.count("\n") == done.returncode


@pytest.mark.workflow
def test_make_refuses_before_it_installs_anything(tmp_path):
    clone = tmp_path / "my clone"
    clone.mkdir()
    for part in ("Makefile", "svae", "requirements.lock", "pyproject.toml"):
        (clone / part).symlink_to(CLONE / part)
    done = subprocess.run(["make", "run"], cwd=clone, capture_output=True, text=True)
    assert done.returncode and "Snakemake cannot start jobs" in done.stderr
    assert not (clone / ".venv").exists() and "Traceback" not in done.stderr


@pytest.mark.workflow
def test_snakemake_refuses_before_any_job(tmp_path):
    python = tmp_path / "my clone/bin/python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    (python.parents[1] / "pyvenv.cfg").write_text(f"home = {Path(sys.executable).parent}\n")
    code = f"import sys; sys.executable = {str(python)!r}; from snakemake.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "-n", "-s", CLONE / "Snakefile"],
        **{"cwd": tmp_path, "capture_output": True, "text": True},
        env={**os.environ, "SNAKEMAKE_PROFILE": "none"},
    )
    assert done.returncode and done.stderr.count("Snakemake cannot start jobs") == 1
    assert "Traceback" not in done.stderr
