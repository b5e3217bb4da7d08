"""The fingerprint of a stage's code: which edits change it and which do not."""

import subprocess
import sys
from pathlib import Path

import pytest
from helpers.packages import edit, write

from svae.jobs.fingerprint import fingerprint, modules

REPOSITORY = Path(__file__).parents[1]

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
        ("deep.py", "STEP = 2", "STEP: int = 2"),
        ("other.py", "1", "2"),
        ("__init__.py", "SIZE = 3", "SIZE = 4"),
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
        ("__init__.py", "SIZE = 3", "f(3)"),
        ("helper.py", "deep.STEP * x", "deep.STEP / x"),
        ("deep.py", "STEP = 2", "STEP = 3"),
    ],
)
def test_edits_with_meaning_change_it(package, file, old, new):
    before = fingerprint("pkg.stage", package_root=package)
    edit(package, file, old, new)
    assert fingerprint("pkg.stage", package_root=package) != before


LOG = "log = logging.getLogger(__name__)\n"
DATACLASS = "@dataclass\nclass A:\n    "
MAKER = "def wrong(what):\n    text = what + '!'\n    return OSError(text)\n"
SAME_NAME = "class A:\n    def wrong(self, what): f(what)\n"
LOSS = "class LossError(Loss):\n    pass\n"
OWN = "class Own(OSError):\n    pass\n"
FAILURE = "class Failure(Own):\n    pass\n"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Statements without effect.
        ("f()", "'Text.'\nf()\n'Text.'"),
        ("if x:\n    pass", "if x:\n    'Text.'\n    ..."),
        ("for x in y:\n    f()", "for x in y:\n    'Text.'\n    f()\nelse:\n    pass"),
        ("class A:\n    b = 1", "class A:\n    b = 1\n    'Text.'"),
        # Annotations.
        ("def f(x, *y, z=1, **k): f()", "def f(x: A, *y: B, z: 'C' = 1, **k: D) -> E[F]: f()"),
        ("async def f(x): f()", "async def f(x: A) -> B: f()"),
        ("def f():\n    x = 1", "def f():\n    y: A\n    x: B = 1"),
        (
            "class A:\n    def f(self):\n        x = 1",
            "class A:\n    def f(self):\n        x: B = 1",
        ),
        ("x.y = z[0] = 1", "x.y = z[0] = 1\nx.z: int"),
        (f"{DATACLASS}x: int\n    y: int = 1", f"{DATACLASS}x: 'str'\n    y: list[str] = 1"),
        (f"{DATACLASS}x: ClassVar[int] = 1", f"{DATACLASS}x: 'typing.ClassVar' = 1"),
        ("f()", "from typing import Any\nfrom collections.abc import Iterator\nf()"),
        # Texts of errors.
        ("raise E('one')", "raise E('another')"),
        ("raise E('one')", "raise E(f'{x}: {len(y)}, {a.b[0]:>3}' + x)"),
        ("raise E('one')", "raise E('%s %s' % (x, y))"),
        ("raise E('one')", "raise E(', '.join(sorted(x)))"),
        ("raise E('one')", "raise E('{}'.format(x))"),
        ("raise E('one')", "raise E('one' if x else y)"),
        ("raise a.E('one', 1) from None", "raise a.E('another', 1) from None"),
        ("raise _Lost(text='one')", "raise _Lost(text='another')"),
        ("e = ValueError('one')", "e = ValueError(f'another {x}')"),
        (f"{OWN}e = Own('one')", f"{OWN}e = Own('another')"),
        (f"{FAILURE}{OWN}e = Failure('one')", f"{FAILURE}{OWN}e = Failure('another')"),
        (f"{MAKER}raise wrong('one')", f"{MAKER}raise wrong('another')"),
        ("raise E(f'{f(x)}')", "raise E(f'Not {f(x)!r}: {f}')"),
        ("assert x, 'one'", "assert x"),
        # Log lines and warnings.
        ("f()", "import logging\nlog = logging.getLogger(__name__)\nf()\nlog.info('%d', x)"),
        ("f()", "import warnings\nwarnings.warn('text', stacklevel=2)\nf()"),
        ("f()", "logging.getLogger('a').warning(f'{x}: {len(y)}')\nf()"),
        ("if x:\n    pass", "if x:\n    logging.error('text %s', x, exc_info=True)"),
        (f"{LOG}log.info('%s', f(x))", f"{LOG}log.warning('another %s', f(x))"),
        (f"{LOG}f(x)", f"{LOG}log.warning('another %s', f(x))"),
    ],
)
def test_sources_with_one_meaning_share_one(tmp_path, one, other):
    assert digest_of(tmp_path, one) == digest_of(tmp_path, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        # Statements with an effect.
        ("f()", "'text'.f()"),
        ("'text'", "f'{text()}'"),
        ("if x:\n    pass", "f()"),
        # Parts of annotations that a dataclass reads.
        (f"{DATACLASS}x: int", f"{DATACLASS}y: int"),
        (f"{DATACLASS}x: int = 1", f"{DATACLASS}x = 1"),
        (f"{DATACLASS}x: int = 1", f"{DATACLASS}x: int = 2"),
        (f"{DATACLASS}x: int\n    y: int", f"{DATACLASS}y: int\n    x: int"),
        (f"{DATACLASS}x: int = 1", f"{DATACLASS}x: ClassVar[int] = 1"),
        (f"{DATACLASS}x: int", f"{DATACLASS}x: 'dataclasses.InitVar[int]'"),
        (f"{DATACLASS}_: int\n    x: int", f"{DATACLASS}_: KW_ONLY\n    x: int"),
        (f"{DATACLASS}if y:\n        x: int", f"{DATACLASS}if y:\n        pass"),
        ("from typing import NamedTuple\nclass A(NamedTuple): f()", "class A: f()"),
        ("from typing import Any as A", "from typing import Text as A"),
        ("from json import loads", "from json import load"),
        # Errors.
        ("raise E('one')", "raise F('one')"),
        ("raise E('one')", "pass"),
        ("raise E('one')", "E('one')"),
        ("raise E('one')", "raise E(1)"),
        ("raise E('one')", "raise E('one', 1)"),
        ("raise E('one', 1)", "raise E('one', 2)"),
        ("raise E('one', retry=True)", "raise E('one', retry=False)"),
        ("raise E('one')", "raise E(f'{f(x)}')"),
        ("raise E(f'{f(1)}')", "raise E(f'{f(2)}')"),
        ("raise E(f'{f(1) if x else y}')", "raise E(f'{f(1)}')"),
        ("raise E(f('one'))", "raise E(f('another'))"),
        ("raise E['one']('x')", "raise E['another']('x')"),
        ("raise f('one')", "raise f('another')"),
        ("assert x, f(1)", "assert x, f(2)"),
        ("assert x", "assert y"),
        # Named like an error, but none.
        ("x = keras.losses.MeanSquaredError('sum')", "x = keras.losses.MeanSquaredError('none')"),
        ("x = MeanSquaredError(reduction='sum')", "x = MeanSquaredError(reduction='none')"),
        (f"{LOSS}x = LossError('sum')", f"{LOSS}x = LossError('none')"),
        ("x = square_error('sum')", "x = square_error('none')"),
        ("def f(x):\n    return x\nf('a')", "def f(x):\n    return x\nf('b')"),
        (f"{MAKER}{SAME_NAME}wrong('a')", f"{MAKER}{SAME_NAME}wrong('b')"),
        # Effects within a log line.
        (f"{LOG}log.info('%s', f(x))", LOG),
        (f"{LOG}log.info('%s', f(1))", f"{LOG}log.info('%s', f(2))"),
        (f"{LOG}log.info('%s', f(x), g(x))", f"{LOG}log.info('%s', g(x), f(x))"),
        (f"{LOG}log.info('%s', x := 1)", LOG),
        (f"{LOG}log.info('%s', list(x))", LOG),
        (f"{LOG}log.info('%s', [a for a in x])", LOG),
        (f"{LOG}log.info(*x)", LOG),
        (f"{LOG}async def f():\n    log.info(await x)", f"{LOG}async def f():\n    pass"),
        # Calls that look like those of a logger.
        ("np.log(x)", "pass"),
        ("log.info('one')", "log.info('another')"),
        ("self.log.info('one')", "pass"),
        ("logging.basicConfig(level='INFO')", "logging.basicConfig(level='DEBUG')"),
        ("warnings.simplefilter('ignore')", "warnings.simplefilter('error')"),
        ("warnings('one')", "warnings('another')"),
        # Strings.
        ("x == 'one'", "x == 'another'"),
        ("x['one'] = 1", "x['another'] = 1"),
        ("x = {'one': 1}", "x = {'another': 1}"),
        ("open(f'{x}.one')", "open(f'{x}.another')"),
        ("def f(): return 'one'", "def f(): return 'another'"),
        ("def f(x='one'): pass", "def f(x='another'): pass"),
        ("@f('one')\nclass A: pass", "@f('another')\nclass A: pass"),
    ],
)
def test_sources_with_different_meanings_do_not(tmp_path, one, other):
    assert digest_of(tmp_path, one) != digest_of(tmp_path, other)


