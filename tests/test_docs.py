"""The examples of the documentation work as printed, and its facts are consistent."""

import re
import tomllib

import numpy as np
import pytest
import yaml
from helpers.workflow import CLONE, Workflow

import svae
from svae.scores.registry import scores

GUIDE = CLONE / "docs/add-a-data-set.md"
SCORE_GUIDE = CLONE / "docs/add-a-score.md"


def blocks(language, guide=GUIDE):
    return re.findall(rf"^```{language}\n(.*?)^```$", guide.read_text(), re.M | re.S)


@pytest.fixture
def workflow(tmp_path):
    """A copy of the workflow with the two files and the configuration of the guide."""
    entry, configuration = blocks("yaml")
    (reader,) = blocks("python")
    (name,) = yaml.safe_load(entry)
    workflow = Workflow(tmp_path)
    datasets = tmp_path / "svae/datasets"
    with (datasets / "sources.yaml").open("a") as table:
        table.write(f"\n{entry}")
    (datasets / "readers" / f"{name}.py").write_text(reader)
    workflow.configure(yaml.safe_load(configuration))
    return workflow


@pytest.mark.workflow
def test_the_data_set_of_the_guide_is_converted_and_drawn(workflow):
    drawings = np.random.default_rng(0).integers(0, 256, (250, 784), np.uint8)
    np.save(workflow.folder / "cat.npy", drawings)
    ((command,),) = [block.splitlines() for block in blocks("sh")]
    program, *targets = command.split()
    assert program == "snakemake"
    workflow.run(*targets)
    assert (workflow.folder / "results/dataset.png").exists()

    from svae.datasets.store import Store

    with Store(workflow.folder / "data/quickdraw.h5") as store:
        stored = {split: store.images(split) for split in ("train", "valid", "test")}
        assert (store.shape, store.padding) == ((28, 28, 1), 2)
    assert {split: len(images) for split, images in stored.items()} == {
        "train": 200,
        "valid": 25,
        "test": 25,
    }
    # Every drawing exists once.
    found = np.concatenate([images.reshape(-1, 784) for images in stored.values()])
    assert sorted(map(bytes, found)) == sorted(map(bytes, drawings))
    # The rest of the pipeline accepts it.
    assert workflow.planned()["train"] == 5


@pytest.mark.workflow
@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"<html>no such file</html>", "is not a NumPy array"),
        (b"PK\x05\x06" + bytes(18), "is not a NumPy array"),
        (None, "instead of uint8"),
    ],
    ids=["a page", "a zip", "another layout"],
)
def test_the_reader_of_the_guide_explains_a_wrong_file(workflow, content, problem):
    path = workflow.folder / "cat.npy"
    if content:
        path.write_bytes(content)
    else:
        np.save(path, np.zeros((250, 28, 28)))
    done = workflow.run("results/dataset.png", check=False)
    assert done.returncode == 1
    assert "cat.npy" in done.stderr and problem in done.stderr
    assert not (workflow.folder / "data/quickdraw.h5").exists()


def test_one_version_and_one_licence():
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((CLONE / "CITATION.cff").read_text())
    changelog = (CLONE / "CHANGELOG.md").read_text()
    version, date = re.search(r"^## (\d\S*) - (\S+)$", changelog, re.MULTILINE).groups()
    assert version == project["version"] == citation["version"] == svae.__version__
    assert date == citation["date-released"]
    assert project["license"] == citation["license"] == "MIT"
    assert (CLONE / "LICENSE").read_text().startswith("MIT License")


def test_every_release_lists_what_is_stale():
    changelog = (CLONE / "CHANGELOG.md").read_text()
    _, unreleased, *releases = re.split(r"^## ", changelog, flags=re.MULTILINE)
    assert unreleased.startswith("Unreleased\n")
    assert all("\n### Stale\n\n- " in release for release in releases)


def test_every_score_has_a_section():
    text = (CLONE / "docs/scores.md").read_text()
    sections = dict(re.findall(r"^## ([^\n]+?) \(`(\w+)`\)\n\n(?=\S)", text, re.M))
    assert sections == {score.title: name for name, score in scores().items()}
