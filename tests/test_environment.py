"""What the caller's environment has reaches no job."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.environments import HOSTILE, OTHER_KERAS

from svae.jobs.environment import settle

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
