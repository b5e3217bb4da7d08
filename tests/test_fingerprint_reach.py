"""What the fingerprint of an entry covers: what it uses, and what runs when it is imported."""

import pytest
from helpers.packages import edit, write

from svae.jobs.fingerprint import definitions, fingerprint, modules

STAGE = "def run():\n    return {}\n\n\ndef other():\n    return 1\n"


def covered(root, *entries, **options):
    """The covered definitions, as "module:name" without the name of the package."""
    found = definitions(*(entries or ["pkg.stage:run"]), package_root=root, **options)
    return {
        f"{module.removeprefix('pkg').removeprefix('.')}:{name}"
        for module, names in found.items()
        for name in names
    }


def used(expression, **files):
    """A stage whose `run` returns an expression, after the lines `top`."""
    top = files.pop("top", "")
    return {"stage.py": f"{top}\n{STAGE.format(expression)}"} | {
        f"{name.replace('_in_', '/')}.py": text for name, text in files.items()
    }


AF = "def f(): pass\ndef g(): pass"


@pytest.mark.parametrize(
    ("files", "found"),
    [
        # Names of the same module.
        (used("1"), ""),
        (used("other()"), "stage:other"),
        (used("other"), "stage:other"),
        (used("[x for x in TABLE]", top="TABLE = [1]\nMORE = 2"), "stage:TABLE"),
        (used("f(1)", top="A = 1\ndef f(x=A): return x\nB = 2"), "stage:f stage:A"),
        (used("f(1)", top="A = 1\n@A\ndef f(x): return x\nB = 2"), "stage:f stage:A"),
        (used("C()", top="class A: pass\nclass B: pass\nclass C(A): pass"), "stage:A stage:C"),
        (used("C()", top="A = 1\nclass C:\n    def f(self): return A"), "stage:A stage:C"),
        (used("C.f()", top="A = 1\nclass C:\n    x = A\n    def f(): pass"), "stage:A stage:C"),
        (used("a", top="a, (b, *c) = 1, [2, 3]"), "stage:a stage:b stage:c"),
        (used("a", top="a: int = 1\nb: int = 2"), "stage:a"),
        (used("a", top="a = b = 1"), "stage:a stage:b"),
        (used("a", top="a = (b := 1)"), "stage:a stage:b"),
        (used("a", top="a = [1]\na += [2]\nb = 1"), "stage:a"),
        (used("a", top="if other:\n    a = 1\nelse:\n    b = 2"), "stage:a stage:b stage:other"),
        (used("a", top="try:\n    import a\nexcept ImportError:\n    a = None"), "stage:a"),
        (used("a", top="A = 1\ndef a():\n    def inner(): return A"), "stage:a stage:A"),
        (used("lambda: A", top="A = 1"), "stage:A"),
        (used("a", top="A = 1\ndef a(): return f'{A}'"), "stage:a stage:A"),
        (used("a", top="def a(): return a()"), "stage:a"),
        (used("a", top="def a(): return b()\ndef b(): return a()"), "stage:a stage:b"),
        # Annotations, texts of errors and log lines use nothing.
        (used("a", top="class A: pass\ndef a(x: A) -> A: pass"), "stage:a"),
        (used("a", top="A = 1\ndef a(): raise E(f'{A}')"), "stage:a"),
        (used("a", top="A = 1\nlog = logging.getLogger()\ndef a(): log.info(A)"), "stage:a"),
        # A name that is only assigned, or that is bound elsewhere, is not used; a variable may be.
        (used("a", top="A = 1\ndef a():\n    A = 2"), "stage:a"),
        (used("x.A", top="A = 1"), ""),
        (used("f(A=1)", top="A = 1"), ""),
        (used("'A'", top="A = 1"), ""),
        (used("a", top="A = 1\ndef a():\n    A = 2\n    return A"), "stage:a stage:A"),
        (used("a", top="A = 1\nB = [A for A in ()]\ndef a(): return A"), "stage:a stage:A"),
        # Names that a function binds by `global`.
        (used("A", top="A = 1\ndef f():\n    global A\n    A = 2"), "stage:A stage:f"),
        (used("A", top="def f():\n    global A\n    A = 2"), "stage:f"),
        (used("A", top="A = 1\ndef f():\n    A = 2"), "stage:A"),
        # Names that are computed.
        (used("globals()['other']()"), "stage:other"),
        (used("eval('other()')"), "stage:other"),
        (used("vars()['other']"), "stage:other"),
        (used("vars(x)"), ""),
        # Names of other modules.
        (used("a.f()", top="from pkg import a", a="def f(): pass\ndef g(): pass"), "a:f"),
        (used("a.f()", top="from . import a", a="def f(): pass\ndef g(): pass"), "a:f"),
        (used("a.f", top="import pkg.a as a", a="def f(): pass\ndef g(): pass"), "a:f"),
        (used("pkg.a.f", top="import pkg.a", a="def f(): pass\ndef g(): pass"), "a:f"),
        (used("f()", top="from pkg.a import f, g", a="def f(): pass\ndef g(): pass"), "a:f"),
        (used("h()", top="from .a import f as h", a="def f(): pass\ndef h(): pass"), "a:f"),
        (used("f()", top="from .a import f", a="X = 1\ndef f(): return X"), "a:f a:X"),
        (used("a.f.x", top="from pkg import a", a="def f(): pass\nx = 1"), "a:f"),
        (used("a.C().f()", top="from pkg import a", a="class C: f = 1\ndef f(): pass"), "a:C"),
        (used("1", top="from .a import f\nfrom pkg import a", a="def f(): pass"), ""),
        (used("b.f", top="from .s import b", s_in_b="def f(): pass\nx = 1"), "s.b:f"),
        (used("s.b.f", top="from . import s", s_in_b="def f(): pass\nx = 1"), "s.b:f"),
        (used("f()", top="from .s.b import f", s_in_b="def f(): pass\nx = 1"), "s.b:f"),
        (
            used("f()", top="from .s.b import f", s_in_b="from ..a import f", a="def f(): pass"),
            "a:f",
        ),
        (used("A", top="from pkg import A", __init__="A = 1\nB = 2"), ":A"),
        # Names that a module only re-exports.
        (
            used("f()", top="from .a import f", a="from .b import f", b="def f(): pass\nx = 1"),
            "b:f",
        ),
        (used("a.h", top="from . import a", a="from .b import f as h", b="f = 1\nh = 2"), "b:f"),
        (used("a.b.f", top="from . import a", a="from . import b", b="f = 1\ng = 2"), "b:f"),
        (
            used("f", top="from pkg import f", __init__="from .a import f, g", a="f = 1\ng = 2"),
            "a:f",
        ),
        # Imports within functions and classes.
        (
            used("f()", top="def f():\n    from .a import g\n    g()", a="g = h = 1"),
            "stage:f a:g a:h",
        ),
        (
            used("f()", top="def f():\n    from . import a\n    a.g()", a="g = 1\nh = 2"),
            "stage:f a:g",
        ),
        (
            used("C", top="class C:\n    from .a import g\n    h = g", a="g = 1\nh = 2"),
            "stage:C a:g",
        ),
        (used("1", top="def f():\n    from .a import g\n    g()", a="g = 1"), ""),
        # A module that is used as an object is used as a whole, with what it re-exports.
        (used("getattr(a, x)", top="from . import a", a="f = 1\ndef g(): pass"), "a:f a:g"),
        (used("h(a)", top="import pkg.a as a", a="f = 1\ndef g(): pass"), "a:f a:g"),
        (used("b", top="from . import a\nb = a", a="f = 1\ng = 2"), "stage:b a:f a:g"),
        (used("h(a)", top="from . import a", a="from .b import f", b="f = 1\ng = 2"), "b:f"),
        (used("h(a)", top="from . import a", a="from . import b", b="f = 1\ng = 2"), "b:f b:g"),
        (used("h(pkg)", top="import pkg.a", a="f = 1", b="g = 1"), "a:f stage:other"),
        # So is one that does not seem to have the name.
        (
            used("a.h", top="from . import a", a="def __getattr__(name): return f\nf = 1\ng = 2"),
            "a:f a:g a:__getattr__",
        ),
        (used("a.h", top="from . import a", a="f = 1\ng = 2\nglobals()['h'] = f"), "a:f a:g"),
        (used("a.h", top="from . import a", a="from .b import *", b="h = 1\ng = 2"), "b:h b:g"),
        (used("h", top="from .b import *", b="h = 1\ng = 2"), "b:h b:g"),
        (used("a.__name__", top="from . import a", a="f = 1"), ""),
        # Names in strings.
        (used("Popen(CODE)", top="CODE = 'from pkg.a import f'", a=AF), "stage:CODE a:f a:g"),
        (used("import_module('pkg.a').f()", a=AF), "a:f a:g"),
        (used("import_module('pkg.a.f')", a=AF), "a:f"),
        (used("'pkg.a.f is used'", a=AF), "a:f"),
        (used("import_module(f'pkg.s.{x}').f()", s_in_b=AF), ""),
        (used("import_module(f'pkg.{x}').f()", a=AF), ""),
        (used("'pkgs.a', 'other.pkg.a', 'pkg', 'a', 'pkg.missing'", a=AF), ""),
        # Names of other packages, or of none.
        (used("json.loads(np.array(x))", top="import json\nimport numpy as np"), ""),
        (used("a.f()", top="import a", a="f = 1"), ""),
    ],
)
def test_covered(tmp_path, files, found):
    root = write(tmp_path, files)
    assert covered(root) == {"stage:run", *found.split()}


