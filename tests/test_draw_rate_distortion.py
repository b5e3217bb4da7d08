"""The rule's three files agree with the runs' files, and the page shows the families."""

import csv
import json
import math
from decimal import Decimal

import matplotlib.image
import numpy as np
import pytest
from helpers import stores
from helpers.pages import parse
from helpers.reports import make_arguments
from helpers.spectra import make_images, make_spectrum

from svae.errors import UserError
from svae.jobs.files import write_json
from svae.report import draw_rate_distortion
from svae.report.page import write
from svae.scores.linear_vae_curve import coordinates, expected

TRAIN, TEST = make_images(200, 1), make_images(50, 2)
WEIGHTS = {"a_w0.4": 0.4, "a_w0.1": 0.1, "a_w0.02": 0.02, "plain": 0.1}
FAMILIES = {"a": ["a_w0.4", "a_w0.1", "a_w0.02"]}
SPECTRUM = make_spectrum(TRAIN)


def arguments(folder, seeds=(0, 3), families=FAMILIES, lost=None):
    """Files of runs that are linear VAEs with 3 entries, with 1.1^(1 + seed) times their SSE."""
    splits = {"train": TRAIN, "valid": TEST[:9], "test": TEST}
    attributes = {"dataset": "waves", "title": "Waves", "padding": 0}
    checksum = stores.write(folder / "waves.h5", splits, attributes)["checksum"]
    make_spectrum(TRAIN, checksum=checksum).save(folder / "spectrum.npz")
    found = {"records": [], "objectives": [], "per_image": []}
    for name, w in WEIGHTS.items():
        kl, sse = coordinates(SPECTRUM, TEST, 3).terms(w)
        train_kl, train_sse = expected(SPECTRUM, 3).terms(w)
        for seed in seeds:
            run = folder / f"{name}/seed-{seed}"
            run.mkdir(parents=True)
            write_json(run / "run.json", {"kl_weight": w, "test": {"latent_entries": 3}})
            train = {"kl": train_kl, "sse": train_sse * 1.1 ** (1 + seed)}
            values = np.full(50, np.nan) if name == lost else sse * 1.1 ** (1 + seed)
            write_json(run / "o.json", {"train": {} if name == lost else train})
            np.savez(run / "o.npz", j=values, elbo=values, sse=values, kl=kl)
            for key, file in zip(found, ("run.json", "o.json", "o.npz"), strict=True):
                found[key].append(run / file)
    return {
        "store": folder / "waves.h5",
        "spectrum": folder / "spectrum.npz",
        "variants": list(WEIGHTS),
        "seeds": list(seeds),
        "families": families,
        **found,
        "figure": folder / "rates.png",
        "table": folder / "rates.csv",
        "summary": folder / "rates.json",
    }


def drawn(folder, **changes):
    made = arguments(folder, **changes)
    draw_rate_distortion.draw(**made)
    rows = list(csv.DictReader(made["table"].open()))
    return rows, json.loads(made["summary"].read_text()), made


def test_a_row_for_each_run(tmp_path):
    rows, _, made = drawn(tmp_path)
    assert [(row["variant"], row["seed"]) for row in rows] == [
        (name, seed) for name in WEIGHTS for seed in "03"
    ]
    assert [row["family"] for row in rows] == [*6 * ["a"], "", ""]
    for row, path in zip(rows, made["per_image"], strict=True):
        assert float(row["kl_weight"]) == WEIGHTS[row["variant"]]
        assert row["latent_entries"] == "3"
        values = np.load(path)
        for array, column in (("kl", "test_rate{}_nats"), ("sse", "test_sse{}")):
            assert float(row[column.format("")]) == pytest.approx(values[array].mean())
            error = values[array].std(ddof=1) / math.sqrt(50)
            assert float(row[column.format("_standard_error")]) == pytest.approx(error)
        ratio = (1 + int(row["seed"])) * math.log(1.1)
        assert float(row["test_log_ratio_to_linear_vae"]) == pytest.approx(ratio, rel=1e-4)
        assert float(row["train_log_ratio_to_linear_vae"]) == pytest.approx(ratio, rel=1e-4)
    assert matplotlib.image.imread(made["figure"]).shape[1] == 2000


def test_an_entry_for_each_family(tmp_path):
    rows, summary, _ = drawn(tmp_path)
    (family,) = summary["families"]
    assert (family["name"], family["variants"]) == ("a", FAMILIES["a"])
    each = [math.log(1.1), 4 * math.log(1.1)]
    assert family["mean_log_ratio_by_seed"] == pytest.approx(each, rel=1e-4)
    assert family["mean_log_ratio"] == pytest.approx(np.mean(each), rel=1e-4)
    error = np.std(each, ddof=1) / math.sqrt(2)
    assert family["mean_log_ratio_standard_error_over_seeds"] == pytest.approx(error, rel=1e-4)
    ends = [float(row["test_rate_nats"]) for row in rows if row["variant"] in FAMILIES["a"]]
    assert summary["lowest_common_rate_nats"] == pytest.approx(min(ends))
    assert summary["highest_common_rate_nats"] == pytest.approx(max(ends))
    assert summary["common_rate_nats"] == pytest.approx(math.sqrt(min(ends) * max(ends)))
    reached = coordinates(SPECTRUM, TEST, 3).mean().distortion_at(summary["common_rate_nats"])
    assert family["sse_by_seed"] == pytest.approx([1.1 * reached, 1.1**4 * reached], rel=1e-4)


