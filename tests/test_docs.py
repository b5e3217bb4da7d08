"""The examples of the documentation work as printed, and its facts are consistent."""

import contextlib
import importlib.util
import re
import shlex
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import yaml
from helpers.workflow import CLONE, SMALL, VARIANTS, Workflow
from snakemake.cli import get_argument_parser, parse_config
from snakemake.utils import update_config

import svae
from svae.config.resolve import resolve
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


def test_the_readme_has_the_answer_of_the_study():
    """Word for word, and five sentences long."""
    study = " ".join((CLONE / "docs/study.md").read_text().split())
    answer = study.split("**The answer, in five sentences.** ")[1].split(" This page")[0]
    assert len(re.split(r"\. (?=[A-Z])", answer)) == 5
    assert answer in " ".join((CLONE / "README.md").read_text().split())


def test_every_score_has_a_section():
    text = (CLONE / "docs/scores.md").read_text()
    sections = dict(re.findall(r"^## ([^\n]+?) \(`(\w+)`\)\n\n(?=\S)", text, re.M))
    assert sections == {score.title: name for name, score in scores().items()}


TIMED = """
use rule train from vae as vae_train with:
    message:
        "Asks for {resources.runtime} minutes"
"""
NESTED = """
rule whole:
    input:
        "outer/vae/results/report.html",


module inner:
    snakefile:
        "Snakefile"
    prefix:
        "outer"


use rule * from inner as inner_*
"""


@pytest.mark.workflow
def test_the_module_of_the_page_plans_and_runs(tmp_path):
    """In a workflow with rules and imports of its own, and that one in another, below prefixes."""
    clone = Workflow(tmp_path / "spatial-vae")
    (own,) = blocks("python", CLONE / "docs/in-another-workflow.md")
    (tmp_path / "Snakefile").write_text(f"import pandas\n\n{own}\n\n{TIMED}")
    # The time of this many epochs depends on the number of images that were converted.
    long = {"training": {"epochs": 10_000}, "conversion": {"max_images": 1000}}
    settings = {"vae": SMALL | long | {"dataset": "mnist_5k"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    clone.folder = tmp_path

    def run(*arguments):
        paths = {"PYTHONPATH": str(tmp_path / "spatial-vae")}
        return clone.run(*arguments, **paths)

    def minutes():
        """That a training asks for, as planned."""
        plan = run("-n", "vae/runs/mnist_5k/vanilla/seed-0/run.json").stdout
        return int(re.search(r"Asks for (\d+) minutes", plan)[1])

    planned = dict(re.findall(r"^(\w+) +(\d+)$", run("-n").stdout, re.M))
    assert planned["everything"] == "1" and planned["vae_train"] == str(len(VARIANTS))
    assert "vae_report" in planned and "vae_all" not in planned
    before = minutes()
    run("--cores", "2", "vae/results/dataset.png")
    assert minutes() < before / 2
    made = {path.name for path in (tmp_path / "vae").iterdir()}
    assert made == {"benchmarks", "data", "logs", "results"}
    assert not (tmp_path / "data").exists()

    (tmp_path / "nested.smk").write_text(NESTED)
    done = run("-n", "-s", "nested.smk", "outer/vae/runs/mnist_5k/low_rank/seed-0/run.json")
    assert re.search(r"^inner_vae_train +1$", done.stdout, re.M)
    assert re.search(r"^inner_vae_convert +1$", done.stdout, re.M)


ADDRESSES = [
    'github("owner/spatial-vae", path="Snakefile", tag="v1")',
    '"gh:owner/spatial-vae@v1:Snakefile"',
]


@pytest.mark.workflow
@pytest.mark.parametrize("address", ADDRESSES)
def test_the_module_has_an_address(address, tmp_path):
    """Sources in the working directory are not below its prefix."""
    clone = Workflow(tmp_path / "hub/owner/spatial-vae")
    git = ["git", "-C", clone.folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "All"], ["tag", "v1"]):
        subprocess.run([*git, *arguments], check=True)
    (own,) = blocks("python", CLONE / "docs/in-another-workflow.md")
    (tmp_path / "Snakefile").write_text(own.replace('"spatial-vae/Snakefile"', address))
    (tmp_path / "pictures.zip").touch()
    settings = SMALL | {"dataset": "images", "sources": {"images": {"archive": "pictures.zip"}}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"vae": settings}))
    places = {
        "PYTHONPATH": str(clone.folder),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{tmp_path}/hub/.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/",
    }
    clone.folder = tmp_path
    done = clone.run("-n", "-q", "rules", **places)
    assert re.search(rf"^vae_train +{len(VARIANTS)}$", done.stdout, re.M)


