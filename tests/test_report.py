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
from svae.jobs.files import read_json, write_json
from svae.report.intervals import compare
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


def heading_of(table):
    return next(table.all("caption")).text()


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


def compared(numbers, sources):
    """The comparisons of a measure against the first of these variants; those of equal w by J."""
    values = {}
    for (path, _), array in zip(sources, numbers, strict=True):
        values.setdefault(Path(path).parents[2].name, []).append(array)
    return compare({name: np.stack(arrays) for name, arrays in values.items()})


def error_over_seeds(numbers, sources):
    return [found.error_over_seeds for found in compared(numbers, sources)]


def ends(numbers, sources):
    return [end for found in compared(numbers, sources) for end in found.deciding_interval]


# Of these, the numbers of all comparisons of a table have the same sources.
OF_ALL = {"error over seeds": error_over_seeds, "lower end": ends, "upper end": ends}
ORACLES = {
    "value": lambda entries: entries[0],
    "mean": np.mean,
    "largest": max,
    "spread": lambda entries: np.std(entries, ddof=1),
    "standard error": lambda entries: scipy.stats.sem(np.mean(entries, axis=0)),
    "paired mean": lambda entries: halves(entries).mean(),
    "paired standard error": lambda entries: scipy.stats.sem(halves(entries).mean(axis=0)),
}


def test_every_number_follows_from_its_sources(page):
    numbers = list(page.all("data"))
    assert len(numbers) > 30
    for element in numbers:
        sources = [source.split(": ") for source in element.attributes["data-source"].split("; ")]
        rule, value = element.attributes["data-rule"], float(element.attributes["value"])
        entries = [entry(*source) for source in sources]
        if rule in OF_ALL:
            possible = OF_ALL[rule](entries, sources)
            assert any(value == pytest.approx(each, rel=1e-9) for each in possible)
        else:
            assert value == pytest.approx(ORACLES[rule](entries), rel=1e-9)
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
    write_json(path, read_json(path) | terms)
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
    assert "VARIANT/seed-SEED/scores/objective.json: test.j" in " ".join(line.split())


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
    assert text.count("<img ") == len(list(page.all("img"))) == 16
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
    text = table(page, "What the store records").text()
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


def set_values(arguments, name, offset, noise, n=400):
    """Give a variant's test images values near `offset`, higher being better; its seeds differ by
    `noise`. J and the ELBO follow."""
    rng = np.random.default_rng(abs(round(10 * offset)))
    folders = [path.parent for path in arguments["files"].records if path.parents[1].name == name]
    for folder in folders:
        values = offset + rng.normal(0, 5, n) + rng.normal(0, noise)
        arrays = {"elbo": values, "j": 1000 - values, "sse": 900 - values, "kl": np.full(n, 40.0)}
        np.savez(folder / "scores/objective_per_image.npz", **arrays)
        np.savez(folder / "scores/parzen_per_image.npz", log_likelihood=values)
        error = scipy.stats.sem(values)
        change(folder / "scores/parzen.json", log_likelihood=values.mean(), standard_error=error)
        path = folder / "scores/objective.json"
        test = json.loads(path.read_text())["test"]
        for key, array in arrays.items():
            test |= {key: array.mean(), f"{key}_standard_error": scipy.stats.sem(array)}
        change(path, test=test)


def change(path, **entries):
    write_json(path, read_json(path) | entries)


def answered(folder, means, noise=1.0, seeds=(0,), weights=None, arranged=None, **changes):
    """`arranged`: the arrangements of variants, by name."""
    arguments = make_arguments(folder, list(means), seeds, **changes)
    for name, mean in means.items():
        set_values(arguments, name, mean, noise)
    for path in arguments["files"].records if weights else ():
        weight = weights[path.parents[1].name]
        change(path, kl_weight=weight)
        change(path.parent / "scores/objective.json", kl_weight=weight)
    for path in arguments["files"].records:
        if name := (arranged or {}).get(path.parents[1].name):
            record = json.loads(path.read_text())
            change(path, settings=record["settings"] | {"arrangement": name})
    write(folder / "report.html", **arguments)
    page = parse((folder / "report.html").read_text())
    return " ".join(answer_of(page).split()), page


