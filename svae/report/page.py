"""The report page: everything that a study found, in one self-contained HTML file."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import yaml

from svae.jobs.files import replacing
from svae.report import difference_tables, rate_tables, tables
from svae.report.answer import answer
from svae.report.captions import pictures
from svae.report.numbers import RULES, Code, Document, Number
from svae.report.score_tables import method, reading, refusals, score_table
from svae.report.study import Files, Study, read
from svae.report.warning_list import warnings
from svae.scores.score import Score

TEMPLATES = Path(__file__).with_name("templates")
TEMPLATE = "report.html.j2"

PathLike = Path | str


def write(
    target: PathLike,
    files: Files,
    *,
    attributes: Mapping[str, Any],
    license: str,
    config: Mapping[str, Any],
    figures: Mapping[str, PathLike],
    samples: Mapping[str, PathLike],
    rates: PathLike | None = None,
    commit: str | None = None,
    changed: bool = False,
) -> None:
    """Write the report to `target`.

    It is one file with embedded pictures, without scripts or requests. Each number carries the file
    and key that it comes from, under the paths given here.

    attributes: of the store (`svae.datasets.store.Store.attributes`). license: terms of use of the
    images, as in the catalogue. config: the configuration that ran. figures: PNG files by name,
    such as `sigma_curves`: see `svae.report.captions`; those that are missing are left out.
    samples: PNG files by variant. rates: results/rate_distortion.json, if there is more than one KL
    weight.
    commit, changed: as `commit_of` gives them.

    UserError if files are not of as many runs as there are variants and seeds, if scores cannot be
    paired, or if a picture is no PNG.
    """
    study = read(attributes["title"], files)
    summary = None if rates is None else Document.read(rates)
    page = content(study, attributes, license, config, summary, commit, changed)
    page |= pictures(figures, samples, study.title, study.variants)
    with replacing(target) as temporary:
        temporary.write_text(_rendered(page), encoding="utf-8")


def content(
    study: Study,
    attributes: Mapping[str, Any],
    license: str,
    config: Mapping[str, Any],
    rates: Document | None = None,
    commit: str | None = None,
    changed: bool = False,
) -> dict[str, Any]:
    """What the template shows, except for the pictures. Nothing is read or written.

    Arguments as for `write`. Texts that hold numbers are lists of pieces: strings, `Number` and
    `Code`. Tables are as `numbers.table` gives them, or None if there is nothing to show.
    """
    return {
        "title": study.title,
        "dataset": attributes["dataset"],
        "variants": study.variants,
        "seeds": list(study.seeds),
        "several": study.several,
        "answer": answer(study),
        "warnings": warnings(study, attributes),
        "scores": [_shown(study, score) for score in study.measured()],
        "each_seed": tables.each_seed(study),
        "reading": [(score, reading(score)) for score in study.measured()],
        "sanity": tables.sanity(study),
        "sanity_reading": tables.sanity_reading(study),
        "differences": difference_tables.tables(study),
        "reading_of_differences": difference_tables.reading(study),
        "families": None if rates is None else rate_tables.family_table(rates),
        "reading_of_families": [] if rates is None else rate_tables.reading(rates),
        "data": tables.data(attributes),
        "license": license,
        "config": _as_yaml(config),
        "software": tables.software(study),
        "times": tables.times(study),
        "commands": _commands(study, commit),
        "commit": commit,
        "changed": changed,
        "rules": [(rule.name, rule.meaning) for rule in RULES],
    }


def _shown(study: Study, score: Score) -> dict[str, Any]:
    how = tables.protocol(study) if score.name == "parzen" else method(study, score)
    return {
        "title": score.title,
        "table": score_table(study, score),
        "method": how,
        "refusals": refusals(study, score),
    }


def commit_of(clone: PathLike) -> tuple[str | None, bool]:
    """The commit that a clone has checked out, and whether its files differ from it; (None, False)
    if that is unknown, as in an unpacked archive or without git."""
    # Without git's lock, so that a simultaneous commit in this clone does not fail.
    git = ["git", "--no-optional-locks", "-C", str(clone)]
    try:
        top, commit, status = (
            subprocess.run([*git, *arguments], capture_output=True, text=True, check=True).stdout
            for arguments in (
                ["rev-parse", "--show-toplevel"],
                ["rev-parse", "HEAD"],
                ["status", "--porcelain", "--untracked-files=no"],
            )
        )
    except (OSError, subprocess.CalledProcessError):
        return None, False
    if Path(top.strip()).resolve() != Path(clone).resolve():  # that of an enclosing repository
        return None, False
    return commit.strip(), bool(status.strip())


def _as_yaml(config: Mapping[str, Any]) -> str:
    # Through JSON, because YAML would mark subclasses of str and dict.
    plain = json.loads(json.dumps(config, default=str))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=88)


def _commands(study: Study, commit: str | None) -> list[tuple[str, str]]:
    """Commands and what each does."""
    example = study.variants[0]
    checkout = f"git checkout {commit}" if commit else "git checkout COMMIT"
    return [
        ("git clone ADDRESS-OF-THE-REPOSITORY spatial-vae && cd spatial-vae", "the code"),
        (checkout, "at the state that made this page"),
        ("make env", "the environment, with exact versions"),
        (
            "mkdir again",
            "a folder for the outputs; save the configuration above as again/config.yaml "
            "(relative paths in it start from that folder)",
        ),
        (".venv/bin/snakemake --cores all --directory again", "everything, including this page"),
        (
            f".venv/bin/snakemake --cores all --directory again results/parzen_{example}.json",
            "one score and only what it needs",
        ),
    ]


def _rendered(page: Mapping[str, Any]) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests["number"] = lambda piece: isinstance(piece, Number)
    environment.tests["code"] = lambda piece: isinstance(piece, Code)
    return environment.get_template(TEMPLATE).render(page)
