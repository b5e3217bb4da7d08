"""The fingerprint of a stage's code: what changes it, what does not, and what it covers."""

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from svae.fingerprint import fingerprint, modules

REPOSITORY = Path(__file__).parents[1]

# What the rules fingerprint. Importing one imports at least what its stage runs.
STAGES = [
    "svae.datasets.convert",
    "svae.training",
    "svae.sampling",
    "svae.parzen",
    "svae.scoring",
    "svae.summary",
    "svae.figures.grids",
    "svae.contact_sheet",
    "svae.baselines",
    "svae.linear_vae",
    "svae.measures",
    "svae.grids",
    "svae.report.page",
    "svae.charts",
    "svae.results",
    "svae.curves",
    "svae.datasets.verify",
]

STAGE = '''\
"""What the stage does."""

import math

from pkg import helper


class Scale:
    """A class."""

    def apply(self, x):
        """A method."""
        return x + helper.shift(x)  # a comment


async def wait(x):
    """An async function."""
    return [x, 1]
'''


def write(folder, files):
    """Write a package `pkg`, {path: source text}, and give its folder."""
    root = folder / "pkg"
    for path, text in {"__init__.py": "", **files}.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(textwrap.dedent(text), encoding="utf-8")
    for parent in {file.parent for file in root.rglob("*.py")}:
        (parent / "__init__.py").touch()
    return root


@pytest.fixture
def package(tmp_path):
    return write(
        tmp_path,
        {
            "__init__.py": '"""A package."""\n\n__version__ = "1.0"\nSIZE = 3\n',
            "stage.py": STAGE,
            "helper.py": "from . import deep\n\n\ndef shift(x):\n    return deep.STEP * x\n",
            "deep.py": "STEP = 2\n",
            "other.py": "A = 1\n",
        },
    )


def edit(package, file, old, new):
    path = package / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stage.py", "  # a comment", ""),
        ("stage.py", "a comment", "another comment"),
        ("stage.py", "import math\n", "# import os\nimport math\n"),
        ("stage.py", "What the stage does.", "What it does."),
        ("stage.py", '"""What the stage does."""\n', ""),
        ("stage.py", "A class.", "The class."),
        ("stage.py", "A method.", "The method."),
        ("stage.py", "An async function.", "The async function."),
        ("stage.py", '    """An async function."""\n', ""),
        ("stage.py", "\n\n\n", "\n"),
        ("stage.py", "[x, 1]", "[\n        x,\n        1,\n    ]"),
        ("stage.py", "x + helper.shift(x)", "(x+helper.shift( x ))"),
        ("stage.py", "\n", "\r\n"),
        ("__init__.py", "1.0", "2.0"),
        ("__init__.py", '__version__ = "1.0"\n', ""),
        ("helper.py", "    return", "        return"),
        ("deep.py", "2", "2  # steps"),
        ("other.py", "1", "2"),
    ],
)
def test_edits_without_meaning_keep_it(package, file, old, new):
    before = fingerprint("pkg.stage", package_root=package)
    edit(package, file, old, new)
    assert fingerprint("pkg.stage", package_root=package) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("stage.py", "x + helper", "x - helper"),
        ("stage.py", "[x, 1]", "[x, 2]"),
        ("stage.py", "[x, 1]", "[1, x]"),
        ("stage.py", "[x, 1]", "(x, 1)"),
        ("stage.py", "[x, 1]", "[[x], 1]"),
        ("stage.py", "[x, 1]", "[x], 1"),
        ("stage.py", "(self, x)", "(self, x=None)"),
        ("stage.py", "(self, x)", "(self, x, /)"),
        ("stage.py", "(self, x)", "(self, *, x)"),
        ("stage.py", "async def", "def"),
        ("stage.py", "class Scale:", "class Scale(dict):"),
        ("stage.py", "class Scale:", "@final\nclass Scale:"),
        ("stage.py", "import math", "import math as m"),
        ("stage.py", "    return [x, 1]", "    yield [x, 1]"),
        ("__init__.py", "SIZE = 3", "SIZE = 4"),
        ("helper.py", "deep.STEP * x", "deep.STEP / x"),
        ("deep.py", "STEP = 2", "STEP = 3"),
        ("deep.py", "STEP = 2", "STEP: int = 2"),
    ],
)
def test_edits_with_meaning_change_it(package, file, old, new):
    before = fingerprint("pkg.stage", package_root=package)
    edit(package, file, old, new)
    assert fingerprint("pkg.stage", package_root=package) != before


