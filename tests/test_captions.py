"""Captions: written once, and shown by the page as by Snakemake's own report."""

import re

import docutils.core
import pytest
from helpers.pages import parse
from helpers.reports import VARIANTS, make_arguments
from helpers.workflow import CLONE

from svae.report import captions
from svae.report.page import write

FILES = {path.stem: path for path in sorted((CLONE / "rules/captions").glob("*.rst"))}
ON_THE_PAGE = {*captions.PICTURES, "comparison", "samples"}


def words(text):
    """Words only, so that it does not matter how a string literal or a comment is broken."""
    return " ".join(re.findall(r"\w+", text))


def sentences(text):
    """The parts between punctuation that ends a sentence or a clause, if they are long enough."""
    parts = map(words, re.split(r"[.:;](?:\s|$)", text))
    return [part for part in parts if len(part.split()) > 4]


def test_no_sentence_of_a_caption_stands_twice():
    folders = ("svae", "rules", "scripts", "docs", "tests", "benchmarks", ".github")
    endings = {".py", ".smk", ".rst", ".md", ".j2", ".yaml", ".json"}
    inner = [path for folder in folders for path in (CLONE / folder).rglob("*")]
    texts = {
        path: f" {words(path.read_text())} "
        for path in [*inner, *CLONE.glob("*")]
        if path.suffix in endings and path.is_file()
    }
    assert len(texts) > 200
    for name, path in FILES.items():
        for sentence in sentences(path.read_text()):
            found = {str(place): text.count(f" {sentence} ") for place, text in texts.items()}
            assert {place: count for place, count in found.items() if count} == {str(path): 1}, name


@pytest.mark.parametrize("name", FILES)
def test_every_caption_is_of_an_output(name):
    rules = "\n".join(path.read_text() for path in (CLONE / "rules").glob("*.smk"))
    assert re.search(rf'"results/{name}[._]|"{name}"', rules)


@pytest.mark.parametrize("name", sorted(ON_THE_PAGE))
def test_the_page_shows_what_snakemakes_report_shows(name):
    """It has the text of the file; docutils, by which Snakemake renders the file, finds no more."""
    rendered = docutils.core.publish_doctree(FILES[name].read_text()).astext()
    assert captions.caption(name).split() == rendered.split()
    assert "{" not in captions.caption(name)


def test_captions_on_the_page(tmp_path):
    write(tmp_path / "report.html", **make_arguments(tmp_path))
    page = parse((tmp_path / "report.html").read_text(encoding="utf-8"))
    shown = [each.text(without=("span",)).strip() for each in page.all("figcaption")]
    singles = ON_THE_PAGE - {"samples"}
    assert sorted(shown) == sorted(
        [*map(captions.caption, [*singles, "samples"]), *("As above." for _ in VARIANTS[1:])]
    )
