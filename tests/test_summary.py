"""The tables: one row per variant, the numbers in the files, paired differences."""

import csv
import json

import numpy as np
import pytest
import scipy.stats
from helpers.reports import ATTRIBUTES, LICENSE, NO_VARIANCE, make_arguments

from svae.errors import UserError
from svae.jobs.files import read_json, write_json
from svae.report.intervals import compare
from svae.report.summary import summarise

PARZEN = "parzen.log_likelihood"


def write(folder, names, seeds=(0,), attributes=ATTRIBUTES, **changes):
    files = make_arguments(folder, names, seeds, **changes)["files"]
    targets = {"csv": folder / "s.csv", "markdown": folder / "s.md", "pairs": folder / "p.csv"}
    summarise(files, attributes, LICENSE, **targets)
    rows = list(csv.DictReader(targets["csv"].open()))
    pairs = list(csv.DictReader(targets["pairs"].open()))
    return rows, pairs, targets["markdown"].read_text(), files


def per_image(files, name, measure=PARZEN):
    """float64 (n_seeds, n_test)."""
    score, array = measure.split(".")
    paths = [path for path in files.per_image[score] if path.parents[2].name == name]
    return np.array([np.load(path)[array] for path in paths])


def entries(paths, name, key):
    """One number for every seed of a variant."""
    found = []
    for path in [path for path in paths if f"/{name}/" in path.as_posix()]:
        value = json.loads(path.read_text())
        for part in key.split("."):
            value = value[part]
        found.append(value)
    return found


def line_of(text, name):
    """The first row of a table that starts with this name."""
    return next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))


@pytest.mark.parametrize("seeds", [(0,), (0, 1, 5)], ids=["one seed", "three seeds"])
@pytest.mark.parametrize("names", [["naive", "vanilla", "own"], ["own", "mvn"]])
def test_rows(tmp_path, names, seeds):
    rows, pairs, text, files = write(tmp_path, names, seeds)
    assert [row["variant"] for row in rows] == names
    for row in rows:
        name, values = row["variant"], per_image(files, row["variant"])
        means = values.mean(axis=1)
        j, elbo = (per_image(files, name, f"objective.{x}") for x in ("j", "elbo"))
        expected = {
            "log_likelihood_nats": means.mean(),
            "log_likelihood_standard_error_nats": scipy.stats.sem(values.mean(axis=0)),
            "test_j": j.mean(),
            "test_j_standard_error": scipy.stats.sem(j.mean(axis=0)),
            "test_elbo_at_optimal_variance_nats": elbo.mean(),
        }
        for column, (paths, key) in {
            "sigma": (files.scores["parzen"], "sigma"),
            "spread_over_fresh_draws_nats": (
                files.scores["parzen"],
                "fresh_draws.standard_deviation",
            ),
            "test_sse_posterior_mean": (files.records, "test.sse_per_image_posterior_mean"),
            "test_kl_median_nats": (files.records, "test.kl_nats_median"),
            "saturated_share_of_reconstructions": (files.records, "test.saturated_share"),
            "saturated_share_of_samples": (files.records, "samples.saturated_share"),
            "active_entries": (files.records, "test.active_entries"),
            "parameters": (files.records, "parameters"),
            "memorisation_share_of_samples_standard_error": (
                files.scores["memorisation"],
                "share_of_samples_standard_error",
            ),
            "sliced_wasserstein_floor": (files.scores["sliced_wasserstein"], "floor_mean"),
            "linear_vae_log_likelihood_nats": (files.scores["linear_vae"], "parzen.log_likelihood"),
        }.items():
            expected[column] = np.mean(entries(paths, name, key))
        expected["test_kl_largest_nats"] = max(entries(files.records, name, "test.kl_nats_largest"))
        assert row["spikes"] == "0"
        for column, value in expected.items():
            assert float(row[column]) == pytest.approx(value, rel=1e-9, abs=1e-12), column
        if len(seeds) > 1:
            spread = float(row["log_likelihood_spread_over_seeds_nats"])
            assert spread == pytest.approx(means.std(ddof=1))
            spread = float(row["test_j_spread_over_seeds"])
            assert spread == pytest.approx(j.mean(axis=1).std(ddof=1))
        else:
            assert row["log_likelihood_spread_over_seeds_nats"] == ""
            assert row["active_entries"].isdecimal()
        assert row["seeds"] == " ".join(map(str, seeds))
        assert row["importance_weighted_bound_nats"] == "" and row["warnings"] == ""
        score, error = expected["test_j"], expected["test_j_standard_error"]
        assert f"{score:.1f} ± {error:.1f}" in line_of(text, name)
    found = {}
    for pair in pairs:
        found.setdefault(pair["measure"], {})[pair["variant"], pair["less"]] = pair
    against_first = [(name, names[0]) for name in names[1:]]
    assert list(found.pop("objective.j")) == (
        [("own", "naive")] if "naive" in names else against_first
    )
    assert set(found) == {"objective.elbo", "objective.sse", "objective.kl", PARZEN}
    for measure, compared in found.items():
        assert list(compared) == against_first
        values = {name: per_image(files, name, measure) for name in names}
        for expected in compare(values):
            pair = compared[expected.first, expected.second]
            assert float(pair["difference"]) == pytest.approx(expected.difference)
            error = scipy.stats.sem((values[expected.first] - values[names[0]]).mean(axis=0))
            assert float(pair["standard_error_over_images"]) == pytest.approx(error)
            assert pair["established"] == str(expected.established)
            if len(seeds) == 1:
                assert pair["lower"] == pair["p_holm"] == pair["standard_error"] == ""
            else:
                assert float(pair["lower"]) == pytest.approx(expected.deciding_interval[0])
                assert float(pair["p_holm"]) == pytest.approx(expected.p_holm)
    assert ("Nothing is established: with one seed" in text) == (len(seeds) == 1)
    assert "Warning" not in text and NO_VARIANCE in text
    assert ATTRIBUTES["checksum"] in text and LICENSE in text