ACTING = {
    "f()": "f",
    "TABLE['a'] = f": "f TABLE",
    "TABLE.a = f": "f TABLE",
    "del TABLE['a']": "TABLE",
    "TABLE.update(a=f)": "f TABLE",
    "TABLE['a'].append(f)": "f TABLE",
    "x = TABLE.pop(0)": "TABLE x",
    "for x in (f,): TABLE.append(x)": "f TABLE x",
    "with f: pass": "f",
    "while f(): pass": "f",
    "assert f()": "f",
    "if f(): pass": "f",
    "if x: TABLE.append(f)": "f TABLE",
    "try: f()\nexcept E: pass": "f",
    "x = y = f(1)": "f x y",
    "x: int = f(1)": "f x",
    "x = [g(1)]": "x g f TABLE",
    "@f\ndef x(): pass": "f x",
    "@f(1)\nclass x: pass": "f x",
    "@f.register\ndef x(): pass": "f x",
    "def x(y=f(1)): pass": "f x",
    "class x(f(1)): pass": "f x",
    "class x(metaclass=f(1)): pass": "f x",
    "class x:\n    y = f(1)": "f x",
    "class x:\n    TABLE.append(f)": "f x TABLE",
    "class x:\n    @f\n    def y(self): pass": "f x",
    "x = numpy.random.seed(1)": "x",
    "x = map(f, y)": "f x",
    "x = Made()": "x Made f",
    "from . import a\na.X = f": "f",
    "x = TABLE\nx |= [f]": "x f TABLE",
    "from .a import Y\nY += [f]": "f Y",
}
STILL = [
    "x = 1",
    "x: int = f",
    "x: f(1)",
    "x = {'a': f, 'b': [TABLE]}",
    "x = f.y",
    "x = TABLE['a']",
    "x = re.compile('a')",
    "x = math.log(2) + len('a') + int(3)",
    "x = np.arange(3).astype(np.uint8)",
    "x = (n for n in range(3))",
    "x = tuple(str(n) for n in range(3))",
    "x = ','.join(['a']).split('a')",
    "x = Plain(1, f, lambda: f())",
    "x = Named(f)",
    "x = still(1)",
    "x = lambda: f()",
    "x = Path(__file__).parent / 'a'",
    "x = sorted(TABLE, key=lambda y: len(y))",
    "def x(y=f): pass",
    "def x(y=Path('/')): pass",
    "@functools.cache\ndef x(): pass",
    "@functools.lru_cache(maxsize=3)\ndef x(): pass",
    "@cached\ndef x(): pass",
    "@contextlib.contextmanager\ndef x(): yield",
    "@tf.function(jit_compile=True)\ndef x(): pass",
    "@keras.saving.register_keras_serializable()\nclass x(keras.Model): pass",
    "@dataclass(frozen=True)\nclass x:\n    y: list = field(default_factory=list)",
    "class x:\n    @property\n    def y(self): f()\n    @y.setter\n    def y(self, z): f()",
    "class x(Exception):\n    @staticmethod\n    def y(): f()",
    "class x(Plain, metaclass=abc.ABCMeta): pass",
    "class x(Made): pass",
    "class x(Generic[T]): pass",
    "if sys.platform == 'linux':\n    def x(): f()",
    "try:\n    import lmdb\nexcept ImportError:\n    lmdb = None",
    "if __name__ == '__main__':\n    f()",
    "'''A text.'''",
    "from .a import X",
    "log.info(f)",
]
AROUND = """
import abc, contextlib, functools, keras, logging, math, numpy, re, sys
from dataclasses import dataclass, field
from functools import cache as cached
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar
import numpy as np
import tensorflow as tf
log = logging.getLogger(__name__)
TABLE = []
T = TypeVar('T')
def f(x): TABLE.append(x)
def g(x): return f(x)
def still(x): return [len(x), x.split()]
def unused():
    return contextlib, functools, keras, math, numpy, re, sys, Path, np, tf
    return abc, cached, dataclass, field
class Plain: x: int
class Named(NamedTuple): x: int
class Made:
    def __init__(self): f(self)
"""


