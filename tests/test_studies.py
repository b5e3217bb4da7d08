"""The configurations of the study, and the programs that run it and write its page."""

import csv
import importlib
import importlib.util
import itertools
import json
import os
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from scipy import stats

from svae.config.resolve import resolve
from svae.config.yaml_file import check_file
from svae.jobs.hdf5 import new_hdf5
from svae.pixels import to_bytes
from svae.report.intervals import compare
from svae.scores.spectrum import Spectrum

STUDIES = Path(__file__).parents[1] / "studies"
DEFAULTS = yaml.safe_load((STUDIES.parent / "config.yaml").read_text(encoding="utf-8"))


sys.path.append(str(STUDIES))  # as in a program, which finds the modules next to it


def program(name):
    spec = importlib.util.spec_from_file_location(f"study_{name}", STUDIES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


run, pages, power = program("run"), program("pages"), program("power")
from_means, closed_form = program("from_means"), program("closed_form")
contrasts = importlib.import_module("contrasts")  # that of pages
markdown_tables = importlib.import_module("markdown_tables")
CONFIGURATIONS = sorted(path.stem for path in STUDIES.glob("*.yaml"))


def merged(base, changes):
    if not isinstance(base, dict) or not isinstance(changes, dict):
        return changes
    return {**base, **{key: merged(base.get(key), value) for key, value in changes.items()}}


@pytest.mark.parametrize(
    ("name", "trainings"),
    [
        ("pilot", 4),
        ("t1", 18),
        ("t2", 21),
        ("t3", 12),
        ("t5", 18),
        ("t6", 18),
        ("e1", 9),
        ("e2", 2),
    ],
)
def test_each_table_has_the_trainings_of_the_page(name, trainings):
    path = STUDIES / f"{name}.yaml"
    check_file(path)
    own = yaml.safe_load(path.read_text(encoding="utf-8"))
    config = resolve(merged(DEFAULTS, own), STUDIES)
    assert len(config.variants) * len(config.seeds) == trainings
    text = (STUDIES.parent / "docs/study.md").read_text(encoding="utf-8")
    title = "P0, pilot" if name == "pilot" else name.upper()
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {title} |")]
    assert row.endswith(f"| {trainings} |")
    # A later change of a default must leave the study as it is.
    for section in ("model", "training"):
        for key in ("dropout", "epochs", "learning_rate", "learning_rate_warmup_epochs"):
            assert key not in DEFAULTS[section] or key in own[section]
    # No picture of a data set gets into the repository with the figures.
    assert name in ("pilot", "e1", "e2") or not config.figure.training_images


def test_every_configuration_is_a_table():
    assert set(CONFIGURATIONS) | {"t0", "t4"} == set(run.TABLES)


def test_archives_that_are_here(tmp_path):
    assert run.sources(None) == []
    with pytest.raises(SystemExit, match="has none of the archives"):
        run.sources(tmp_path)
    (tmp_path / "cifar-10-binary.tar.gz").touch()
    (tmp_path / "img_align_celeba.zip").touch()  # without its partition
    (found,) = run.sources(tmp_path)
    key, _, value = found.partition("=")
    archive = str(tmp_path / "cifar-10-binary.tar.gz")
    assert (key, yaml.safe_load(value)) == ("sources", {"cifar10": {"archive": archive}})


def test_copied_runs_have_their_times_and_nothing_that_follows_from_samples(tmp_path):
    source = tmp_path / "t2"
    kept, left = ["run.json", "final.weights.h5", "measured/a.zip"], ["samples.h5", "scores/a.json"]
    for name in (*kept, *left):
        path = source / "runs/cifar10/naive/seed-0" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        os.utime(path, ns=(10**18, 10**18))
    (source / "data").mkdir()
    (source / "data/cifar10.h5").write_text("store")
    for _ in range(2):
        run.copy_runs(source, tmp_path / "t4/cell")
        folder = tmp_path / "t4/cell/runs/cifar10/naive/seed-0"
        files = [path for path in folder.rglob("*") if path.is_file()]
        assert sorted(str(path.relative_to(folder)) for path in files) == sorted(kept)
        assert (folder / "run.json").stat().st_mtime_ns == 10**18
    assert (tmp_path / "t4/cell/data/cifar10.h5").read_text() == "store"


def test_a_run_becomes_a_row(tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "run.json").write_text('{"variant": "naive", "seed": 2}')
    content = {"log_likelihood": -7.5, "standard_error": 0.25}
    (tmp_path / "scores/parzen.json").write_text(json.dumps(content))
    row = run.of_run(tmp_path / "run.json")
    assert (row["variant"], row["seed"], row["log_likelihood_nats"]) == ("naive", 2, -7.5)
    assert row["log_likelihood_standard_error_nats"] == 0.25
    assert not any(name.startswith("test_") for name in row)


@pytest.mark.parametrize(("seeds", "freedom"), [(3, 10), (5, 20), (5, 4), (3, 2)])
def test_power(seeds, freedom):
    """Of a t-test, in scipy's noncentral t, and of none, whose power is the level."""
    critical = stats.t.ppf(1 - power.LEVEL / 2, freedom)
    for difference in (0, 1.0, 2.0):
        law = stats.nct(freedom, difference * seeds**0.5)
        expected = law.sf(critical) + law.cdf(-critical) if difference else power.LEVEL
        assert power.power(difference, seeds, freedom) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("low", "high", "established", "expected"),
    [
        (20, 60, "True", "established"),
        (-60, -20, "True", "established"),
        (2, 14, "True", "established, and within the smallest effect"),
        (-14, 15, "False", "equivalent"),
        (-14, 15.1, "False", "undecided"),
        (-15.1, 0, "False", "undecided"),
    ],
)
def test_verdicts(low, high, established, expected):
    row = {"lower": str(low), "upper": str(high), "established": established}
    assert contrasts.verdict(row, 15.0) == expected