def digest_of(folder, source):
    return fingerprint("pkg.stage", package_root=write(folder, {"stage.py": source}))


def test_errors_of_another_module_are_known(tmp_path):
    """By their classes, in whichever covered module these are."""
    stage = "from pkg.errors import Lost\n\n\ndef f():\n    return Lost('one')\n"
    for base, same in (("Exception", True), ("dict", False)):
        root = write(tmp_path, {"stage.py": stage, "errors.py": f"class Lost({base}):\n    pass"})
        before = fingerprint("pkg.stage", package_root=root)
        edit(root, "stage.py", "one", "another")
        assert (fingerprint("pkg.stage", package_root=root) == before) == same


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
def test_imported_modules(tmp_path, files, covered):
    root = write(tmp_path, {"a.py": "SIZE = 1", **files})
    found = modules("pkg.stage", package_root=root)
    assert set(found) == {"pkg", "pkg.stage"} | {f"pkg.{name}" for name in covered.split()}
    assert all(path.is_file() for path in found.values())


def test_circular_imports_count_every_module(tmp_path):
    sources = {
        "stage.py": "from . import a\nX = a.X",
        "a.py": "from . import b\nX = b.X",
        "b.py": "from . import stage\ndef X(): return stage.X",
    }
    digests = {
        fingerprint("pkg.stage", package_root=write(tmp_path, {**sources, name: f"{text}, 1"}))
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


def test_modules_without_influence_are_left_out(tmp_path):
    files = {"stage.py": "from . import a, shown\nX = a.X, shown.Y", "a.py": "X = 1"}
    files |= {"shown.py": "from . import a, chart\nY = chart.Y", "chart.py": "Y = 1"}
    root = write(tmp_path, files)
    what = {"without": ("pkg.shown",), "package_root": root}
    assert set(modules("pkg.stage", **what)) == {"pkg", "pkg.stage", "pkg.a"}
    before = fingerprint("pkg.stage", **what)
    for name, old, new in (("shown.py", "Y = chart", "Y = 2, chart"), ("chart.py", "1", "2")):
        edit(root, name, old, new)
        assert fingerprint("pkg.stage", **what) == before
    edit(root, "a.py", "1", "2")
    assert fingerprint("pkg.stage", **what) != before
    with pytest.raises(ModuleNotFoundError, match=r"pkg\.missing"):
        fingerprint("pkg.stage", without=("pkg.missing",), package_root=root)


def test_code_moved_between_modules_changes_it(tmp_path):
    root = write(tmp_path, {"stage.py": "from .a import *\nZ = X", "a.py": "X = 1\nY = 2"})
    before = fingerprint("pkg.stage", package_root=root)
    write(tmp_path, {"stage.py": "from .a import *\nX = 1\nZ = X", "a.py": "Y = 2"})
    assert fingerprint("pkg.stage", package_root=root) != before


def test_location_of_the_package_does_not_matter(tmp_path):
    files = {"stage.py": "from . import a", "a.py": "X = 1"}
    here, there = (write(tmp_path / name, files) for name in ("here", "there"))
    assert fingerprint("pkg.stage", package_root=here) == fingerprint(
        "pkg.stage", package_root=there
    )


def test_syntax_error_names_its_file(package):
    edit(package, "deep.py", "2", "(2")
    with pytest.raises(SyntaxError) as caught:
        fingerprint("pkg.stage", package_root=package)
    assert caught.value.filename == str(package / "deep.py")


# Most of the syntax of Python 3.11. Some characters are only in newer Unicode tables.
GOLDEN_SOURCE = r'''
"""A docstring."""

from __future__ import annotations

import logging, warnings
import os.path as place
from collections.abc import Iterator, Sequence as S
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


log = logging.getLogger(__name__)


class Lost(OSError):
    kind: ClassVar[str] = "lost"
    """A docstring."""


def texts(path, *others):
    "A docstring."
    first: Lost
    second: Lost = Lost(f"{path}: {find(path)!r:>{others[0]}} " "is lost", 3)
    log.info("%s %d", path, len(others))
    log.warning(f"{path} {remove(path)}")
    warnings.warn("%s" % path, UserWarning, stacklevel=2)
    assert others, f"{path} {', '.join(others)}"
    raise errors.Failure("a" + path if others else "b", retry=True) from second


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

GOLDEN_DIGEST = "cc48f5f70c76f60b"


def test_golden_digest_on_every_python(tmp_path):
    """The same in every version of Python; otherwise an upgrade would retrain everything."""
    root = write(tmp_path, {"golden.py": GOLDEN_SOURCE})
    assert fingerprint("pkg.golden", package_root=root) == GOLDEN_DIGEST


def test_only_the_standard_library_is_needed():
    script = "import svae.jobs.fingerprint as f; f.fingerprint('svae.jobs.files'); print('done')"
    run = subprocess.run(
        [sys.executable, "-S", "-c", script], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.stdout == "done\n", run.stderr