@pytest.mark.parametrize(("statement", "found"), ACTING.items())
def test_statements_with_effects_are_covered_wherever_their_module_is_imported(
    tmp_path, statement, found
):
    files = {"a.py": "X = 1\nY = []", "table.py": AROUND + statement}
    for number, top in enumerate(("from .table import still", "from . import b")):
        stage = f"{top}\ndef run(): return 1\n"
        root = write(
            tmp_path / str(number), files | {"stage.py": stage, "b.py": "import pkg.table"}
        )
        names = {f"table:{name}" for name in found.split()}
        assert {name for name in covered(root) if name.startswith("table:")} >= names
        assert "table:still" not in covered(root)
        before = fingerprint("pkg.stage:run", package_root=root)
        edit(root, "table.py", statement, f"{statement}\nwith f: pass")
        assert fingerprint("pkg.stage:run", package_root=root) != before


@pytest.mark.parametrize("statement", STILL)
def test_statements_without_effects_are_not(tmp_path, statement):
    stage = "from .table import unused\ndef run(): return 1\n"
    before = fingerprint(
        "pkg.stage:run", package_root=write(tmp_path, {"stage.py": stage, "table.py": AROUND})
    )
    root = write(tmp_path, {"table.py": AROUND + statement, "a.py": "X = 1"})
    assert covered(root) == {"stage:run"}
    assert fingerprint("pkg.stage:run", package_root=root) == before