def test_every_distinct_expression_has_its_own(tmp_path):
    expressions = """
        1 | 1.0 | True | "1" | b"1" | 1j | 1 - 0 | -1 | +1 | None | "None" | ... | [] | () | {}
        set() | [None] | [[]] | [()] | "" | b"" | f"" | "a" "b" | "a", "b" | "a', 'b" | ["a, b"]
        a.b | a, b | a[b] | a(b) | a(*b) | a(**b) | a(b=b) | a[b:] | a[:b] | a[::b] | a[b,]
        {a: b} | {a, b} | {**a} | {"a": b} | {**a, "a": b} | {"a": b, **a} | x if a else b
        lambda: a | lambda a: a | lambda *a: a | lambda **a: a | lambda a, /: a | lambda *, a: a
        lambda *, a, b=1: a | lambda *, a=1, b: a | lambda a, b=1: a | lambda a=1, b=1: a
        f"{a}" | f"{a!r}" | f"{a:3}" | f"{a!r:3}" | f"{a:{b}}" | f"{a}{b}" | f"{a}b" | f"{a=}"
        [a for a in b] | {a for a in b} | (a for a in b) | [a for a in b if a] | {a: a for a in b}
        a < b | a < b < c | (a < b) < c | a and b and c | (a and b) and c | a or b and c | not a
        "\\u00e9" | "e\\u0301" | "\\\\u00e9" | 0.1 | 0.1000000000000001 | 1e400 | 10**400
    """
    sources = [
        part.strip() for line in expressions.strip().splitlines() for part in line.split(" | ")
    ]
    seen = {}
    for source in sources:
        root = write(tmp_path, {"stage.py": f"value = {source}\n"})
        digest = fingerprint("pkg.stage", package_root=root)
        assert digest not in seen, f"{source} and {seen[digest]}"
        seen[digest] = source


@pytest.mark.parametrize(
    ("files", "covered"),
    [
        ({"stage.py": "import pkg.a"}, "a"),
        ({"stage.py": "import json, pkg.a as a"}, "a"),
        ({"stage.py": "import pkg"}, ""),
        ({"stage.py": "from pkg import a"}, "a"),
        ({"stage.py": "from pkg import SIZE, a"}, "a"),
        ({"stage.py": "from pkg.a import SIZE"}, "a"),
        ({"stage.py": "from . import a"}, "a"),
        ({"stage.py": "from .a import *"}, "a"),
        ({"stage.py": "def f():\n    class C:\n        from . import a"}, "a"),
        ({"stage.py": "try:\n    import pkg.missing\nexcept ImportError:\n    import pkg.a"}, "a"),
        ({"stage.py": "import os\nimport a\nfrom a import b\nimport pkgother"}, ""),
        ({"stage.py": "# import pkg.a\n'''import pkg.a'''"}, ""),
        ({"stage.py": "from . import a", "a.py": "from . import b", "b.py": ""}, "a b"),
        ({"stage.py": "from . import a", "a.py": "from . import stage"}, "a"),
        ({"stage.py": "from . import stage"}, ""),
        ({"stage.py": "import pkg.sub.one", "sub/one.py": ""}, "sub sub.one"),
        ({"stage.py": "from pkg.sub import one", "sub/one.py": "from . import two"}, "sub sub.one"),
        (
            {
                "stage.py": "from .sub import one",
                "sub/one.py": "from .two import X",
                "sub/two.py": "",
            },
            "sub sub.one sub.two",
        ),
        (
            {
                "stage.py": "import pkg.sub",
                "sub/__init__.py": "from .one import X",
                "sub/one.py": "",
            },
            "sub sub.one",
        ),
        (
            {"stage.py": "import pkg.sub.one", "sub/__init__.py": "from pkg import a"}
            | {"sub/one.py": "from .. import b", "b.py": ""},
            "sub sub.one a b",
        ),
        (
            {"stage.py": "import pkg.sub.one", "sub/one.py": "from ..other.c import X"}
            | {"other/c.py": ""},
            "sub sub.one other other.c",
        ),
    ],
)
def test_covered_modules(tmp_path, files, covered):
    root = write(tmp_path, {"a.py": "SIZE = 1", **files})
    found = modules("pkg.stage", package_root=root)
    assert set(found) == {"pkg", "pkg.stage"} | {f"pkg.{name}" for name in covered.split()}
    assert all(path.is_file() for path in found.values())


