"""The tables: one row a variant, the numbers of the files, paired differences."""

import csv

import numpy as np
import pytest
import scipy.stats

from svae.errors import UserError
from svae.files import write_json
from svae.summary import paired_difference, summarise

TERMS = {
    "kl_nats_per_image": 4.25,
    "sse_per_image": 100.5,
    "mse_per_pixel": 0.125,
    "active_entries": 7,
    "latent_entries": 36,
    "active_maps": 3,
    "latent_maps": 4,
}


def write(folder, names, note="", edge=False, **run):
    rng = np.random.default_rng(0)
    paths = {"scores": [], "per_image": [], "records": []}
    for index, name in enumerate(names):
        values = rng.normal(-100 + index, 5, 40)
        np.savez(folder / f"{name}.npz", log_likelihood=values)
        result = {
            "variant": name,
            "log_likelihood": values.mean(),
            "standard_error": scipy.stats.sem(values),
            "bits_per_dim": 8.5,
            "sigma": 0.25,
            "sigma_at_grid_edge": edge,
            "kl_weight": 5.5,
            "equivalent_variance_at_unit_beta": 2.75,
            "equivalent_beta_at_unit_variance": 2.75,
            "decoder_variance": None,
            "n_samples": 1000,
            "n_valid": 20,
            "n_test": 40,
            "protocol": "disjoint",
            "dataset": "waves",
            "dataset_checksum": "abc",
            "dataset_source_note": note,
            "batch_norm": "moving",
        }
        record = {
            "settings": {"posterior": "naive"},
            "test": TERMS,
            "parameters": 12345,
            "training_seconds": 6.7,
            "epochs": 30,
            "epochs_trained": 30,
            "weights_of_epoch": 30,
            "early_stopped": False,
            "warnings": [],
            "objective": "weighted",
            "seed": 0,
            **run,
        }
        for kind, content in (("scores", result), ("records", record)):
            write_json(folder / f"{name}-{kind}.json", content)
            paths[kind].append(folder / f"{name}-{kind}.json")
        paths["per_image"].append(folder / f"{name}.npz")
    summarise(names, csv=folder / "s.csv", markdown=folder / "s.md", **paths)
    rows = list(csv.DictReader((folder / "s.csv").open()))
    return rows, (folder / "s.md").read_text()


@pytest.mark.parametrize("names", [["naive", "vanilla", "own"], ["own", "mvn"]])
def test_rows(tmp_path, names):
    rows, text = write(tmp_path, names)
    assert [row["variant"] for row in rows] == names
    reference = "vanilla" if "vanilla" in names else "own"
    base = np.load(tmp_path / f"{reference}.npz")["log_likelihood"]
    for row in rows:
        values = np.load(tmp_path / f"{row['variant']}.npz")["log_likelihood"]
        assert float(row["log_likelihood_nats"]) == pytest.approx(values.mean())
        assert float(row["paired_difference_nats"]) == pytest.approx(values.mean() - base.mean())
        expected = scipy.stats.sem(values - base)
        assert float(row["paired_standard_error_nats"]) == pytest.approx(expected)
        assert row["reference"] == reference
        assert (row["active_entries"], row["parameters"]) == ("7", "12345")
        line = next(part for part in text.splitlines() if part.startswith(f"| {row['variant']} |"))
        for shown in (f"{values.mean():.1f} ± {scipy.stats.sem(values):.1f}", "4.25", "12,345"):
            assert shown in line
        assert (row["epochs"], row["epochs_trained"], row["weights_of_epoch"]) == ("30",) * 3
        assert row["warnings"] == ""
    assert f"difference to {reference}" in text
    assert "early stopping" not in text
    assert "cover the choice of test images alone" in text and "not yet established" in text
    assert "Warning" not in text


def test_warnings(tmp_path):
    _, text = write(tmp_path, ["vanilla"], note="own.tar.gz differs", edge=True)
    assert "**Warning:** own.tar.gz differs" in text
    assert "**Warning:** sigma lies at the edge of its grid for vanilla" in text


def test_warnings_of_runs(tmp_path):
    found = ["posterior collapse: no map is active", "dead run: nothing is learned"]
    rows, text = write(tmp_path, ["vanilla", "own"], warnings=found)
    for row in rows:
        assert row["warnings"] == "; ".join(found)
        for warning in found:
            assert f"\n\n**Warning:** {row['variant']}: {warning}.\n" in text


def test_runs_that_ended_early(tmp_path):
    rows, text = write(
        tmp_path, ["vanilla", "own"], epochs_trained=17, weights_of_epoch=12, early_stopped=True
    )
    assert [(row["epochs_trained"], row["weights_of_epoch"]) for row in rows] == [("17", "12")] * 2
    for name in ("vanilla", "own"):
        assert f"{name} after 17 epochs (weights of epoch 12)" in text


def test_elbo_has_a_column(tmp_path):
    _, text = write(
        tmp_path, ["vanilla"], objective="elbo", test=TERMS | {"elbo_nats_per_image": -321.25}
    )
    assert "ELBO (nats)" in text and "-321.2" in text


def test_only_equal_numbers_of_images_are_paired():
    with pytest.raises(UserError, match="40 and of 39"):
        paired_difference(np.zeros(40), np.zeros(39))