@pytest.mark.parametrize(
    ("hook", "used"),
    [
        ("class Base:\n    def __init_subclass__(cls): ALL.append(cls)", "ALL"),
        (
            "class Meta(type):\n    def __init__(cls, *a): ALL.append(cls)\n"
            "class Base(metaclass=Meta): pass",
            "ALL",
        ),
        (
            "class Far:\n    def __init_subclass__(cls): ALL.append(cls)\nclass Base(Far): pass",
            "ALL",
        ),
        ("class Base: pass\ndef all_of(): return Base.__subclasses__()", "all_of()"),
        ("class Base: pass\ndef all_of(): return type(x).__subclasses__()", "all_of()"),
        ("class Base: pass\nBase = Base", "Base"),  # cannot be known
    ],
)
def test_classes_that_register_themselves_are_covered(tmp_path, hook, used):
    files = {
        "base.py": f"ALL = []\n{hook}",
        "one.py": "from .base import Base\nclass One(Base):\n    def f(self): return help()\n"
        "def help(): return 1\ndef other(): return 2\nclass Other: pass",
        "stage.py": f"from . import base, one\ndef run(): return base.{used}\n",
    }
    root = write(tmp_path, files)
    assert covered(root) >= {"one:One", "one:help"}
    assert covered(root).isdisjoint({"one:other", "one:Other"})


@pytest.mark.parametrize(
    "text",
    [
        "from . import b",
        "import pkg.b",
        "from .b import Y",
        "def f():\n    from . import c\nclass C:\n    from .b import Y",
        "try:\n    from . import b\nexcept ImportError:\n    pass",
    ],
)
def test_indirect_imports_have_effects_too(tmp_path, text):
    files = {"a.py": text, "b.py": "Y = 1\nf()\ndef f(): pass", "c.py": "f()\ndef f(): pass"}
    root = write(tmp_path, {"stage.py": "from . import a\ndef run(): pass", **files})
    assert covered(root) == {"stage:run", "b:f"}
    assert set(modules("pkg.stage:run", package_root=root)) == {
        "pkg",
        "pkg.stage",
        "pkg.a",
        "pkg.b",
    }