def test_across_w_the_elbo_decides_and_at_equal_w_j(tmp_path):
    means = {"vanilla": -400, "naive": -350, "low_rank": -300, "vanilla_matched": -320}
    answer, page = answered(tmp_path, means)
    assert "by the evidence lower bound (ELBO) of test images" in answer
    assert "low_rank is the best of 4: -" in answer and "next is vanilla_matched" in answer
    assert "Among those trained at w = 2.25, by J = SSE + w KL of test images, low_rank" in answer
    assert (
        "at equal w = 2.25: the best maps, low_rank, is ahead of the best vector, vanilla_m"
        in answer
    )
    assert answer.index("By Parzen-window") > answer.index("Across w")
    assert "reported second because it can rank blurred" in answer
    assert "No difference is established yet: there is one seed" in answer
    for caption, rows in (("J, test images", 2), ("ELBO, test images", 3)):
        shown = table(page, f"{caption}")
        text = next(t for t in page.all("table") if caption in t.text() and "pair" in t.text())
        assert text.text().count("not yet") == rows and shown is not None


def test_at_one_w_j_decides(tmp_path):
    means = {"naive": -400, "mvn": -300}
    answer, _ = answered(tmp_path, means)
    assert "by J = SSE + w KL of test images, mvn is the best of 2" in answer
    assert "ELBO" not in answer.split("By Parzen")[0].replace("By the ELBO", "")
    assert "The latent of every variant here is feature maps" in answer


@pytest.mark.parametrize(
    ("arranged", "found"),
    [
        ({"naive": "maps"}, "The latent of every variant here is feature maps"),
        ({"naive": "permuted"}, "The latent of every variant here is feature maps"),
        ({"naive": "separable"}, "The latent of every variant here is feature maps"),
        ({"naive": "dense"}, "the best maps, mvn, is ahead of the best vector, naive"),
        ({"naive": "dense", "mvn": "dense"}, "The latent of every variant here is a vector"),
    ],
)
def test_a_dense_arrangement_makes_a_latent_a_vector(tmp_path, arranged, found):
    answer, _ = answered(tmp_path, {"naive": -400, "mvn": -300}, arranged=arranged)
    assert found in answer


@pytest.mark.parametrize("vector", [-300.0, -500.0], ids=["vector wins", "maps win"])
def test_weights_are_named_in_the_order_of_the_variants(tmp_path, vector):
    means = {"vanilla": vector, "naive": -400.0}
    answer, _ = answered(tmp_path, means, weights={"vanilla": 48.0, "naive": 5.33})
    if vector > -400:
        assert re.search(r"best vector, vanilla, .* best maps, naive, .*w = 48 and 5.33", answer)
    else:
        assert re.search(r"best maps, naive, .* best vector, vanilla, .*w = 5.33 and 48", answer)


def test_a_lead_within_the_noise_of_images_is_reported(tmp_path):
    answer, _ = answered(tmp_path, {"vanilla": -300.0, "naive": -300.1}, noise=0)
    assert "so the choice of test images may explain it" in answer


@pytest.mark.parametrize(
    ("noise", "seeds", "established"), [(1, 3, True), (60, 3, False), (60, 2, False)]
)
def test_several_seeds(tmp_path, noise, seeds, established):
    means = {"vanilla": -400, "low_rank": -300}
    answer, page = answered(tmp_path, means, noise, seeds=tuple(range(seeds)))
    assert f"(means over {seeds} seeds)" in answer
    words = "Established by the ELBO, of 1 comparison asked for beforehand: "
    assert (words + ("low_rank is better than vanilla." if established else "none.")) in answer
    found = [t for t in page.all("table") if "interval that decides" in t.text()]
    assert len(found) == 2  # ELBO and Parzen: the two do not share w
    for shown in found:
        row = next(next(shown.all("tbody")).all("tr"))
        assert list(row.all("td"))[-1].text() == ("yes" if established else "not yet")


def test_what_is_asked_for_is_compared(tmp_path):
    means = {"vanilla": -400, "naive": -350, "low_rank": -300}
    asked = [("low_rank", "naive")]
    answer, page = answered(tmp_path, means, seeds=(0, 1, 2), comparisons=asked)
    assert "asked for beforehand: low_rank is better than naive." in answer
    found = [t for t in page.all("table") if "interval that decides" in t.text()]
    for shown in found:
        (row,) = next(shown.all("tbody")).all("tr")
        assert row.text().strip().startswith("low_rank less naive")


