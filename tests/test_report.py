"""The page: every number is from a file, nothing is fetched, and hostile texts are harmless."""

import json
import re
import subprocess
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import yaml
from helpers.pages import parse
from helpers.reports import ATTRIBUTES, CONFIG, LICENSE, NO_VARIANCE, VARIANTS, make_arguments

from svae.errors import UserError
from svae.report.page import commit_of, write

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror=alert(1)>&amp;\"'"
CASES = {
    "one seed": {},
    "several seeds": {"seeds": (0, 1, 2)},
    "elbo": {"objective": "elbo"},
    "elbo, several seeds": {"objective": "elbo", "seeds": (3, 5, 8)},
    "one variant": {"variants": ["low_rank"]},
    "one variant, several seeds": {"variants": ["low_rank"], "seeds": (0, 1, 2)},
    "two vectors": {"variants": ["vanilla_matched", "vanilla"]},
}


def make(folder, attributes=ATTRIBUTES, config=CONFIG, license=LICENSE, **changes):
    arguments = make_arguments(folder, **changes)
    arguments |= {"attributes": attributes, "config": config, "license": license}
    write(folder / "report.html", **arguments)
    text = (folder / "report.html").read_text(encoding="utf-8")
    return parse(text), text


@pytest.fixture(scope="module", params=CASES, ids=str)
def page(request, tmp_path_factory):
    return make(tmp_path_factory.mktemp("report"), **CASES[request.param])[0]


def answer_of(page):
    return page.one("section", **{"class": "answer"}).text().strip()


def table(page, caption):
    (found,) = (t for t in page.all("table") if caption in next(t.all("caption")).text())
    return found


# The numbers, computed from their sources with scipy and plain NumPy.


def entry(path, key):
    if path.endswith(".npz"):
        return np.load(path)[key]
    value = json.loads(Path(path).read_text())
    for part in key.split("."):
        value = value[int(part)] if isinstance(value, list) else value[part]
    return value


def halves(entries):
    first, second = np.split(np.array(entries), 2)
    return first - second


def half_width(entries):
    differences = halves(entries)
    seeds = len(differences)
    error = np.hypot(
        scipy.stats.sem(differences.mean(axis=1)), scipy.stats.sem(differences.mean(axis=0))
    )
    pairs = len(VARIANTS) * (len(VARIANTS) - 1) / 2
    return scipy.stats.t.ppf(1 - 0.05 / pairs / 2, seeds - 1) * error


ORACLES = {
    "value": lambda entries: entries[0],
    "mean": np.mean,
    "largest": max,
    "spread": lambda entries: np.std(entries, ddof=1),
    "standard error": lambda entries: scipy.stats.sem(np.mean(entries, axis=0)),
    "paired mean": lambda entries: halves(entries).mean(),
    "paired standard error": lambda entries: scipy.stats.sem(halves(entries).mean(axis=0)),
    "paired spread": lambda entries: np.std(halves(entries).mean(axis=1), ddof=1),
    "half-width": half_width,
}


def test_every_number_follows_from_its_sources(page):
    numbers = list(page.all("data"))
    assert len(numbers) > 30
    for element in numbers:
        sources = [source.split(": ") for source in element.attributes["data-source"].split("; ")]
        oracle = ORACLES[element.attributes["data-rule"]]
        value = float(element.attributes["value"])
        assert value == pytest.approx(oracle([entry(*source) for source in sources]), rel=1e-9)
        shown = Decimal(element.text().replace(",", ""))
        unit = 10.0 ** shown.as_tuple().exponent
        assert abs(float(shown) - value) <= 0.5001 * unit
        assert element.attributes["title"].endswith(element.attributes["data-source"])


def test_tables_show_no_number_without_a_source(page):
    for found in page.all("table"):
        if found.attributes.get("class") != "list":
            for cell in found.all("td"):
                assert not re.search(r"\d", cell.text(without=("data",))), cell.text()


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed", "two seeds"])
@pytest.mark.parametrize(("times", "dominated"), [(1.49, False), (1.51, True)])
def test_a_mean_dominated_by_few_images_is_shown_with_the_median(tmp_path, seeds, times, dominated):
    arguments = make_arguments(tmp_path, seeds=seeds)
    # One seed of the last variant.
    path = arguments["files"].scores["reconstruction"][-1]
    terms = {"kl_nats_per_image": 800_000.0 * times, "kl_nats_median": 800_000.0}
    terms |= {"sse_per_image": 400.0 * times, "sse_median": 400.0, "kl_nats_largest": 6e8}
    path.write_text(json.dumps(json.loads(path.read_text()) | terms))
    arguments |= {"attributes": ATTRIBUTES, "config": CONFIG, "license": LICENSE}
    write(tmp_path / "report.html", **arguments)
    page = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    test_every_number_follows_from_its_sources(page)
    test_tables_show_no_number_without_a_source(page)
    rows = list(table(page, "Reconstruction").all("tr"))
    kl, sse = [cell.text() for cell in rows[-1].all("td")][1:3]
    assert "median" not in rows[-2].text()
    assert ("median" in kl) == ("median" in sse) == dominated
    if dominated:
        assert "largest 600,000,000)" in kl
        if seeds == (0,):
            assert kl.startswith("1,208,000 (median 800,000.0,") and sse == "604.0 (median 400.0)"