# Commands -----------------------------------------------------------------------------------------

PAGES = [CLONE / "README.md", *sorted((CLONE / "docs").glob("*.md")), CLONE / "studies/README.md"]


def commands(page):
    """The commands in the code of a page, in indented blocks and between back quotes."""
    text = page.read_text().replace("\\\n", " ")
    found, unfinished = re.findall(r"`([^`\n]+)`", text), ""
    for line in re.findall(r"^    (\S.*|    .*)$", text, re.M):
        unfinished += line
        with contextlib.suppress(ValueError):  # a quotation that ends in the next line
            shlex.split(unfinished, comments=True)
            found.append(unfinished)
            unfinished = ""
    return [each for each in dict.fromkeys(found) if each.split()[0] in CHECKS]


def snakemake_works(words, folder):
    options = get_argument_parser().parse_args(words)
    given = parse_config(options.config) if options.config else {}
    base = yaml.safe_load((CLONE / "config.yaml").read_text())
    for path in options.configfile or ():
        if path.name != "other.yaml":
            update_config(base, yaml.safe_load((CLONE / path).read_text()))
    for source in given.get("sources", {}).get("images", {}):
        given["sources"]["images"][source] = str(folder)
    update_config(base, given)
    config = resolve(base, folder)
    rules = "\n".join(path.read_text() for path in (CLONE / "rules").glob("*.smk"))
    named = {*(options.until or ()), *(options.forcerun or ()), *(options.set_threads or ())}
    assert all(f"rule {name}:" in rules for name in named)
    # A sweep of a page that has none in config.yaml.
    variants = {"|".join(map(re.escape, config.variants)) or "(?!)"} | {r"naive_w16"}
    variant, seed = f"(?:{'|'.join(variants)})", f"(?:{'|'.join(map(str, config.seeds))})"
    run = rf"runs/{config.dataset.name}/{variant}/seed-{seed}"
    known = rf"results/parzen_{variant}\.json|{run}/(run|scores/({'|'.join(config.scores)}))\.json"
    assert all(re.fullmatch(known, target) for target in options.targets)


def make_works(words, folder):
    makefile = (CLONE / "Makefile").read_text()
    listed = re.search(r"^TABLES = \((.*?)\)$", (CLONE / "studies/run.py").read_text(), re.M)
    studies = {f"study-{name}" for name in re.findall(r'"(\w+)"', listed[1])}
    for word in words:
        name, is_variable, _ = word.partition("=")
        pattern = rf"\$\(?(if )?\$?\(?{name}\b" if is_variable else rf"^{name}:"
        assert re.search(pattern, makefile, re.M) or name in studies, word


def python_works(words, folder):
    module = words[0] == "-m"
    path = Path(importlib.util.find_spec(words[1]).origin) if module else CLONE / words[0]
    source = path.read_text()
    assert all(f'"{word}"' in source for word in words[1:] if word.startswith("--"))


def pip_works(words, folder):
    project = tomllib.loads((CLONE / "pyproject.toml").read_text())["project"]
    assert words[0] == "install"
    if words[-2] == "-r":
        assert (CLONE / words[-1]).exists()
        return
    extra = re.fullmatch(r"(?:\.|spatial-vae)(?:\[(\w+)\])?", words[-1])[1]
    assert words[-2] == "-e" and extra in {None, *project["optional-dependencies"]}


def tensorboard_works(words, folder):
    """What `tensorboard` imports is installed; its options are those of every version."""
    for command in entry_points(group="console_scripts", name="tensorboard"):
        assert callable(command.load())
    assert words == ["--logdir", "runs"]


CHECKS = {
    "make": make_works,
    "pip": pip_works,
    "python": python_works,
    "snakemake": snakemake_works,
    "tensorboard": tensorboard_works,
}
COMMANDS = [
    pytest.param(line, id=f"{page.name}: {line}") for page in PAGES for line in commands(page)
]


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_of_the_pages_works(command, tmp_path):
    """Its program, options, configuration and targets are known; nothing is computed."""
    text = re.sub(r"\bmem_mb=N\b", "mem_mb=8000", command)
    shell = ["bash", "-c", f"printf '%s\\0' {text}"]
    words = subprocess.run(shell, capture_output=True, text=True, check=True).stdout.split("\0")[
        :-1
    ]
    CHECKS[words[0]](words[1:], tmp_path)


def test_commands_are_found():
    assert {command.values[0].split()[0] for command in COMMANDS} == CHECKS.keys()