def test_parent_packages_have_effects(tmp_path):
    files = {"__init__.py": "f()\ndef f(): pass", "s/__init__.py": "g()\ndef g(): pass\nh = 1"}
    stage = "from .s.a import x\ndef run(): pass"
    root = write(tmp_path, {"stage.py": stage, "s/a.py": "x = 1", **files})
    assert covered(root) == {"stage:run", ":f", "s:g"}


def changed(tmp_path, before, after, entry="pkg.stage:run"):
    """Whether two texts of the same stage have different fingerprints."""
    files = {"a.py": "def f(): pass\ndef g(): pass\nX = []", "b.py": "def f(): pass\nX = []"}
    digests = {
        fingerprint(entry, package_root=write(tmp_path, {**files, "stage.py": text}))
        for text in (before, after)
    }
    return len(digests) == 2


RUN = "def run():\n    return f()\n"
ONE, TWO = "def f():\n    return T\n", "class T:\n    pass\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # The order of definitions, and what is between them.
        (RUN + ONE + TWO, TWO + RUN + ONE),
        (RUN + ONE + TWO, ONE + "X = 1\n" + TWO + "def unused(): pass\n" + RUN),
        ("X = 1\nY = 2\ndef run(): return X, Y", "Y = 2\nX = 1\ndef run(): return X, Y"),
        ("X = []\nX.append(1)\n" + RUN + ONE, RUN + ONE + "X = []\nX.append(1)"),
        # Unused imports.
        (RUN + ONE, "import numpy as np\ndef unused(): return np\n" + RUN + ONE),
        (RUN + ONE, "import pkg.a\nfrom . import b\n" + RUN + ONE),
        ("from .a import f\n" + RUN, "from .a import f, g\n" + RUN),
        ("from .a import f\n" + RUN, "from pkg.a import f\n" + RUN),
        ("import re\ndef run(x): return re", "import os, re\ndef run(x: os): return re"),
        (
            "def run():\n    def f(x): pass\n    return 1",
            "def run():\n    import re\n    def f(x: re): pass\n    return 1",
        ),
        ("X = 1\ndef run(): pass", "X = 2\ndef run(): pass"),
        ("def run(): pass", "__version__ = '2'\ndef run(): pass"),
        # The line of an import.
        ("import os\nimport re\ndef run(): return re", "import re, os\ndef run(): return re"),
    ],
)
def test_edits_that_do_not_matter(tmp_path, before, after):
    if "os" in before:
        before, after = f"{before}\ndef x(): return os", f"{after}\ndef x(): return os"
    assert not changed(tmp_path, before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("from .a import f\n" + RUN, "from .b import f\n" + RUN),
        ("from .a import f\n" + RUN, "from .a import g as f\n" + RUN),
        ("from math import log as f\n" + RUN, "from math import exp as f\n" + RUN),
        (RUN, "def f(): pass\n" + RUN),
        ("def run(): return sorted(())", "def sorted(x): pass\ndef run(): return sorted(())"),
        (ONE + TWO + RUN, ONE + TWO + RUN + "f = print\n"),
        (
            "def f(): return 1\ndef f(): return 2\n" + RUN,
            "def f(): return 2\ndef f(): return 1\n" + RUN,
        ),
        ("X = []\nX.append(1)\nX.append(2)\n" + RUN, "X = []\nX.append(2)\nX.append(1)\n" + RUN),
        ("X = []\nf = len(X)\nX.append(1)\n" + RUN, "X = []\nX.append(1)\nf = len(X)\n" + RUN),
        ("def run(): pass", "import numpy\ndef run(): pass"),
        ("def run(): pass", "import numpy\ndef run(): pass # numpy"),
        ("def run(): pass", "def run():\n    import numpy"),
        ("def run(): pass", "def run():\n    import pkg.a"),
        ("def run():\n    from .a import f\n    f()", "def run():\n    from .b import f\n    f()"),
        ("from .a import *\n" + RUN, "from .b import *\n" + RUN),
        ("import numpy as np\ndef run(): return np", "import math as np\ndef run(): return np"),
        ("import a.b\nimport a.c\ndef run(): return a", "import a.b\ndef run(): return a"),
        ("def run(): return a.X", "from . import a\ndef run(): return a.X"),
    ],
)
def test_edits_that_matter(tmp_path, before, after):
    assert changed(tmp_path, before, after)


