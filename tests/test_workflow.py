"""The real pipeline, small: what it makes, and what it makes again after which change."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys

import h5py
import keras
import numpy as np
import pytest
import yaml
from helpers.environments import HOSTILE, OTHER_KERAS
from helpers.pages import parse
from helpers.pictures import decoded, enlarged, places
from helpers.workflow import CLONE, MEASURED, PARTS, SMALL, VARIANTS, Workflow
from PIL import Image
from test_damage import without_row

from svae.jobs.files import read_json
from svae.pixels import to_bytes

pytestmark = pytest.mark.workflow

SCORES = [f"results/parzen_{name}.json" for name in VARIANTS]
KEYS = {
    "variant",
    "dataset",
    "dataset_checksum",
    "objective",
    "protocol",
    "log_likelihood",
    "standard_error",
    "bits_per_dim",
    "sigma",
    "sigma_grid",
    "validation_log_likelihood",
    "sigma_at_grid_edge",
    "n_samples",
    "n_valid",
    "n_test",
    "dimension",
    "pixel_range",
    "seed",
    "epochs",
    "software",
    "kl_weight",
    "equivalent_variance_at_unit_beta",
    "equivalent_beta_at_unit_variance",
    "sse_per_image",
    "kl_nats_per_image",
    "active_entries",
    "active_maps",
    "batch_norm",
}


TITLE = "Distances in features"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run on the default data set, and its configuration."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"))
    workflow.configure(SMALL)
    workflow.command_line("--cores", "2")
    return workflow


@pytest.fixture
def undo(finished):
    """Puts the configuration and the code of `finished` back as they were."""
    texts = [
        path
        for part in ("svae", "scripts", "rules")
        for pattern in ("*.py", "*.j2", "*.yaml", "*.rst")
        for path in (finished.folder / part).rglob(pattern)
    ]
    before = {path: path.read_text() for path in (finished.folder / "config.yaml", *texts)}
    # Snakemake compares the time of a script, not only its text.
    times = {path: (path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in before}
    yield finished
    for path, text in before.items():
        if path.read_text() != text:
            path.write_text(text)
            os.utime(path, ns=times[path])


def rows(heading):
    """The table under a heading of docs/staleness.md, as cells without quotes."""
    text = (CLONE / "docs/staleness.md").read_text()
    (section,) = re.findall(rf"^{heading}\n.*?((?:^\|[^\n]*\n)+)", text, re.MULTILINE | re.DOTALL)
    lines = [line.strip("|").split(" | ") for line in section.splitlines()[2:]]
    return [[cell.strip() for cell in line] for line in lines]


GROUPS = {group.strip("*"): cell for group, cell in rows("The groups are:")}
OTHERS = [score for score in MEASURED if score.name != "parzen"]
# The page says these in words, so that a new score changes nothing there.
GROUPS["other scores"] = " ".join(f"`{score.name}`" for score in OTHERS)
GROUPS["other scores of samples"] = " ".join(
    f"`{score.name}`" for score in OTHERS if "samples" in score.needs
)
PER_VARIANT = {
    "train",
    "prior",
    "sample",
    "examples",
    "result",
    *(score.name for score in MEASURED),
}


def jobs(cell):
    """The number of jobs of each rule in a cell such as "*sanity rows* of 2 variants, `x`"."""
    counts = {}
    for name, few in re.findall(r"[*`]([\w ]+)[*`](?: of (\d) variants?)?", cell):
        everywhere = {name: len(VARIANTS) if name in PER_VARIANT else 1}
        part = jobs(GROUPS[name]) if name in GROUPS else everywhere
        counts |= {rule: min(count, int(few or count)) for rule, count in part.items()}
    assert counts or cell == "nothing", cell
    return counts


def test_results(finished):
    folder = finished.folder
    for name, path in zip(VARIANTS, SCORES, strict=True):
        score = json.loads((folder / path).read_text())
        assert set(score) >= KEYS
        assert score["variant"] == name and score["n_samples"] == 200 and score["n_test"] == 500
        run = folder / f"runs/mnist_5k/{name}/seed-0"
        per_image = np.load(run / "scores/parzen_per_image.npz")["log_likelihood"]
        assert per_image.mean() == pytest.approx(score["log_likelihood"])
        with h5py.File(run / "samples.h5") as file:
            samples = file["samples"][:]
            assert file.attrs["variant"] == name
        assert samples.shape == (200, 28, 28, 1) and samples.dtype == np.float32
        assert np.abs(samples).max() <= 1 and samples.std() > 0.05
        # Decoder means that were rounded to bytes would have at most 256 values.
        assert len(np.unique(samples)) > 10_000
    rows = list(csv.DictReader((folder / "results/summary.csv").open()))
    assert [row["variant"] for row in rows] == list(VARIANTS)
    pairs = list(csv.DictReader((folder / "results/paired_differences.csv").open()))
    compared = {(pair["measure"], pair["variant"], pair["less"]) for pair in pairs}
    assert ("objective.j", "vanilla_matched", "low_rank") in compared  # of equal w
    assert ("objective.elbo", "low_rank", "vanilla") in compared
    weights = [float(row["kl_weight"]) for row in rows]
    assert weights == pytest.approx([784 / 64, 784 / 576, 784 / 576])
    assert "| `vanilla_matched` | -" in (folder / "results/summary.md").read_text()
    image = Image.open(folder / "results/comparison.png")
    assert image.width > 1000 and np.asarray(image.convert("L")).std() > 20
    lines = (folder / "runs/mnist_5k/low_rank/seed-0/history.jsonl").read_text().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["epoch"] == 1
    log = (folder / "logs/train_mnist_5k_low_rank_seed-0.log").read_text()
    assert re.search(r"low_rank: running on the CPU with 2 threads", log)
    assert len(re.findall(r"low_rank: epoch 1/1 .* images/s", log)) == 1


def check_that_damage_is_tested(workflow):
    """To every kind of file that its jobs wrote: tests/test_damage.py has a row for it."""
    folders = ("data", "runs", "results", "set-aside")
    files = [path for name in folders for path in (workflow.folder / name).rglob("*")]
    names = [str(path.relative_to(workflow.folder)) for path in files if path.is_file()]
    assert len(names) > 50 and without_row(names) == []


def test_nothing_is_written_elsewhere(finished):
    """But for what no job reads; and damage is tested to all that is written."""
    check_that_damage_is_tested(finished)
    known = {*PARTS, "data", "runs", "results", "set-aside", "logs", "benchmarks", ".snakemake"}
    assert {path.name for path in finished.folder.iterdir()} <= known


def test_the_page_is_complete(finished):
    text = (finished.folder / "results/report.html").read_text()
    page = parse(text)
    assert len(list(page.all("img"))) == 11 + len(VARIANTS)
    for element in page.all("data"):
        path = element.attributes["data-source"].split(": ")[0]
        assert (finished.folder / path).exists()
    for name, path in zip(VARIANTS, SCORES, strict=True):
        score = json.loads((finished.folder / path).read_text())
        assert f"{score['log_likelihood']:.1f}" in text
        assert score["log_likelihood_by_seed"] == {"0": score["log_likelihood"]}
        run = finished.folder / f"runs/mnist_5k/{name}/seed-0"
        assert len(score["fresh_draws"]["log_likelihood"]) == 2
        distances = json.loads((run / "scores/sliced_wasserstein.json").read_text())
        assert distances["n_images"] == 50
        bound = json.loads((run / "scores/importance_weighted_bound.json").read_text())
        record = json.loads((run / "run.json").read_text())
        assert bound["decoder_variance"] == record["train"]["mse_per_pixel"]
        assert f"{bound['log_likelihood']:.1f}" in text


def test_snakemakes_own_report(finished):
    finished.run("--report", "snakemake.html")
    text = (finished.folder / "snakemake.html").read_text()
    for category in ("Pictures", "Plots", "Scores", "Tables", "Report"):
        assert f'"{category}"' in text
    for name in VARIANTS:
        assert re.search(rf'"variant":\s*"{name}"', text)
    (finished.folder / "snakemake.html").unlink()


def test_a_second_run_does_nothing(finished):
    assert finished.planned() == {}


def test_a_copy_of_the_folder_is_finished_and_makes_what_is_deleted(finished, tmp_path):
    workflow = finished.copy(tmp_path / "copy")
    assert workflow.planned() == {}
    deleted = {
        "summary": "results/summary.csv",
        "rate_distortion": "results/rate_distortion.csv",
        "charts": "results/kl_per_map.png",
        "grids": "results/samples_vanilla.png",
        "comparison": "results/comparison.png",
        "contact_sheet": "results/dataset.png",
        "result": "results/parzen_low_rank.json",
    }
    for path in deleted.values():
        (workflow.folder / path).unlink()
    assert workflow.planned().keys() == deleted.keys() | {"report"}
    shutil.rmtree(workflow.folder / "runs/mnist_5k/vanilla")
    assert workflow.planned()["train"] == 1


def test_the_figure_shows_the_first_samples(finished):
    with h5py.File(finished.folder / "data/mnist_5k.h5") as file:
        rows = [file["train"][:10]]
    for name in VARIANTS:
        with h5py.File(finished.folder / f"runs/mnist_5k/{name}/seed-0/samples.h5") as file:
            rows.append(to_bytes(file["samples"][:10]))
    picture = decoded(finished.folder / "results/comparison.png")
    tops = []
    for row in rows:
        ((top, left),) = places(picture, enlarged(row[0], 5))
        for column, image in enumerate(row):
            assert (top, left + 145 * column) in places(picture, enlarged(image, 5))
        tops.append(top)
    assert tops == sorted(tops)


@pytest.mark.parametrize(
    ("example", "cell"), [pytest.param(*c, id=i) for i, *c in rows("## Settings")]
)
def test_what_a_setting_reruns(undo, example, cell):
    changes = yaml.safe_load(example.strip("`"))
    if "variants" in changes:
        changes["variants"] = VARIANTS | changes["variants"]
    undo.configure(changes)
    assert undo.planned() == jobs(cell)


EDITS = [pytest.param(*cells, id=edit) for edit, *cells in rows("## Edits of the code")]


@pytest.mark.parametrize(("path", "old", "new", "cell"), EDITS)
def test_what_an_edit_reruns(undo, path, old, new, cell):
    undo.edit(*(quoted.removeprefix("`").removesuffix("`") for quoted in (path, old, new)))
    assert undo.planned() == jobs(cell)


def test_the_score_of_the_guide_is_shown_and_reruns_no_other_score(finished, tmp_path):
    workflow = finished.copy(tmp_path / "copy")
    guide = (CLONE / "docs/add-a-score.md").read_text()
    module, settings = (
        re.search(rf"^```{language}\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)[1]
        for language in ("python", "yaml")
    )
    name = re.search(r"`svae/scores/measures/(\w+)\.py`", guide)[1]
    (workflow.folder / f"svae/scores/measures/{name}.py").write_text(module)
    workflow.configure(yaml.safe_load(settings))
    drawn = dict.fromkeys(("charts", "rate_distortion", "summary", "report"), 1)
    assert workflow.planned() == {name: len(VARIANTS), **drawn}

    workflow.run("--cores", "2")
    assert workflow.planned() == {}
    for variant in VARIANTS:
        log = (workflow.folder / f"logs/scores_mnist_5k_{variant}_seed-0.log").read_text()
        measured = re.findall(r": ([^:]+): measured$", log, re.MULTILINE)
        assert measured == ["Total variation"]
        assert log.count(": as it was measured before") == len(MEASURED) - 1
    page = parse((workflow.folder / "results/report.html").read_text())
    (table,) = (t for t in page.all("table") if next(t.all("caption")).text() == "Total variation")
    shown = next(table.all("tbody")).all("tr")
    lines = csv.DictReader((workflow.folder / "results/summary.csv").open())
    for variant, line, row in zip(VARIANTS, lines, shown, strict=True):
        with h5py.File(workflow.folder / f"runs/mnist_5k/{variant}/seed-0/samples.h5") as file:
            x = file["samples"][:]
        expected = np.abs(x[:, 1:] - x[:, :-1]).mean() + np.abs(x[:, :, 1:] - x[:, :, :-1]).mean()
        assert float(line["total_variation"]) == pytest.approx(expected / 2, rel=1e-5)
        assert float(line["total_variation_standard_error"]) > 0
        assert next(row.all("td")).text().startswith(f"{expected / 2:.4f} ± ")


def test_an_export_is_made_on_request_and_again_when_the_users_folder_changes(finished, tmp_path):
    workflow = finished.copy(tmp_path / "copy")
    for name in ("1", "2"):
        picture = tmp_path / "copy/own" / f"{name}.png"
        picture.parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 40), "white").save(picture)
    workflow.configure({"export": {"n_images": 7, "images": "own"}})
    assert "export" not in workflow.planned()
    target = "results/export_low_rank"
    assert workflow.planned(target) == {"export": 1}
    workflow.run(target)
    with h5py.File(workflow.folder / "runs/mnist_5k/low_rank/seed-0/samples.h5") as file:
        samples = to_bytes(file["samples"][:7])[..., 0]
    exported = sorted((workflow.folder / target / "samples").iterdir())
    for sample, path in zip(samples, exported, strict=True):
        difference = np.abs(np.asarray(Image.open(path)).astype(int) - sample)
        assert difference.max() <= 1 and (difference > 0).mean() < 0.01
    assert workflow.planned(target) == {}
    check_that_damage_is_tested(workflow)
    picture.unlink()
    assert workflow.planned(target) == {"export": 1}
    workflow.run(target)
    with h5py.File(workflow.folder / target / "latents.h5") as file:
        assert len(file["images/mean"]) == 1
    workflow.configure({"export": {"n_images": 9}})
    assert workflow.planned(target) == {"export": 1}


def test_distances_in_features(finished, tmp_path):
    """In those of a small network; a file without them shows nothing of them."""
    summary = finished.folder / "results/summary.md"
    page = finished.folder / "results/report.html"
    assert "features" not in summary.read_text()
    assert "Distances in features" not in page.read_text()
    workflow = finished.copy(tmp_path / "copy")
    save_network(workflow.folder / "own.keras", side=7)
    workflow.configure({"feature_distances": {"features": "own.keras", "images": 60}})
    drawn = dict.fromkeys(("charts", "rate_distortion", "summary", "report"), 1)
    rerun = {"features": 1, "feature_distances": len(VARIANTS), **drawn}
    assert workflow.planned() == rerun

    workflow.run("--cores", "2")
    assert workflow.planned() == {}
    check_that_damage_is_tested(workflow)
    page = parse((workflow.folder / "results/report.html").read_text())
    titles = [next(table.all("caption")).text() for table in page.all("table")]
    (table,) = (t for t in page.all("table") if next(t.all("caption")).text() == TITLE)
    assert titles.index(TITLE) > titles.index("Parzen-window log-likelihood")
    shown = {next(row.all("th")).text(): row for row in next(table.all("tbody")).all("tr")}
    rows = "training images", "training images, against other training images"
    linear = [f"linear VAE at the w of {name}" for name in VARIANTS]
    assert {*VARIANTS, *rows, "blurred training images", *linear} <= set(shown)
    lines = csv.DictReader((workflow.folder / "results/summary.csv").open())
    for variant, line in zip(VARIANTS, lines, strict=True):
        file = workflow.folder / f"runs/mnist_5k/{variant}/seed-0/scores/feature_distances.json"
        found = json.loads(file.read_text())
        assert (found["network"], found["n_images"]) == ("own.keras", 60)
        distance = found["frechet_distance"]
        assert float(line["feature_frechet_distance"]) == distance > 0
        assert next(shown[variant].all("td")).text() == f"{distance:.4g}"
        floor = float(line["feature_frechet_distance_floor"])
        assert next(shown["training images"].all("td")).text() == f"{floor:.4g}"
        assert floor < distance
    save_network(workflow.folder / "own.keras", side=14)
    assert workflow.planned() == rerun


def save_network(path, side):
    """Its features are means over squares."""
    images = keras.Input((28, 28, 1))
    means = keras.layers.AveragePooling2D(side)(images)
    keras.Model(images, keras.layers.Flatten()(means)).save(path)


def test_after_a_new_spectrum_no_training_takes_a_step(finished, tmp_path):
    """A newer file with the same content, and another spectrum: the runs stay finished."""
    workflow = finished.copy(tmp_path / "copy")
    spectrum = workflow.folder / "runs/mnist_5k/baselines/spectrum.npz"
    run = "runs/mnist_5k/low_rank/seed-0"
    log = workflow.folder / "logs/train_mnist_5k_low_rank_seed-0.log"

    def record():
        return read_json(workflow.folder / run / "run.json")

    before = record()
    os.utime(spectrum)
    assert workflow.planned(f"{run}/run.json") == {"train": 1}
    workflow.run("--cores", "2", "--", f"{run}/run.json")
    assert record() == before and "is already finished" in log.read_text()
    with np.load(spectrum) as file:
        content = {**file}
    np.savez(spectrum, **{**content, "eigenvalues": 2 * content["eigenvalues"]})
    workflow.run("--cores", "2", "--", f"{run}/run.json")
    after = record()
    assert after["linear_vae"] != before["linear_vae"]
    assert after["weights_sha256"] == before["weights_sha256"]
    assert after["training_seconds"] == before["training_seconds"]


def test_one_score_runs_only_what_it_needs(tmp_path):
    workflow = Workflow(tmp_path)
    one = dict.fromkeys(("convert", "spectrum", "train", "sample", "parzen", "result"), 1)
    assert workflow.planned("results/parzen_low_rank.json") == one


def test_the_same_seed_gives_the_same_bits_for_any_number_of_cores_and_environment(
    finished, tmp_path
):
    """For an equal number of threads: here one."""
    again = Workflow(tmp_path)
    again.configure(SMALL)
    keras = tmp_path / "home/.keras/keras.json"
    keras.parent.mkdir(parents=True)
    keras.write_text(json.dumps(OTHER_KERAS))
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nfigure.facecolor: red\n")
    targets = ("results/parzen_vanilla_matched.json", "results/dataset.png")
    again.run("--cores", "1", *targets, HOME=str(keras.parents[1]), **HOSTILE)
    sheets = [(workflow.folder / targets[1]).read_bytes() for workflow in (finished, again)]
    assert sheets[0] == sheets[1]
    run = "runs/mnist_5k/vanilla_matched/seed-0"
    records = [read_json(workflow.folder / run / "run.json") for workflow in (finished, again)]
    for record in records:
        del record["training_seconds"], record["history_sha256"]  # the history has times
    assert records[0] == records[1]
    for path in ("samples.h5", "final.weights.h5"):
        first, second = (_arrays(workflow.folder / run / path) for workflow in (finished, again))
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first)
    scores = [
        read_json(workflow.folder / "results/parzen_vanilla_matched.json")
        for workflow in (finished, again)
    ]
    assert scores[0] | {"training_seconds": 0} == scores[1] | {"training_seconds": 0}


def _arrays(path):
    arrays = {}
    with h5py.File(path) as file:
        file.visititems(
            lambda name, item: (
                arrays.update({name: item[:]})
                if isinstance(item, h5py.Dataset) and item.shape
                else None
            )
        )
    return arrays


def test_the_snakefile_imports_no_tensorflow(tmp_path):
    code = (
        "import sys; from snakemake.cli import main\n"
        "try: main(['-n', '--quiet'])\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "heavy = {'tensorflow', 'keras', 'h5py', 'matplotlib', 'mlxtend'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))"
    )
    workflow = Workflow(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=workflow.folder,
        env={**os.environ, "PYTHONPATH": str(workflow.folder)},
        text=True,
        capture_output=True,
    )
    assert "heavy: []" in done.stdout, done.stdout + done.stderr