def test_sanity_rows_and_the_linear_vae(tmp_path):
    _, _, text, files = write(tmp_path, ["vanilla", "low_rank"])
    rows = json.loads(files.baselines.read_text())["rows"]
    for row in rows:
        line = next(x for x in text.splitlines() if x.startswith(f"| {row['name']} |"))
        assert f"{row['log_likelihood']:.1f} ± {row['standard_error']:.1f}" in line
        assert row["meaning"] in line
    for name in ("vanilla", "low_rank"):
        (predicted,) = entries(files.scores["linear_vae"], name, "kl_nats_per_image")
        (measured,) = entries(files.records, name, "test.kl_nats_per_image")
        assert any(
            f"| {predicted:.2f} | {measured:.2f} |" in line
            for line in text.splitlines()
            if line.startswith(f"| `{name}` |")
        )


def test_one_variant_has_no_pairs(tmp_path):
    rows, pairs, text, _ = write(tmp_path, ["mvn"])
    assert len(rows) == 1 and pairs == [] and "## Differences" not in text


def test_warnings(tmp_path):
    found = ["posterior collapse: no map is active", "dead run: nothing is learned"]
    rows, _, text, _ = write(
        tmp_path,
        ["vanilla", "own"],
        attributes=ATTRIBUTES | {"source_note": "own.tar.gz differs"},
        records={"warnings": found},
        parzen={"sigma_at_grid_edge": True},
    )
    for row in rows:
        assert row["warnings"] == "; ".join(found) and row["sigma_at_grid_edge"] == "True"
        for warning in found:
            assert f"\n\n**Warning:** `{row['variant']}`: {warning}.\n" in text
        assert f"\n\n**Warning:** `{row['variant']}`: sigma = " in text
    assert "\n\n**Warning:** own.tar.gz differs." in text


def test_spikes_are_counted(tmp_path):
    rows, *_ = write(tmp_path, ["vanilla"], (0, 1), records={"spikes": [{"epoch": 2}, {}]})
    assert rows[0]["spikes"] == "4"


def test_warnings_of_variants_other_than_the_best_are_referenced(tmp_path):
    *_, text, files = write(tmp_path, ["vanilla", "own", "mvn"])
    assert "There are warnings" not in text
    record = read_json(files.records[0]) | {"warnings": ["not converged: it falls"]}
    write_json(files.records[0], record)
    targets = {name: tmp_path / name for name in ("csv", "markdown", "pairs")}
    summarise(files, ATTRIBUTES, LICENSE, **targets)
    text = targets["markdown"].read_text()
    answer = text[: text.index("**Warning")]
    assert "There are warnings about `vanilla`, below; the ranking does not take them" in answer
    assert "**Warning:** `vanilla`: not converged: it falls." in text


def test_elbo_has_columns_and_a_bound(tmp_path):
    rows, _, text, files = write(tmp_path, ["vanilla"], objective="elbo")
    (elbo,) = entries(files.records, "vanilla", "test.elbo_nats_per_image")
    (bound,) = entries(files.scores["importance_weighted_bound"], "vanilla", "log_likelihood")
    assert "ELBO (nats)" in text and f"{elbo:.1f}" in text and f"{bound:.1f} ± " in text
    assert float(rows[0]["test_elbo_nats"]) == pytest.approx(elbo)
    assert float(rows[0]["importance_weighted_bound_nats"]) == pytest.approx(bound)


def test_a_bar_in_a_text_does_not_split_a_cell(tmp_path):
    rows = [{"name": "a|b", "meaning": "c|d", "n_fitted": 1, "n_samples": 2}]
    rows[0] |= {"log_likelihood": -1.0, "standard_error": 0.5, "sigma": 0.2}
    _, _, text, _ = write(tmp_path, ["vanilla"], baselines={"rows": rows})
    line = next(x for x in text.splitlines() if x.startswith(r"| a\|b |"))
    assert line.replace(r"\|", "").count("|") == 8


def test_only_equal_numbers_of_images_are_paired(tmp_path):
    files = make_arguments(tmp_path, ["vanilla", "own"])["files"]
    np.savez(files.per_image["parzen"][1], log_likelihood=np.zeros(39))
    with pytest.raises(UserError, match="39"):
        summarise(
            files,
            ATTRIBUTES,
            LICENSE,
            csv=tmp_path / "s.csv",
            markdown=tmp_path / "s.md",
            pairs=tmp_path / "p.csv",
        )
    assert not (tmp_path / "s.csv").exists()