def test_circular_imports_count_every_module(tmp_path):
    sources = {
        "stage.py": "from . import a",
        "a.py": "from . import b",
        "b.py": "from . import stage",
    }
    digests = {
        fingerprint("pkg.stage", package_root=write(tmp_path, {**sources, name: text + "\nX = 1"}))
        for name, text in sources.items()
    }
    assert len(digests) == 3


def test_further_roots_are_covered(package):
    alone = fingerprint("pkg.stage", package_root=package)
    both = fingerprint("pkg.stage", "pkg.other", package_root=package)
    assert both != alone
    assert fingerprint("pkg.other", "pkg.stage", package_root=package) == both
    edit(package, "other.py", "1", "2")
    assert fingerprint("pkg.stage", package_root=package) == alone
    assert fingerprint("pkg.stage", "pkg.other", package_root=package) != both


def test_modules_that_decide_nothing_are_left_out(tmp_path):
    files = {"stage.py": "from . import a, shown", "a.py": "X = 1"}
    files |= {"shown.py": "from . import a, chart", "chart.py": "Y = 1"}
    root = write(tmp_path, files)
    what = {"without": ("pkg.shown",), "package_root": root}
    assert set(modules("pkg.stage", **what)) == {"pkg", "pkg.stage", "pkg.a"}
    before = fingerprint("pkg.stage", **what)
    for name, old, new in (("shown.py", "a, chart", "chart, a"), ("chart.py", "1", "2")):
        edit(root, name, old, new)
        assert fingerprint("pkg.stage", **what) == before
    edit(root, "a.py", "1", "2")
    assert fingerprint("pkg.stage", **what) != before
    with pytest.raises(ModuleNotFoundError, match=r"pkg\.missing"):
        fingerprint("pkg.stage", without=("pkg.missing",), package_root=root)


def test_code_moved_between_modules_changes_it(tmp_path):
    root = write(tmp_path, {"stage.py": "from . import a", "a.py": "X = 1\nY = 2"})
    before = fingerprint("pkg.stage", package_root=root)
    write(tmp_path, {"stage.py": "from . import a\nX = 1", "a.py": "Y = 2"})
    assert fingerprint("pkg.stage", package_root=root) != before


def test_place_of_the_package_does_not_matter(tmp_path):
    files = {"stage.py": "from . import a", "a.py": "X = 1"}
    here, there = (write(tmp_path / name, files) for name in ("here", "there"))
    assert fingerprint("pkg.stage", package_root=here) == fingerprint(
        "pkg.stage", package_root=there
    )


@pytest.mark.parametrize("name", ["pkg.missing", "elsewhere.stage", "pkg.stage.apply", ""])
def test_unknown_module_is_named(package, name):
    with pytest.raises(ModuleNotFoundError, match=f"cannot fingerprint {name}"):
        fingerprint("pkg.stage", name, package_root=package)


def test_syntax_error_names_its_file(package):
    edit(package, "deep.py", "2", "(2")
    with pytest.raises(SyntaxError) as caught:
        fingerprint("pkg.stage", package_root=package)
    assert caught.value.filename == str(package / "deep.py")


