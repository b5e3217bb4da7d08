"""Every example of docs/use-a-trained-model.md works, and prints what its comments say."""

import re
import subprocess
import sys

import numpy as np
import pytest
from helpers import stores
from helpers.builders import make_images, settings
from helpers.workflow import CLONE
from PIL import Image
from test_training import train

from svae.sampling.prior import sample
from svae.settings.export import ExportSettings
from svae.settings.sampling import SamplingSettings
from svae.use.export import export

TEXT = (CLONE / "docs/use-a-trained-model.md").read_text()
SHAPE = (28, 28, 1)


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small run at the place of the one in the examples, exported with two images."""
    folder = tmp_path_factory.mktemp("use")
    data, run = folder / "data/mnist_5k.h5", folder / "runs/mnist_5k/low_rank/seed-0"
    splits = {
        name: make_images(n, SHAPE, seed=i)
        for i, (name, n) in enumerate({"train": 24, "valid": 6, "test": 10}.items())
    }
    attributes = {"dataset": "mnist_5k", "title": "Waves", "padding": 2, "crop": None, "size": None}
    stores.write(data, splits, attributes)
    run.parent.mkdir(parents=True)
    train(data, run, settings(latent_maps=64))
    sample(run, run / "samples.h5", SamplingSettings(n_samples=12))
    (folder / "own/cats").mkdir(parents=True)
    for number, image in enumerate(make_images(2, SHAPE, seed=5), 1):
        Image.fromarray(image[..., 0]).save(folder / f"own/cats/{number}.png")
    target = folder / "results/export_low_rank"
    export(data, run, run / "samples.h5", target, ExportSettings(images=str(folder / "own")))
    return folder


@pytest.mark.slow
def test_the_examples_print_what_they_say(folder):
    code = "".join(blocks("python"))
    expected = re.findall(r"^ *print\(.*\)  # (.*)$", code, re.M)
    assert len(expected) == code.count("print(") > 10
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(CLONE)!r})\n{code}"],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    assert np.asarray(Image.open(folder / "sample.png")).shape == SHAPE[:2]


def test_the_command_is_that_of_the_rule():
    """tests/test_export.py runs it."""
    assert blocks("sh") == ["snakemake --cores all results/export_low_rank\n"]


def test_names_in_the_text_exist():
    from svae.use.trained_model import TrainedModel

    for name in ("sample", "save_tensorflow", "reconstruct", "interpolate", "encode", "decode"):
        assert f"model.{name}" in TEXT and hasattr(TrainedModel, name)