def test_nothing_may_be_asked_for(tmp_path):
    answer, page = answered(tmp_path, {"vanilla": -4, "mvn": -3}, seeds=(0, 1), comparisons=[])
    assert "No comparison was asked for beforehand" in answer
    assert "There is nothing to compare." in page.text()


def test_one_variant_is_not_compared(tmp_path):
    answer, page = answered(tmp_path, {"mvn": -300})
    assert "the only variant here: nothing is compared" in answer
    assert "There is nothing to compare." in page.text()


@pytest.mark.parametrize("real", [-350.0, -200.0])
def test_training_images_in_place_of_samples(tmp_path, real):
    row = {"name": "training images", "meaning": "m", "log_likelihood": real}
    row |= {"standard_error": 1.0, "sigma": 0.2, "n_samples": 300, "n_fitted": None}
    means = {"vanilla": -400, "low_rank": -300}
    answer, _ = answered(tmp_path, means, baselines={"rows": [row]})
    assert "(300 of them, against 10,000 samples)" in answer
    count = "1" if real == -350 else "none"
    assert f"and {count} of 2 variants scores higher." in answer


@pytest.mark.parametrize(("linear", "above"), [(-100.0, True), (-300.0, False)])
def test_linear_vaes_above_real_images_are_named(tmp_path, linear, above):
    row = {"name": "training images", "meaning": "m", "log_likelihood": -200.0}
    row |= {"standard_error": 1.0, "sigma": 0.2, "n_samples": 300, "n_fitted": None}
    parzen = {"log_likelihood": linear, "standard_error": 1.0, "sigma": 0.2}
    parzen |= {"sigma_at_grid_edge": False, "n_samples": 10_000}
    _, page = answered(
        tmp_path, {"mvn": -400}, baselines={"rows": [row]}, linear_vae={"parzen": parzen}
    )
    text = " ".join(page.text().split())
    named = "Above the training images themselves score here: the linear VAE at the w of mvn."
    assert (named in text) == above


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
    assert "There are warnings about vanilla, below" in answer_of(page)
    assert "(edge)" in table(page, "Parzen-window log-likelihood").text()


def test_a_remedy_that_trainings_share_stands_once(tmp_path):
    shared = ["flat: at 1.5. Train longer. Or not", "flat: at 2.5. Train longer", "flat: at 1.5"]
    page, _ = make(tmp_path, variants=["mvn", "naive"], records={"warnings": shared})
    assert warnings_of(page) == [
        "mvn: flat: at 1.5. Train longer. Or not.",
        "mvn: flat: at 2.5.",
        *["mvn: flat: at 1.5.", "naive: flat: at 1.5.", "naive: flat: at 2.5."],
        "naive: flat: at 1.5.",
    ]


def test_no_heading_stands_twice(page):
    headings = [element.text() for element in page.all("h1", "h2", "h3")]
    assert len(set(headings)) == len(headings)


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
    assert "w = " not in answer_of(page)


def test_entries_that_no_file_has(tmp_path):
    heading = "spread over fresh draws (nats)"
    for name, changes in (("a", {}), ("b", {"parzen": {"fresh_draws": None}})):
        (tmp_path / name).mkdir()
        page, _ = make(tmp_path / name, seeds=(0, 1), **changes)
        shown = next(
            t for t in page.all("table") if heading_of(t) == "Parzen-window log-likelihood"
        )
        headings = [cell.text() for cell in next(shown.all("thead")).all("th")]
        assert (heading in headings) == (not changes)


# Errors


def test_the_number_of_files_must_be_that_of_the_runs(tmp_path):
    arguments = make_arguments(tmp_path)
    arguments["files"].scores["parzen"].pop()
    with pytest.raises(UserError, match=r"4 files parzen\.json, but 5 variants with 1 seed"):
        write(tmp_path / "report.html", **arguments)
    assert not (tmp_path / "report.html").exists()


def test_scores_of_other_numbers_of_images(tmp_path):
    arguments = make_arguments(tmp_path)
    np.savez(arguments["files"].per_image["parzen"][1], log_likelihood=np.zeros(39))
    with pytest.raises(UserError, match=r"different numbers of test images \(39, 40\)"):
        write(tmp_path / "report.html", **arguments)


def test_files_that_are_not_pictures(tmp_path):
    arguments = make_arguments(tmp_path)
    arguments["figures"]["dataset"].write_bytes(b"GIF89a")
    with pytest.raises(UserError, match=r"dataset\.png is damaged or not a PNG"):
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