def test_the_figure_gets_the_values(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(draw_rate_distortion, "rate_distortion", lambda *given: calls.append(given))
    monkeypatch.setattr(draw_rate_distortion, "save", lambda *given: None)
    rows, summary, _ = drawn(tmp_path)
    ((groups, curves, common, title),) = calls
    assert list(groups) == ["a", "plain"]
    assert [len(group.variants) for group in groups.values()] == [3, 1]
    dots = [dot for group in groups.values() for each in group.variants for dot in each]
    for dot, row in zip(dots, rows, strict=True):
        assert (dot.weight, dot.rate, dot.sse, dot.log_ratio, dot.standard_error) == tuple(
            float(row[column])
            for column in (
                "kl_weight",
                "test_rate_nats",
                "test_sse",
                "test_log_ratio_to_linear_vae",
                "test_log_ratio_to_linear_vae_standard_error",
            )
        )
    (family,) = summary["families"]
    assert groups["a"].mean == family["mean_log_ratio"]
    assert groups["a"].error == family["mean_log_ratio_standard_error_over_seeds"]
    assert groups["plain"].mean is None
    ((entries, (shown_rates, shown_sse)),) = curves.items()
    linear = coordinates(SPECTRUM, TEST, 3).mean()
    assert entries == 3
    assert shown_sse == pytest.approx([linear.distortion_at(rate) for rate in shown_rates])
    assert shown_rates[0] > max(dot.rate for dot in dots)
    assert 0 < shown_rates[-1] < min(dot.rate for dot in dots)
    assert common == (summary["lowest_common_rate_nats"], summary["highest_common_rate_nats"])
    assert title == "Waves: rate and distortion of test images (seeds 0, 3)"


def test_one_seed_has_an_error_over_images_only(tmp_path):
    _, summary, _ = drawn(tmp_path, seeds=(0,))
    (family,) = summary["families"]
    assert family["mean_log_ratio_standard_error_over_seeds"] is None
    assert family["sse_standard_error_over_images"] > 0


def test_without_families_there_are_only_points(tmp_path):
    rows, summary, _ = drawn(tmp_path, families={})
    assert summary["families"] == [] and summary["common_rate_nats"] is None
    assert len(rows) == 8 and {row["family"] for row in rows} == {""}


def test_a_run_that_is_not_finite_leaves_the_others(tmp_path):
    rows, summary, made = drawn(tmp_path, lost="a_w0.1")
    empty = [row["variant"] for row in rows if not row["test_log_ratio_to_linear_vae"]]
    assert empty == ["a_w0.1", "a_w0.1"]
    assert summary["families"][0]["mean_log_ratio"] == pytest.approx(2.5 * math.log(1.1), rel=1e-4)
    assert made["figure"].exists()


def test_files_of_other_images_are_refused(tmp_path):
    made = arguments(tmp_path)
    SPECTRUM.save(tmp_path / "other.npz")
    with pytest.raises(UserError, match="other images than"):
        draw_rate_distortion.draw(**{**made, "spectrum": tmp_path / "other.npz"})
    path = made["per_image"][3]
    np.savez(path, **{name: values[:9] for name, values in np.load(path).items()})
    with pytest.raises(UserError, match=r"o\.npz has values of 9 images, but .* 50 test"):
        draw_rate_distortion.draw(**made)


# The page


def page_of(folder, summary, **changes):
    (folder / "page").mkdir()
    files = make_arguments(folder / "page", **changes)
    write(folder / "report.html", **files, rates=summary)
    return parse((folder / "report.html").read_text(encoding="utf-8"))


@pytest.mark.parametrize("seeds", [(0,), (0, 3)])
def test_the_page_has_a_table_of_families(tmp_path, seeds):
    _, summary, made = drawn(tmp_path, seeds=seeds)
    page = page_of(tmp_path, made["summary"])
    (table,) = (t for t in page.all("table") if "Families" in next(t.all("caption")).text())
    (row,) = next(table.all("tbody")).all("tr")
    assert len(list(next(table.all("thead")).all("th"))) == (5 if len(seeds) > 1 else 3)
    shown = list(row.all("data"))
    assert len(shown) == (6 if len(seeds) > 1 else 4)
    for element in shown:
        path, key = element.attributes["data-source"].split(": ")
        assert path == made["summary"].as_posix()
        value = summary["families"][0][key.removeprefix("families.0.")]
        assert Decimal(element.attributes["value"]) == Decimal(str(value))
        digits = len(element.text().strip().partition(".")[2])
        assert float(element.text()) == pytest.approx(value, abs=0.51 * 10**-digits)
    assert any(link.attributes.get("href") == "#families" for link in page.all("a"))


def test_the_page_says_why_families_have_no_mean(tmp_path):
    _, _, made = drawn(tmp_path, families={"plain": ["plain"]})
    page = page_of(tmp_path, made["summary"])
    assert "There is no range of rates" in page.text()
    assert not [t for t in page.all("table") if "Families" in next(t.all("caption")).text()]


@pytest.mark.parametrize("given", [True, False])
def test_a_page_without_families_does_not_name_them(tmp_path, given):
    _, _, made = drawn(tmp_path, families={})
    page = page_of(tmp_path, made["summary"] if given else None)
    assert "Families" not in page.text() and "log ratio is" not in page.text()
    assert not any(link.attributes.get("href") == "#families" for link in page.all("a"))