PARAMETERS = "encoder_parameters"
ELBO, LINEAR = "test_elbo_at_optimal_variance_nats", "linear_vae_optimal_log_density_nats"


def test_the_page_is_made_from_the_files(tmp_path, monkeypatch):
    """Twice the same, between its marks only."""
    monkeypatch.setattr(pages, "STUDY", tmp_path)
    values = {"naive": (1500.0, 1510.0, 1490.0), "naive_dense": (1400.0, 1405.0, 1395.0)}
    values |= {"naive_separable": (1530.0, 1540.0, 1523.0), "vector": (1300.0, 1290.0, 1310.0)}
    folder = tmp_path / "t2"
    folder.mkdir()
    with (folder / "runs.csv").open("w", newline="") as file:
        names = ["variant", "seed", ELBO, ELBO.replace("test", "train"), LINEAR]
        writer = csv.DictWriter(file, [*names, "encoder_parameters"])
        writer.writeheader()
        for variant, elbos in values.items():
            for seed, elbo in enumerate(elbos):
                cells = (variant, seed, elbo, elbo + 20, 1450.0)
                row = dict(zip(names, cells, strict=True))
                writer.writerow({**row, "encoder_parameters": 1000})
    pair = {"measure": "objective.elbo", "variant": "naive", "less": "naive_dense"}
    pair |= {"difference": 100.0, "lower": 80.0, "upper": 120.0, "p_holm": 0.01}
    with (folder / "paired_differences.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*pair, "established"])
        writer.writeheader()
        writer.writerow({**pair, "established": "True"})
    text = "before\n<!-- t2 -->\nold\n<!-- end of t2 -->\nafter\n"
    found = pages.page(text, draw=True)
    assert found == pages.page(found, draw=False)
    assert found.startswith("before\n<!-- t2 -->\n| variant") and found.endswith("t2 -->\nafter\n")
    assert "old" not in found
    deviation = statistics.stdev(values["naive"])
    assert f"| `naive` | 1,500.0 ± {deviation:.1f} | 1,450.0 ± 0.0 |" in found
    assert "| C1: `naive` - `naive_dense` | +100.0 | +80.0 to +120.0 | 0.01 | 15.0 |" in found
    assert "| established | yes |" in found
    each = np.subtract(values["naive"], values["vector"])
    half = stats.t.ppf(0.975, 2) * each.std(ddof=1) / 3**0.5
    low, high = each.mean() - half, each.mean() + half
    expected = f"| 3 | {each.mean():+.1f} | {low:+.1f} to {high:+.1f} | +200, +220, +180 |"
    assert f"| `naive` - `vector` {expected}" in found
    assert (folder / "forest.png").stat().st_size > 10_000
    with pytest.raises(SystemExit, match="no place for t2"):
        pages.page("no marks", draw=False)


def test_the_linear_vaes_are_gaussians(tmp_path, monkeypatch):
    """Their ELBO is the mean log density of the covariance W W^T + v I, by scipy."""
    monkeypatch.setattr(closed_form, "ENTRIES", (2, 4))
    rng = np.random.default_rng(3)
    images = (rng.normal(size=(40, 6)) * [9, 7, 4, 3, 1, 0.5]).astype(np.float32)
    mean = images.mean(axis=0)
    eigenvalues, vectors = np.linalg.eigh(np.cov(images, rowvar=False, ddof=0))
    descending = eigenvalues[::-1].copy(), vectors.T[::-1].astype(np.float32)
    spectrum = Spectrum(mean, *descending, float(eigenvalues.sum()), 40, "")
    found = closed_form.curve(spectrum, (48, 5, 0.5))
    assert [row["latent_entries"] for row in found] == [2] * 4 + [4] * 4
    assert [row["optimal"] for row in found] == ([False] * 3 + [True]) * 2
    for row in found:
        v = row["w"] / 2
        kept = descending[0][: row["latent_entries"]]
        along = np.concatenate([np.maximum(kept, v), np.full(6 - len(kept), v)])
        covariance = (descending[1].T * along) @ descending[1]
        law = stats.multivariate_normal(mean, covariance)
        assert row["elbo_nats"] == pytest.approx(law.logpdf(images).mean(), rel=1e-4)
        assert row["j"] == pytest.approx(row["sse"] + row["w"] * row["kl_nats"])
        # The best variance for so many entries, as of probabilistic principal components.
        elbos = [r["elbo_nats"] for r in found if r["latent_entries"] == row["latent_entries"]]
        assert max(elbos) == elbos[3]
    baselines = {"name": "Gaussian", "n_samples": 7, "log_likelihood": -3.0, "standard_error": 0.5}
    (tmp_path / "baselines.json").write_text(
        json.dumps({"rows": [{**baselines, "sigma": 0.1, "other": []}]})
    )
    rows = closed_form.sanity_rows(tmp_path / "baselines.json")
    for dataset in closed_form.DATASETS:
        from_means.write(tmp_path / f"t0/{dataset}.csv", found)
        from_means.write(tmp_path / f"t0/{dataset}_rows.csv", rows)
    monkeypatch.setattr(pages, "STUDY", tmp_path)
    page = pages.section("t0", draw=False)
    assert page.count(", the best |") == 4 and "| celeba | Gaussian | 7 | -3.0 ± 0.5 |" in page


def test_differences_from_means_are_those_of_the_report(tmp_path):
    """Where an image has the same effect in every run of a variant, one run shows all of it."""
    rng = np.random.default_rng(5)
    variants, pairs = ("mvn", "naive", "vector"), [("mvn", "naive"), ("naive", "vector")]
    of_seeds, of_images = rng.normal(0, 3, (3, 3)), rng.normal(0, 40, (3, 60))
    values = {
        variant: of_seeds[k][:, None] + of_images[k] + 100 * k for k, variant in enumerate(variants)
    }
    for variant, arrays in values.items():
        for seed in (0, 1):
            folder = tmp_path / f"study/runs/celeba/{variant}/seed-{seed}/scores"
            folder.mkdir(parents=True)
            np.savez(
                folder / "objective_per_image.npz",
                **dict.fromkeys(("j", "elbo", "sse", "kl"), arrays[seed]),
            )
    columns = [column for _, column, _ in from_means.MEASURES]
    means = [
        {"variant": name, "seed": seed, "n_test": 60, **dict.fromkeys(columns, array.mean())}
        | dict.fromkeys(map(from_means.error_of, columns), array.std(ddof=1) / 60**0.5)
        for name, arrays in values.items()
        for seed, array in enumerate(arrays)
    ]
    from_means.write(tmp_path / "runs.csv", means[::-1])
    single = from_means.image_errors(tmp_path / "study", pairs)
    from_means.write(tmp_path / "image_errors.csv", single)
    found = from_means.table(tmp_path, pairs)
    assert [row["measure"] for row in found[::2]] == [name for name, _, _ in from_means.MEASURES]
    for row, expected in zip(found[:2], compare(values, pairs), strict=True):
        assert (row["variant"], row["less"]) == (expected.first, expected.second)
        assert row["established"] == expected.established
        numbers = ("difference", "standard_error", "degrees_of_freedom", "p", "p_holm")
        for name in numbers:
            assert row[name] == pytest.approx(getattr(expected, name))
        assert (row["lower"], row["upper"]) == pytest.approx(expected.deciding_interval)
    assert from_means.means_of_seeds(
        [
            {"variant": "mvn", "seed": "0", "text": "disjoint", "a": "1", "b": ""},
            {"variant": "naive", "seed": "0", "text": "disjoint", "a": "7", "b": ""},
            {"variant": "mvn", "seed": "1", "text": "disjoint", "a": "2", "b": "5"},
        ]
    ) == [{"variant": "mvn", "a": 1.5, "b": 5}, {"variant": "naive", "a": 7, "b": None}]
    # Without values of single images: two independent means.
    (tmp_path / "image_errors.csv").unlink()
    apart = from_means.table(tmp_path, pairs)[0]["standard_error_over_images"]
    assert apart**2 == pytest.approx(of_images[:2].var(axis=1, ddof=1).sum() / 60)
    # What an image does in a single run only makes the intervals wider.
    values["naive"] = values["naive"] + rng.normal(0, 40, values["naive"].shape)
    errors = {pair: np.std(values[pair[0]][0] - values[pair[1]][0]) / 60**0.5 for pair in pairs}
    wide = from_means.differences({k: v.mean(axis=1) for k, v in values.items()}, errors, 60)
    for row, expected in zip(wide, compare(values, pairs), strict=True):
        assert row["upper"] - row["lower"] > np.ptp(expected.deciding_interval)


def test_differences_between_two_tables(tmp_path, monkeypatch):
    """The variance is the residual of the two-way layout of both tables, here by least squares."""
    pairs = (("isotropic", "naive"), ("mvn_dense", "mvn"))
    monkeypatch.setattr(contrasts, "WITH_T2", pairs)
    t2 = {"mvn": (90.0, 110.0, 85.0), "naive": (70.0, 71.0, 60.0), "low_rank": (10.0, 31.0, 4.0)}
    t6 = {"mvn_dense": (150.0, 175.0, 151.0), "isotropic": (70.0, 79.0, 58.0)}
    for table, variants in (("t2", t2), ("t6", t6)):
        (tmp_path / table).mkdir()
        with (tmp_path / table / "runs.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["variant", "seed", ELBO])
            for variant, values in variants.items():
                writer.writerows((variant, seed, value) for seed, value in enumerate(values))
    runs, of_t2 = (pages.rows(tmp_path / table / "runs.csv") for table in ("t6", "t2"))
    differences = contrasts.differences_from_t2(runs, of_t2, "elbo")
    pages.write(tmp_path / "t6/differences.csv", differences)
    differences = pages.rows(tmp_path / "t6/differences.csv")
    found = markdown_tables.with_t2_table(differences, of_t2, "elbo")
    values = {**t2, **t6}
    design = np.array(
        [[*np.eye(5)[k], *np.eye(3)[seed][1:]] for k in range(5) for seed in range(3)]
    )
    _, (square,), _, _ = np.linalg.lstsq(design, np.array([*values.values()]).ravel(), rcond=None)
    for line, (pair, by_seed, said) in zip(
        found[2:],
        ((pairs[0], "+0, +8, -2", "equivalent"), (pairs[1], "+60, +65, +66", "established")),
        strict=True,
    ):
        middle = np.subtract(*(np.mean(values[name]) for name in pair))
        low, high = stats.t.interval(1 - 0.05 / 2, 8, middle, np.sqrt(square / 8 * 2 / 3))
        assert line == (
            f"| `{pair[0]}` - `{pair[1]}` | {middle:+.1f} | {low:+.1f} to {high:+.1f} | {by_seed} "
            f"| 15.0 | {said} |"
        )


def test_the_follow_ups(tmp_path, monkeypatch):
    """Over the seeds of both tables, by the formula of a t-interval; by epochs, a run each."""
    monkeypatch.setattr(pages, "STUDY", tmp_path)
    elbos = {
        "t2": {"naive": (10.0, 20.0, 33.0), "naive_dense": (5.0, 25.0, 20.0), "mvn": (9, 21, 30)},
        "e1": {"naive": (11.0,), "naive_dense": (8.5,), "mvn": (14.0,)},
        "e2": {"naive": (1010.0,), "naive_dense": (990.0,)},
    }
    for table, variants in elbos.items():
        (tmp_path / table).mkdir()
        with (tmp_path / table / "runs.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["variant", "seed", ELBO, LINEAR])
            for variant, values in variants.items():
                for seed, value in enumerate(values, start=3 * (table == "e1")):
                    writer.writerow([variant, seed, value, 2000])
    more = pages.section("e1", draw=False)
    each = np.subtract([10, 20, 33, 11], [5, 25, 20, 8.5])
    half = stats.t.ppf(0.975, 3) * each.std(ddof=1) / 2
    low, high = each.mean() - half, each.mean() + half
    assert f"| 4 | {each.mean():+.1f} | {low:+.1f} to {high:+.1f} | +5, -5, +13, +2 |" in more
    longer = pages.section("e2", draw=False)
    assert "| `naive` | 10.0 | 1,010.0 | +1,000.0 | 2,000.0 |" in longer
    assert "| `naive_dense` | 5.0 | 990.0 | +985.0 | 2,000.0 |" in longer


def test_the_table_of_samples(tmp_path, monkeypatch):
    """A column for each cell; a run that is missing counts for nothing."""
    monkeypatch.setattr(pages, "STUDY", tmp_path)
    columns = [column for _, column, _ in pages.OF_SAMPLES]
    for number, cell in enumerate(pages.prior_hole.CELLS):
        folder = tmp_path / "t4" / cell
        folder.mkdir(parents=True)
        with (folder / "runs.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["variant", "seed", *columns])
            writer.writerow(["naive", 0, -1000 - number, 2 + number, 300.0 + number])
            if number < 2:
                writer.writerow(["naive", 1, -1010 - number, 4 + number, 300.0 + number])
    found = pages.section("t4", draw=False).splitlines()
    parzen, wasserstein, frechet = (line for line in found if line.startswith("| `naive` |"))
    assert parzen.startswith("| `naive` | -1,005 ± 7 | -1,006 ± 7 | -1,002 | -1,003 |")
    assert wasserstein.startswith("| `naive` | 3.00 ± 1.41 | 4.00 ± 1.41 | 4.00 | 5.00 |")
    assert frechet.endswith("| 304 | 305 |")
    assert found[2].count("|") == 8 and "mixture of 50, statistics of samples" in found[2]
    assert not any("Exploratory" in line for line in found)
    (tmp_path / "t4/gaussian_prior/runs.csv").unlink()
    fewer = pages.section("t4", draw=False).splitlines()
    assert fewer[2].count("|") == 7 and "Gaussian, statistics of samples" not in fewer[2]


def test_differences_of_samples(tmp_path, monkeypatch):
    """Of the cells with several seeds; by scipy's mean and standard error."""
    monkeypatch.setattr(pages, "STUDY", tmp_path)
    columns = [column for _, column, _ in pages.OF_SAMPLES]
    values = {"naive": (2300, 2250, 2240), "naive_dense": (1930, 1935, 1840)}
    for number, cell in enumerate(pages.prior_hole.CELLS):
        (tmp_path / "t4" / cell).mkdir(parents=True)
        with (tmp_path / "t4" / cell / "runs.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["variant", "seed", *columns])
            for variant, of_seeds in values.items():
                for seed, value in enumerate(of_seeds[: 3 if number in (0, 4) else 1]):
                    writer.writerow([variant, seed, value, value / 20, value])
    found = pages.section("t4", draw=False).splitlines()
    (title,) = [line for line in found if line.startswith("| measure |")]
    shown = [label for label in found[2].split(" | ")[1:] if label.strip(" |") in title]
    assert len(shown) == 2 and title.count("|") == 4
    each = np.subtract(values["naive"], values["naive_dense"])
    low, high = stats.t.interval(0.95, 2, each.mean(), stats.sem(each))
    frechet = f"{each.mean():+,.0f} ({low:+,.0f} to {high:+,.0f})"
    assert f"{frechet} | {frechet} |" in "\n".join(found)


def shades_of(figure):
    """The grey levels of the images in the last column, from the top; white is paper or text."""
    with Image.open(figure) as image:
        column = np.asarray(image.convert("L"))[:, -60]
    found = [level for level, group in itertools.groupby(column) if len(list(group)) > 100]
    return [level for level in found if level < 255]


def test_the_figure_of_samples(tmp_path):
    """A row for each variant and cell, whose images differ as the files do; a variant that lacks
    samples in a cell has none."""
    cells = list(pages.prior_hole.CELLS)
    folders = {cell: tmp_path / cell for cell in cells}
    levels = np.linspace(-1, 1, len(cells) * len(pages.prior_hole.SHOWN), dtype=np.float32)
    values = iter(levels)
    for variant in pages.prior_hole.SHOWN:
        for folder in folders.values():
            path = folder / f"runs/cifar10/{variant}/seed-0/samples.h5"
            path.parent.mkdir(parents=True)
            with new_hdf5(path) as file:
                file.add("samples", np.full((12, 32, 32, 3), next(values)))
    expected = to_bytes(levels).tolist()
    pages.prior_hole.draw(folders, 18, tmp_path / "figure.png")
    assert shades_of(tmp_path / "figure.png") == [value for value in expected if value < 255]
    (tmp_path / cells[-1] / "runs/cifar10/low_rank/seed-0/samples.h5").unlink()
    pages.prior_hole.draw(folders, 18, tmp_path / "figure.png")
    assert shades_of(tmp_path / "figure.png") == expected[: -len(cells)]


def test_the_page_is_what_the_files_say():
    text = pages.PAGE.read_text(encoding="utf-8")
    assert pages.page(text, draw=False) == text
