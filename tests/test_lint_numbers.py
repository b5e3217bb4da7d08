"""Every number of the documentation stands in a committed file, and what is wrong is found."""

import csv
import statistics
from pathlib import Path

import pytest
from helpers import lint_numbers

CLONE = Path(__file__).parents[1]
RUNS = """variant,seed,j,share
naive,0,1336.04,0.0083
mvn,0,-0.2784,2.8e-07
"""
MEASURED = "page,section,value,unit,what,processor,command\n"


@pytest.fixture
def folder(tmp_path):
    def make(text, files="[runs](runs.csv)", row="page.md#results", measured="", more=""):
        (tmp_path / "docs").mkdir()
        (tmp_path / "README.md").write_text("# Project\n\nNo numbers.\n")
        (tmp_path / "docs/page.md").write_text(f"# Page\n\n## Results\n\n{text}\n{more}")
        (tmp_path / "docs/runs.csv").write_text(RUNS)
        (tmp_path / "docs/obtained.md").write_text(
            f"| obtained | in | by |\n| --- | --- | --- |\n| [Page]({row}) | {files} | `make` |\n"
        )
        (tmp_path / "docs/measured.csv").write_text(MEASURED + measured)
        return list(lint_numbers.problems(tmp_path))

    return make


@pytest.mark.parametrize(
    "text",
    [
        "1,336.0 and 1336.04 and 1.3e+03",
        "a share of 0.83 % or 0.008",
        "-0.28, \u22120.278 and, below it, 0.28",
        "| `naive` | 1,336 |",
        "| `mvn` | 2.8e-07 | -0.28 |",
        # No measured numbers.
        "In 2017, arXiv 1705.06821, Python 3.11, 3.12 or 3.13, commit 4534322, SHA-256, 64x64, 12",
        "`0.999`, [0.999](runs.csv) and <!-- 0.999 --> 1336.04\n\n    0.999\n\n```\n0.999\n```",
    ],
)
def test_numbers_of_the_files(folder, text):
    assert folder(f"{text}\n\n1,336.0") == []


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,336.1", "1336.1"),
        ("1,337", "1337"),
        ("2.9e-07", "2.9e-07"),
        ("+0.28", "+0.28"),
        ("-1,336.0", "-1336.0"),
        ("a share of 0.84 %", "0.84"),
        ("0.83", "0.83"),
        ("| `mvn` | 1,336 |", "1336"),
        ("1936.04 or 1,936", "1936"),
        ("| a | 1,336.0 ± 4.3 |", "4.3"),
    ],
)
def test_a_wrong_number(folder, text, number):
    (*_, problem) = folder(text)
    assert problem == f"docs/page.md#results: {number} is in no file of its row"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"row": "page.md#page"}, "no row for docs/page.md#results, which has 1336.0"),
        ({"more": "\n## Others\n\n0.5\n"}, "no row for docs/page.md#others, which has 0.5"),
        ({"row": "page.md#gone"}, "docs/page.md has no section #gone"),
        ({"row": "gone.md#results"}, "docs/gone.md has no section #results"),
        ({"files": "[a](runs.csv), [b](gone.json)"}, "there is no gone.json"),
        ({"measured": "docs/page.md,Results,7,,,,\n"}, "7 is not printed in docs/page.md#results"),
        ({"measured": "docs/page.md,Gone,7,,,,\n"}, "docs/page.md has no section #gone"),
    ],
)
def test_what_is_not_listed_or_missing(folder, change, problem):
    assert any(problem in line for line in folder("1,336.0", **change))


@pytest.mark.parametrize(
    "change",
    [
        {"more": "\n### Part of it\n\n-0.278\n"},
        {"more": "\n### Part\n\n3.5 again\n<!-- t2 -->\n| `a` | 3.5 |\n<!-- end of t2 -->\n"},
        {"files": "[runs](runs.csv), `7 * log(2)`", "more": "\n4.85\n"},
        {"files": "[all](.)", "more": "\n-0.278\n"},
        {
            "files": "[runs](runs.csv), [measured](measured.csv)",
            "measured": 'docs/page.md,Results,"4,150",images per second,,,\n',
            "more": "\n4,150\n",
        },
    ],
    ids=["a subsection", "a generated block", "a formula", "a folder", "measured.csv"],
)
def test_other_origins(folder, change):
    assert folder("1,336.0", **change) == []


def test_a_measure_holds_in_its_section_only(folder):
    files = "[runs](runs.csv), [measured](measured.csv)"
    more = "\n### Part\n\n4,150\n"
    row = "docs/page.md,Results,4150,,,,\n"
    (problem,) = folder("1,336 and 4,150", files=files, measured=row, more=more)
    assert problem == "docs/page.md#part: 4150 is in no file of its row"


def test_the_documentation():
    assert list(lint_numbers.problems(CLONE)) == []


@pytest.mark.parametrize("name", ["faces", "cifar10"])
def test_means_follow_from_the_runs(name):
    def rows(kind):
        path = CLONE / f"docs/training/{name}_{kind}.csv"
        return list(csv.DictReader(path.read_text().splitlines()))

    runs = rows("runs")
    for row in rows("means"):
        key = row["label"], row["variant"]
        values = [float(r["test_objective"]) for r in runs if (r["label"], r["variant"]) == key]
        error = statistics.stdev(values) / len(values) ** 0.5
        found = float(row["test_objective"]), float(row["standard_error"]), int(row["seeds"])
        assert found == pytest.approx((statistics.mean(values), error, len(values)), rel=1e-5)
