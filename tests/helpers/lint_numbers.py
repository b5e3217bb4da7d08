"""Every measured number of README and docs/ stands in a committed file.

    python tests/helpers/lint_numbers.py [FOLDER]

docs/obtained.md has rows for each section with numbers: a link to the section, the files and the
formulas that have its numbers, and the command that made them. A row of a section holds for its
subsections that have none. A number counts if it has a decimal point, an exponent or three digits,
and is in no code or link. Rounded to its digits, a number of the files, the formulas or the command
must equal it: as it is, in percent where that is printed, or without its sign if none is printed.
In a line of a table with names, such as `mvn`, it must be one of a row of the CSV with these names.

docs/measured.csv has the numbers that no other file has; they count in their own section only,
which must print them. What studies/pages.py writes into docs/study.md is checked there.
"""

import csv
import math
import re
import sys
from collections import defaultdict
from functools import cache
from pathlib import Path

TABLE, MEASURED = "docs/obtained.md", "docs/measured.csv"
GENERATED = re.compile(r"<!-- (\w+) -->\n(.*?)<!-- end of \1 -->", re.DOTALL)
BLOCKS = re.compile(r"^```.*?^```$|^ {4}.*?$|<!--.*?-->", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]*)\)")
NAME = re.compile(r"`([^`]+)`")
NO_MEASURES = re.compile(
    r"arXiv \d+\.\d+|commit [0-9a-f]{7,}|SHA-\d+"
    r"|(?:Python|Apache) \d+\.\d+(?:(?:,| or| to) \d+\.\d+)*"
)
PRINTED = re.compile(
    r"(?<![\w.^/-])([-+\u2212]?)((?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?)(?!\w|[.,]\d)(\s?%)?"
)
YEAR = re.compile(r"(?:19|20)\d\d")
STORED = re.compile(r"(?<![\w.])-?\d[\d_]*(?:\.\d+)?(?:[eE][-+]?\d+)?(?!\w)")
FORMULA = re.compile(r"`((?:\d|log|tanh|[.\s+*/()-])+)`")
FUNCTIONS = {"__builtins__": {}, "log": math.log, "tanh": math.tanh}


def slug(heading):
    """The anchor that GitHub gives a heading."""
    return re.sub(r"[^\w\s-]", "", heading.strip().lower()).replace(" ", "-")


def sections(text):
    """The sections of a page, without blocks: (anchor, anchor of the one it is part of, text)."""
    text = BLOCKS.sub("", GENERATED.sub("", text))
    parts = re.split(r"^(#+) (.*)$", text, flags=re.MULTILINE)[1:]
    above = {}
    for marks, heading, content in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
        above[len(marks)] = slug(heading)
        yield slug(heading), above[2] if len(marks) > 2 else None, content


def printed(content):
    """The numbers of a text: (sign, digits, whether in percent, names in its line of a table)."""
    lines = re.findall(r"^\|.*$", content, re.MULTILINE)
    prose = re.sub(r"^\|.*$", "", content, flags=re.MULTILINE)
    for text in (prose, *lines):
        names = frozenset(NAME.findall(text) if text.startswith("|") else ())
        for pattern in (LINK, NAME, NO_MEASURES):
            text = pattern.sub(" ", text)
        for sign, digits, percent in PRINTED.findall(text):
            if not YEAR.fullmatch(digits):
                yield sign.replace("\u2212", "-"), digits.replace(",", ""), bool(percent), names


def agrees(number, value):
    """Whether a value, rounded to the printed digits, is the printed number."""
    sign, digits, percent, _ = number
    mantissa, _, exponent = digits.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    wanted = float(sign + digits)
    values = [value, 100 * value] if percent else [value]
    values += [] if sign else [-value for value in values]
    return any(abs(wanted - value) <= unit * (0.5 + 1e-6) for value in values)


def numbers(text):
    return {float(number) for number in STORED.findall(text)}


@cache
def stored(path):
    """The rows of a CSV, of those of a folder, or another file as one row: (cells, numbers)."""
    if path.is_dir():
        return [row for file in sorted(path.rglob("*.csv")) for row in stored(file)]
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".csv":
        return [(set(), numbers(text))]
    return [(set(row), numbers("\n".join(row))) for row in csv.reader(text.splitlines())]


def values_of(path, names):
    """The numbers of the rows that have those of the names that any row has."""
    rows = stored(path)
    names = names & set().union(*(cells for cells, _ in rows))
    return set().union(*(values for cells, values in rows if names <= cells))


def obtained(folder):
    """The rows of docs/obtained.md: {(page, anchor): [(cell of files, command)]}."""
    rows = defaultdict(list)
    for line in (folder / TABLE).read_text(encoding="utf-8").splitlines():
        cells = line.strip("| ").split(" | ")
        if line.startswith("| [") and len(cells) == 3:
            page, _, anchor = LINK.match(cells[0])[1].partition("#")
            page = (folder / "docs" / page).resolve().relative_to(folder.resolve()).as_posix()
            rows[page, anchor].append(cells[1:])
    return rows


def measured(folder):
    """The values of docs/measured.csv: {(page, anchor): [digits]}."""
    rows = defaultdict(list)
    with (folder / MEASURED).open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            rows[row["page"], slug(row["section"])].append(row["value"].replace(",", ""))
    return rows


def problems(folder):
    """Everything that is wrong, a line each."""
    table, own, used = obtained(folder), measured(folder), set()
    pages = [folder / "README.md", folder / "studies/README.md", *(folder / "docs").glob("*.md")]
    for path in sorted(path for path in pages if path.exists() and path != folder / TABLE):
        page, text = path.relative_to(folder).as_posix(), path.read_text(encoding="utf-8")
        generated = "\n".join(block for _, block in GENERATED.findall(text))
        always = {float(sign + digits) for sign, digits, *_ in printed(generated)}
        for anchor, parent, content in sections(text):
            place, found = f"{page}#{anchor}", list(dict.fromkeys(printed(content)))
            measures = own.pop((page, anchor), [])
            for value in measures:
                if value.lstrip("+-") not in (digits for _, digits, *_ in found):
                    yield f"{MEASURED}: {value} is not printed in {place}"
            found = [number for number in found if re.search(r"[.e]|\d{3}", number[1])]
            key = (page, anchor if (page, anchor) in table else parent)
            used |= {key} if found or key[1] == anchor else set()
            if found and key not in table:
                yield f"{TABLE}: no row for {place}, which has {' '.join(n[1] for n in found)}"
            files, values = [], always.copy()
            for cell, command in table.get(key, []):
                values |= numbers(command) | {eval(f, FUNCTIONS) for f in FORMULA.findall(cell)}
                for target in LINK.findall(cell):
                    file = folder / "docs" / target
                    if file == folder / MEASURED:
                        values |= set(map(float, measures))
                    elif file.exists():
                        files.append(file)
                    else:
                        yield f"{TABLE}: {place}: there is no {target}"
            for number in found if key in table else []:
                theirs = (values_of(file, number[3]) for file in files)
                if not any(agrees(number, value) for value in values.union(*theirs)):
                    yield f"{place}: {number[0]}{number[1]} is in no file of its row"
    for page, anchor in {*table, *own} - used:
        yield f"{TABLE} or {MEASURED}: {page} has no section #{anchor}"


def main():
    found = list(problems(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]))
    if found:
        sys.exit("\n".join(found))
    print(f"{TABLE}: every number stands in a file of its row")


if __name__ == "__main__":
    main()