TABLE = {
    "table.py": """
        from .more import h
        def low(): return help_of_low()
        def full(): return h()
        def help_of_low(): pass
        ALL = {"low": low, "full": full}
        """,
    "more.py": "def h(): pass",
    "stage.py": "from . import table\ndef run(name): return table.ALL[name]()",
}


@pytest.mark.parametrize(
    ("entries", "without", "found"),
    [
        ("", "", "table:ALL table:low table:help_of_low table:full more:h"),
        ("", "table:ALL", ""),
        ("table:low", "table:ALL", "table:low table:help_of_low"),
        ("table:full", "table:ALL", "table:full more:h"),
        ("table:full", "table:ALL more", "table:full"),
        ("", "table:full", "table:ALL table:low table:help_of_low"),
        ("", "table", ""),
        ("table", "more:h", "table:ALL table:low table:help_of_low table:full"),
    ],
)
def test_what_is_left_out(tmp_path, entries, without, found):
    root = write(tmp_path, TABLE)
    entries = ["pkg.stage:run", *(f"pkg.{name}" for name in entries.split())]
    what = {"without": tuple(f"pkg.{name}" for name in without.split())}
    assert covered(root, *entries, **what) == {"stage:run", *found.split()}


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("@enter\ndef low(): pass\n@enter\ndef full(): pass", "pkg.table:enter"),
        ("@enter\ndef low(): pass\n@enter\ndef full(): pass", "pkg.passed_on:entered"),
        (
            "def low(): pass\ndef full(): pass\nALL['low'] = low\nALL['full'] = full",
            "pkg.table:ALL",
        ),
        ("def low(): pass\ndef full(): pass\nALL.update(low=low, full=full)", "pkg.table:ALL"),
        ("def low(): pass\ndef full(): pass\nALL |= {'low': low, 'full': full}", "pkg.table:ALL"),
    ],
)
def test_the_entries_of_a_table_that_is_left_out_are_not_covered(tmp_path, text, without):
    table = f"ALL = {{}}\ndef enter(f): ALL[f.__name__] = f\n{text}"
    root = write(
        tmp_path,
        {
            "table.py": table,
            "passed_on.py": "from .table import enter as entered",
            "stage.py": TABLE["stage.py"],
        },
    )
    entries = "pkg.stage:run", "pkg.table:low"
    everything = covered(root, *entries)
    assert {"table:low", "table:full", "table:ALL"} <= everything
    left = covered(root, *entries, without=(without,))
    assert {"table:low", "stage:run"} <= left and "table:full" not in left


def test_a_table_of_another_module_that_is_left_out(tmp_path):
    files = TABLE | {"enter.py": "from . import table\ndef f(): pass\ntable.ALL['f'] = f"}
    root = write(tmp_path, files | {"stage.py": "from . import enter\ndef run(): pass"})
    assert covered(root) >= {"enter:f", "table:ALL"}
    assert covered(root, without=("pkg.table:ALL",)) == {"stage:run"}


def test_an_entry_that_is_left_out_is_an_error(tmp_path):
    root = write(tmp_path, {"stage.py": "def run(): pass"})
    for without in ("pkg.stage:run", "pkg.stage"):
        with pytest.raises(ValueError, match=r"cannot fingerprint pkg\.stage:run: it is left out"):
            fingerprint("pkg.stage:run", without=(without,), package_root=root)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("pkg.missing", ModuleNotFoundError),
        ("pkg.missing:run", ModuleNotFoundError),
        ("elsewhere.stage", ModuleNotFoundError),
        ("pkg.stage.run", ModuleNotFoundError),
        ("", ModuleNotFoundError),
        ("pkg.stage:missing", AttributeError),
        ("pkg.stage:run.inner", AttributeError),
        ("pkg.stage:print", AttributeError),
        ("pkg.stage:", AttributeError),
    ],
)
def test_an_unknown_name_is_an_error(tmp_path, name, error):
    root = write(tmp_path, {"stage.py": "def run(): pass"})
    with pytest.raises(error, match=f"cannot fingerprint {name}: no such"):
        fingerprint("pkg.stage", name, package_root=root)
    with pytest.raises(error, match=f"cannot fingerprint {name}: no such"):
        fingerprint("pkg.stage", without=(name,), package_root=root)