# Most of the syntax of Python 3.11. Some characters of it are known to newer Unicode tables only.
GOLDEN_SOURCE = r'''
"""A docstring."""

from __future__ import annotations

import os.path as place
from typing import Generic, TypeVar

T = TypeVar("T")
NUMBERS = (1, 1.0, 1e400, 1j, 0xFF, 10_000, True, None, ..., -1, 0.1, 12345678901234567890)
TEXTS = ["a" "b", u"u", b"\x00\xff", r"\d", "\N{BULLET}", "🫨 \u2ffc é", "\ud800", 'quote"\'', ""]


@decorated(1, *[2], key=3, **{"other": 4})
class Box(Generic[T], metaclass=type):
    """A docstring."""

    size: int = 3
    name: "str"

    def __init__(self, a, /, b=1, *args: int, c, d=None, **kwargs: dict[str, T]) -> None:
        """A docstring."""
        self.a, *self.rest = a, *args
        self.x = self.y = b

    @property
    def only_docstring(self):
        """A docstring."""


def formats(x, w, d):
    return (
        f"{x}{w!r}{d['key']!s:>{w}}"
        "joined"
        f"{x = }, {x=:.3f} {{braces}} {x:{w}.{d['p']}f} {f'{x:%H:%M}'!a} {x:} \n {(lambda: 1)()}"
        rf"\d{x:>3}"
        f"""{
            x
        }"""
    )


async def later(stream):
    """A docstring."""
    async with stream as s, other:
        async for item in s:
            await item
    return [i async for i in stream if await i]


def flow(items, *rest: *tuple[int]):
    global counter
    total = 0
    for i, (j, *k) in enumerate(items):
        if (n := len(k)) > 1 and not i or j:
            continue
        elif n is None:
            break
    else:
        pass
    while total < 3 <= 4 != 5:
        total += 1 << 2 ** 3 // 4 % 5 @ 6
        total |= ~total & 1 ^ 2
    try:
        raise ValueError("x") from None
    except (ValueError, TypeError) as error:
        del error, items[0], items[1:2, ::3, ...]
    except OSError:
        raise
    else:
        assert total, "message"
    finally:
        def inner():
            nonlocal total
            yield
            yield total
            yield from items
    try:
        pass
    except* ValueError as group:
        pass
    with (open("a") as a, open("b")):
        pass
    return {**items, "a": 1}, {1, *rest}, {k: v for k, v in items if k if v}, (x for x in items)


match flow([]):
    case 0 | -1.5 | 1 + 2j | "text" | None | True:
        pass
    case [first, *_, Box(size=3, name=str() as name)] if first:
        pass
    case {"key": value, **others}:
        pass
    case place.sep:
        pass
    case _:
        key = lambda *a, b=1, **c: a if b else c
'''

GOLDEN_DIGEST = "6a78dde153b84aab"


def test_golden_digest_on_every_python(tmp_path):
    """The same in every version of Python, or moving to another one would retrain everything."""
    root = write(tmp_path, {"golden.py": GOLDEN_SOURCE})
    assert fingerprint("pkg.golden", package_root=root) == GOLDEN_DIGEST


def rule_fingerprints():
    """Each script's rule: the modules that its fingerprint names, literally or by a pattern."""
    for path in sorted((REPOSITORY / "rules").glob("*.smk")):
        for rule in path.read_text().split("\nrule "):
            script = re.search(r"scripts/(\w+)\.py", rule)
            named = re.search(r"fingerprint\(([^)]*)\)", rule)
            if script and named:
                yield script[1], re.findall(r'"([\w.]+)"', named[1])


@pytest.mark.parametrize(("script", "named"), list(rule_fingerprints()))
def test_rule_fingerprints_what_its_script_imports(script, named):
    """All but svae.logs: where the lines of a log go decides no result."""
    text = (REPOSITORY / "scripts" / f"{script}.py").read_text()
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{name.name}" for name in node.names]
            paths = [REPOSITORY.joinpath(*name.split(".")).with_suffix(".py") for name in names]
            found = [name for name, path in zip(names, paths, strict=True) if path.exists()]
            imported |= set(found or [node.module])
    imported = {name for name in imported if name.startswith("svae.")} - {"svae.logs"}
    assert imported
    assert set(modules(*imported)) <= set(modules(*named))


# Each stage is imported by a process of its own, forked behind the imports that take long.
IMPORT_EACH = """
import importlib, json, os, sys
import h5py, jinja2, keras, matplotlib.figure, scipy.ndimage, sklearn.cluster, tensorflow
assert not [name for name in sys.modules if name.partition(".")[0] == "svae"]
for stage in sys.argv[1:]:
    sys.stdout.flush()
    if os.fork():
        assert os.wait()[1] == 0, stage
    else:
        importlib.import_module(stage)
        names = [name for name in sys.modules if name.partition(".")[0] == "svae"]
        print(json.dumps([stage, names]), flush=True)
        os._exit(0)
"""


@pytest.fixture(scope="module")
def imported():
    """Stage -> the modules of svae that its import brings."""
    run = subprocess.run(
        [sys.executable, "-c", IMPORT_EACH, *STAGES],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return dict(json.loads(line) for line in run.stdout.splitlines())


@pytest.mark.parametrize("stage", STAGES)
def test_stage_covers_what_it_imports(imported, stage):
    assert stage in imported[stage]
    assert set(imported[stage]) <= set(modules(stage))


def test_only_the_standard_library_is_needed():
    script = "import svae.fingerprint as f; f.fingerprint('svae.files'); print('done')"
    run = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.stdout == "done\n", run.stderr