def test_tables_name_their_files(page):
    tables = [t for t in page.all("table") if t.attributes.get("class") != "list"]
    assert len([p for p in page.all("p") if p.attributes.get("class") == "source"]) >= len(tables)
    line = next(p for p in page.all("p") if p.attributes.get("class") == "source").text()
    assert "VARIANT/seed-SEED/scores/parzen.json: log_likelihood" in " ".join(line.split())


def test_structure(page):
    levels = [int(element.tag[1]) for element in page.all("h1", "h2", "h3", "h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    for found in page.all("table"):
        assert next(found.all("caption")).text().strip()
        assert all(th.attributes["scope"] in ("row", "col") for th in found.all("th"))
        columns = len(list(next(found.all("thead")).all("th")))
        for row in next(found.all("tbody")).all("tr"):
            assert len(list(row.all("th", "td"))) == columns
    anchors = [e.attributes["id"] for e in page.all() if "id" in e.attributes]
    assert len(anchors) == len(set(anchors))
    for link in page.all("a"):
        target = link.attributes["href"]
        assert target.startswith("https://arxiv.org/") or target.removeprefix("#") in anchors
    assert page.one("html").attributes["lang"] == "en"
    assert any(meta.attributes.get("charset") == "utf-8" for meta in page.all("meta"))
    page.one("meta", name="viewport", content="width=device-width, initial-scale=1")


def test_nothing_is_fetched_and_pictures_are_described(page):
    images = list(page.all("img"))
    assert len(images) >= 11
    for image in images:
        assert image.attributes["src"].startswith("data:image/png;base64,")
        assert len(image.attributes["alt"]) > 30
    for element in page.all():
        assert element.tag not in ("script", "iframe", "object", "embed", "video", "audio")
        assert not any(name.startswith("on") for name in element.attributes)
        for name in ("src", "srcset", "poster", "action", "background"):
            assert element.attributes.get(name, "data:").startswith("data:")
    (link,) = page.all("link")
    assert link.attributes["href"] == "data:,"
    assert not re.search(r"url\(|@import", next(page.all("style")).text())


def test_writing_twice_gives_the_same_page(tmp_path):
    arguments = make_arguments(tmp_path)
    for name in ("a.html", "b.html"):
        write(tmp_path / name, **arguments)
    assert (tmp_path / "a.html").read_bytes() == (tmp_path / "b.html").read_bytes()


def test_hostile_texts_are_escaped(tmp_path):
    attributes = ATTRIBUTES | {"title": HOSTILE, "split_rule": HOSTILE, "source_note": HOSTILE}
    attributes["source_files"] = {HOSTILE: HOSTILE}
    config = {HOSTILE: HOSTILE, "sources": {"waves": {"archive": HOSTILE}}}
    page, text = make(
        tmp_path,
        attributes,
        config,
        HOSTILE,
        records={"warnings": [HOSTILE], "device": HOSTILE, "software": {HOSTILE: HOSTILE}},
        parzen={"batch_norm": HOSTILE, "dataset_source_note": HOSTILE},
        importance_weighted_bound={"refused": HOSTILE, "variance_from": HOSTILE},
    )
    assert "<script" not in text and "<img src=x" not in text
    assert text.count("<img ") == len(list(page.all("img"))) == 15
    assert HOSTILE in page.one("h1").text() and HOSTILE in answer_of(page)
    for found in page.all("img"):
        assert set(found.attributes) == {"src", "width", "height", "alt"}
    shown = page.one("pre", **{"aria-label": "The configuration as YAML"}).text()
    assert yaml.safe_load(shown) == config


def test_configuration_software_times_and_commands(tmp_path):
    page, _ = make(tmp_path, config=CONFIG | {"seed": 7, "none": None, "list": [1.5, True]})
    shown = page.one("pre", **{"aria-label": "The configuration as YAML"}).text()
    assert yaml.safe_load(shown) == CONFIG | {"seed": 7, "none": None, "list": [1.5, True]}
    rows = next(table(page, "Versions").all("tbody")).all("tr")
    assert ["tensorflow", "2.20"] in [[cell.text() for cell in row.all("th", "td")] for row in rows]
    commands = page.one("pre", **{"aria-label": "Commands"}).text().splitlines()
    assert f"git checkout {'c0ffee' * 6}1234" in commands
    assert any(line.endswith("again results/parzen_vanilla.json") for line in commands)
    text = table(page, "What the store says").text()
    assert "0f" * 32 in text and "ab" * 32 in text and "train: 300" in text
    assert f"Licence or terms of use: {LICENSE}." in page.text()
    rows = list(next(table(page, "Training times").all("tbody")).all("tr"))
    assert [next(row.all("th")).text() for row in rows] == VARIANTS


def test_figures_that_are_missing_are_left_out(tmp_path):
    arguments = make_arguments(tmp_path)
    arguments["figures"] = {"kl_per_map": arguments["figures"]["kl_per_map"]}
    write(tmp_path / "report.html", **arguments | {"samples": {}})
    page = parse((tmp_path / "report.html").read_text())
    (image,) = page.all("img")
    assert all(name in image.attributes["alt"] for name in VARIANTS)
    assert (image.attributes["width"], image.attributes["height"]) == ("2000", "900")


# The answer


def scores(arguments, name, offset, noise, n=400):
    """Give a variant's test images scores of a mean near `offset`; its seeds differ by `noise`."""
    rng = np.random.default_rng(abs(round(10 * offset)))
    paths = [path for path in arguments["files"].per_image if path.parents[2].name == name]
    for path in paths:
        values = offset + rng.normal(0, 5, n) + rng.normal(0, noise)
        np.savez(path, log_likelihood=values)
        score = json.loads((path.parent / "parzen.json").read_text())
        score |= {"log_likelihood": values.mean(), "standard_error": scipy.stats.sem(values)}
        (path.parent / "parzen.json").write_text(json.dumps(score))


def answered(folder, means, noise=1.0, seeds=(0,), **changes):
    arguments = make_arguments(folder, list(means), seeds, **changes)
    for name, mean in means.items():
        scores(arguments, name, mean, noise)
    write(folder / "report.html", **arguments)
    page = parse((folder / "report.html").read_text())
    return answer_of(page), page


def test_one_seed_establishes_nothing(tmp_path):
    answer, page = answered(tmp_path, {"vanilla": -400, "low_rank": -300, "vanilla_matched": -350})
    assert "low_rank has the highest Parzen-window log-likelihood of 3 variants: -" in answer
    assert "not yet established" in answer and "is established" not in answer
    assert "above vanilla." in answer
    assert "the best with a vector vanilla_matched" in answer
    assert "both at the KL weight w = 2.25" in answer
    assert table(page, "same test images").text().count("not yet") == 3


def test_a_vector_may_be_best(tmp_path):
    answer, _ = answered(tmp_path, {"vanilla": -300, "naive": -350, "mvn": -360})
    assert "vanilla has the highest" in answer and "above naive." in answer
    assert "They are the best with a vector as its latent, and the best with feature maps" in answer
    assert "different KL weights (w = 2.25 and 5.5), which alone moves scores" in answer


def test_a_lead_within_the_noise_of_images_is_reported(tmp_path):
    answer, _ = answered(tmp_path, {"vanilla": -300.0, "naive": -300.1}, noise=0)
    assert "the choice of test images alone may explain it" in answer


@pytest.mark.parametrize(
    ("noise", "seeds", "established"), [(1, 3, True), (60, 3, False), (30, 2, False)]
)
def test_several_seeds(tmp_path, noise, seeds, established):
    means = {"vanilla": -400, "low_rank": -300}
    answer, page = answered(tmp_path, means, noise, seeds=tuple(range(seeds)))
    assert f"(mean over {seeds} seeds)" in answer
    assert ("is established, on this data set" in answer) == established
    assert ("is not yet established over" in answer) == (not established)
    row = next(next(table(page, "same test images").all("tbody")).all("tr"))
    assert list(row.all("td"))[-1].text() == ("yes" if established else "not yet")


def test_variants_of_one_kind_answer_no_question(tmp_path):
    answer, _ = answered(tmp_path, {"naive": -400, "mvn": -300})
    assert "All variants here have feature maps as their latent: the two are not comp" in answer


def test_one_variant_is_not_compared(tmp_path):
    answer, page = answered(tmp_path, {"mvn": -300})
    assert "the only variant here, so that nothing is compared" in answer
    assert "There is one variant only." in page.text()


@pytest.mark.parametrize("real", [-350.0, -200.0])
def test_training_images_instead_of_samples(tmp_path, real):
    row = {"name": "training images", "meaning": "m", "log_likelihood": real}
    row |= {"standard_error": 1.0, "sigma": 0.2, "n_samples": 300, "n_fitted": None}
    means = {"vanilla": -400, "low_rank": -300}
    answer, _ = answered(tmp_path, means, baselines={"rows": [row]})
    assert "(300 of them, against 10,000 samples)" in answer
    if real == -350:
        assert "1 of 2 variants scores higher, so that the score is no measure" in answer
    else:
        assert "no variant scores higher" in answer


# Warnings, and missing entries


def warnings_of(page):
    return [item.text() for item in page.one("ul", **{"class": "warnings"}).all("li")]


def test_no_warnings(page):
    assert "None. Looked for: posterior collapse" in page.text()


def test_warnings(tmp_path):
    page, _ = make(
        tmp_path,
        attributes=ATTRIBUTES | {"source_matches_official": False, "source_note": "own.gz differs"},
        variants=["vanilla"],
        records={"warnings": ["posterior collapse: no map", "dead run: flat"]},
        parzen={"sigma_at_grid_edge": True, "dataset_source_note": "own.gz differs"},
    )
    found = warnings_of(page)
    assert found[:2] == ["vanilla: posterior collapse: no map.", "vanilla: dead run: flat."]
    assert found[2].startswith("vanilla: sigma = 0.")
    assert "at the edge of its grid" in found[2] and "widen parzen.sigma_log10_min" in found[2]
    assert found[3:] == ["own.gz differs."]
    assert "There are warnings about the best variant" in answer_of(page)
    assert "(edge)" in table(page, "Parzen-window log-likelihood, in").text()


def test_warnings_name_the_seed_if_there_are_several(tmp_path):
    page, _ = make(tmp_path, variants=["mvn"], seeds=(0, 4), records={"warnings": ["dead run"]})
    assert warnings_of(page) == ["mvn, seed 0: dead run.", "mvn, seed 4: dead run."]


def test_a_refused_bound_has_its_reason(tmp_path):
    page, _ = make(tmp_path)
    captions = [caption.text() for caption in page.all("caption")]
    assert "Importance-weighted bound" not in captions  # there would be no number
    assert f"refused for {', '.join(VARIANTS)}: {NO_VARIANCE}." in " ".join(page.text().split())


def test_a_bound_under_the_elbo(tmp_path):
    page, _ = make(tmp_path, objective="elbo")
    assert "refused" not in page.text()
    assert "k = 128 posterior samples per image" in page.text()
    assert "ELBO (nats)" in table(page, "Reconstruction").text()
    assert "KL weights (w" not in answer_of(page) and "at the KL weight" not in answer_of(page)


def test_entries_that_older_files_lack(tmp_path):
    page, _ = make(tmp_path, parzen={"fresh_draws": None}, seeds=(0, 1))
    shown = table(page, "Parzen-window log-likelihood, in")
    headings = [cell.text() for cell in next(shown.all("thead")).all("th")]
    place = headings.index("spread over fresh draws (nats)") - 1
    rows = next(shown.all("tbody")).all("tr")
    assert all(list(row.all("td"))[place].text() == "-" for row in rows)


# Errors


def test_the_number_of_files_must_be_that_of_the_runs(tmp_path):
    arguments = make_arguments(tmp_path)
    arguments["files"].scores["parzen"].pop()
    with pytest.raises(UserError, match=r"4 files parzen\.json, but 5 variants with 1 seed"):
        write(tmp_path / "report.html", **arguments)
    assert not (tmp_path / "report.html").exists()


def test_scores_of_other_numbers_of_images(tmp_path):
    arguments = make_arguments(tmp_path)
    np.savez(arguments["files"].per_image[1], log_likelihood=np.zeros(39))
    with pytest.raises(UserError, match="39 and of 40"):
        write(tmp_path / "report.html", **arguments)


def test_files_that_are_not_pictures(tmp_path):
    arguments = make_arguments(tmp_path)
    arguments["figures"]["dataset"].write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"dataset\.png is no PNG"):
        write(tmp_path / "report.html", **arguments)
    arguments["figures"] = {"unheard_of": arguments["figures"]["dataset"]}
    with pytest.raises(ValueError, match="unheard_of"):
        write(tmp_path / "report.html", **arguments)


def test_commit_of(tmp_path):
    clone = tmp_path / "clone"
    (clone / "inner").mkdir(parents=True)
    assert commit_of(clone) == (None, False)
    (clone / "inner/file").write_text("a")
    git = ["git", "-C", clone, "-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "a"]):
        subprocess.run([*git, *arguments], check=True)
    commit, changed = commit_of(clone)
    assert re.fullmatch("[0-9a-f]{40}", commit) and not changed
    assert commit_of(clone / "inner") == (None, False)
    (clone / "inner/file").write_text("b")
    assert commit_of(clone) == (commit, True)
