"""The declarations of the scores, and errors for wrong ones."""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from helpers.reports import make_arguments

from svae.report.score_tables import in_csv, score_table
from svae.report.study import read
from svae.scores import registry
from svae.scores.image_measures import image_measures
from svae.scores.registry import FIRST, scores
from svae.scores.score import OPENED_BY, Column, Run, Score


def score(**changes):
    given = {"name": "a", "title": "A", "meaning": "m", "columns": (), "measure": len}
    return Score(**(given | changes))


def test_what_decides_is_first_and_parzen_second():
    first, second, *others = scores()
    assert (first, second) == FIRST and others == sorted(others)


def test_image_measures_have_unique_names_and_a_unit_or_none():
    found = image_measures()
    assert list(found)[:2] == ["objective.j", "objective.elbo"]
    assert {"parzen.log_likelihood", "importance_weighted_bound.log_likelihood"} < set(found)
    count = sum(len(score.measures) for score in scores().values())
    assert len(found) == count and found["objective.elbo"].label == "ELBO, test images (nats)"


def test_columns_of_the_summary_have_unique_names():
    columns = [column for score in scores().values() for column in score.columns]
    names = [name for column in columns for name in (column.csv, column.error_csv) if name]
    assert [name for name, count in Counter(names).items() if count > 1] == []


def test_the_name_of_a_standard_error_ends_with_the_unit():
    column = Column(key="a", label="a", meaning="m", error="e")
    for csv, expected in [("x_nats", "x_standard_error_nats"), ("x", "x_standard_error")]:
        assert Column(**{**vars(column), "csv": csv}).error_csv == expected
    assert column.error_csv is None


@pytest.mark.parametrize("declared", [{}, {"SCORE": score(name="b")}, {"SCORE": "a"}])
def test_a_module_without_a_score_with_its_name_is_refused(monkeypatch, declared):
    module = ModuleType("a")
    vars(module).update(declared, __file__="measures/a.py")
    monkeypatch.setattr(registry.pkgutil, "iter_modules", lambda path: [module])
    monkeypatch.setattr(module, "name", "a", raising=False)
    monkeypatch.setattr(registry.importlib, "import_module", lambda name: module)
    with pytest.raises(TypeError, match=r"measures/a\.py must have SCORE = Score\(name='a'"):
        registry.scores.__wrapped__()


def test_files_are_opened_once_and_only_if_needed():
    opened = []
    run = Run(Path(), {"seed": 5}, None, 1, {"a.b": 3}, {"model": lambda: opened.append(1) or "m"})
    assert (run.seed, run.setting("a.b"), opened) == (5, 3, [])
    assert (run.model, run.model, opened) == ("m", "m", [1])
    with pytest.raises(LookupError, match='add "samples" to needs'):
        run.samples  # noqa: B018
    assert set(OPENED_BY) == {"model", "samples", "spectrum"}


def test_declarations_import_nothing_heavy():
    heavy = ("tensorflow", "keras", "numpy", "scipy", "h5py", "matplotlib", "sklearn")
    code = (
        "import sys; from svae.scores.registry import scores; scores(); "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def values_of(place):
    """Numbers of all columns of distances in features, that differ by place."""
    return {
        column.key: 10 * place + index + 0.5
        for index, column in enumerate(scores()["feature_distances"].columns)
        if column.shown
    } | {"kernel_distance_standard_error": 10 * place + 0.25}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)])
def test_stand_ins_are_rows_below_the_variants(tmp_path, seeds):
    """One row for those that all runs share, a row with all seeds for those of a variant."""
    arguments = make_arguments(tmp_path, ["naive", "mvn"], seeds)
    paths = arguments["files"].scores["feature_distances"]
    for index, path in enumerate(paths):
        content = json.loads(path.read_text())
        own = {"name": f"linear VAE of {content['variant']}", "of_run": True}
        content["stand_ins"] = [{"name": "real", **values_of(3)}, own | values_of(4 + index)]
        path.write_text(json.dumps(content))
    study = read("title", arguments["files"])
    shown = score_table(study, scores()["feature_distances"])
    rows = {"".join(str(getattr(p, "text", p)) for p in row[0]): row[1:] for row in shown["rows"]}
    assert list(rows) == ["naive", "mvn", "real", "linear VAE of naive", "linear VAE of mvn"]
    kernel = shown["columns"].index(
        "kernel distance" if len(seeds) > 1 else "kernel distance ± s.e."
    )
    first = {name: row[0][0] for name, row in rows.items()}
    assert (first["real"].value, first["real"].rule) == (30.5, "value")
    expected = np.mean([values_of(4 + i)["frechet_distance"] for i in range(len(seeds))])
    assert first["linear VAE of naive"].value == expected
    numbers = [piece.value for piece in rows["real"][kernel - 1] if not isinstance(piece, str)]
    assert numbers == [values_of(3)["kernel_distance"], 30.25][: 1 if len(seeds) > 1 else 2]


def test_a_score_that_is_left_out_is_not_shown(tmp_path):
    arguments = make_arguments(tmp_path, ["naive", "mvn"])
    files = arguments["files"]
    left = {name: paths for name, paths in files.scores.items() if name != "feature_distances"}
    names = {
        kind: [score.name for score in read("title", each).measured()]
        for kind, each in (("all", files), ("left", replace(files, scores=left)))
    }
    assert names["all"] == list(scores())
    assert names["left"] == [name for name in scores() if name != "feature_distances"]
    row = in_csv(read("title", replace(files, scores=left)), "mvn")
    assert not [column for column in row if column.startswith("feature_")]
    assert "feature_recall" in in_csv(read("title", files), "mvn")
