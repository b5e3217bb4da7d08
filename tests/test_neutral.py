"""Neutral settings: what remains of the code that reads them, and of the record of a run."""

import ast
import dataclasses
import itertools

import pytest

from svae.jobs.folding import fold
from svae.jobs.neutral import restored, same, with_neutral, without_neutral

NEUTRAL = {"off": "False", "zero": "0", "none": "None", "mode": "'old'", "on": "True"}


@pytest.mark.parametrize(
    ("source", "folded"),
    [
        ("if settings.zero: f()\nelse: g()", "g()"),
        ("if settings.on: f()\nelse: g()", "f()"),
        ("if settings.on: f()", "f()"),
        ("if settings.off: f()\nelif x: g()\nelse: h()", "if x: g()\nelse: h()"),
        ("if x: f()\nelif settings.off: g()\nelse: h()", "if x: f()\nelse: h()"),
        ("if x: f()\nelif settings.off: g()", "if x: f()"),
        ("if f(): g(x if settings.on else y)", "if f(): g(x)"),
        ("for x in y:\n    if settings.off: f()\n    g()", "for x in y:\n    g()"),
        ("if x and settings.on: f()", "if x: f()"),
        ("if x and y and settings.on: f()", "if x and y: f()"),
        ("if x or settings.off: f()", "if x: f()"),
        ("if x or settings.on: f()\nelse: g()", "f()"),
        ("if f() or settings.on: g()", "if f() or True: g()"),
        ("if x and (y or settings.off): f()", "if x and y: f()"),
        ("if x and (y or settings.on): f()", "if x: f()"),
        ("if not (x and settings.off): f()", "f()"),
        ("if not (x and settings.on): f()", "if not x: f()"),
        ("if settings.none is None: f()", "f()"),
        ("if settings.none is not None: f()", ""),
        ("if settings.none == None: f()", "f()"),
        ("if settings.mode == 'old': f()\nelse: g()", "f()"),
        ("if 'new' != settings.mode: f()", "f()"),
        ("if settings.mode in ('old', 'new'): f()", "f()"),
        ("if settings.mode not in ('old', 'new'): f()", ""),
        ("if settings.mode == settings.none: f()", ""),
        ("if settings.mode == x: f()", "if settings.mode == x: f()"),
        ("x = f() if settings.zero else None", "x = None"),
        ("x = f(y=g() if settings.zero else None)", "x = f(y=None)"),
        ("x = settings.none or 'published'", "x = 'published'"),
        ("x = settings.zero and f()", "x = 0"),
        ("x = settings.on and f()", "x = f()"),
        ("x = y or settings.zero", "x = y or 0"),
        ("x = settings.on or f()", "x = True"),
        ("x = settings.off or settings.none or y or z", "x = y or z"),
        ("x = not settings.zero", "x = True"),
        ("x = settings.zero > 1", "x = False"),
        ("x = f(settings.mode == 'old')", "x = f(True)"),
        ("x = settings.zero", "x = settings.zero"),
        ("x = {'a': 1, **({'b': f()} if settings.off else {})}", "x = {'a': 1}"),
        ("x = {'a': 1, **({'b': f()} if settings.on else {})}", "x = {'a': 1, **{'b': f()}}"),
        ("x = {**({} if settings.on else y), 'a': 1}", "x = {'a': 1}"),
        ("x = {**(y if settings.on else {}), 'a': 1}", "x = {**y, 'a': 1}"),
        ("x = {**{}, 'a': {}}", "x = {**{}, 'a': {}}"),
        ("x = {'a': {} if settings.on else y}", "x = {'a': {}}"),
        ("x = {'a': settings.zero > 1, settings.on: y}", "x = {'a': False, settings.on: y}"),
        ("x = [y for y in z if settings.zero == 0]", "x = [y for y in z if True]"),
        ("x = lambda: f() if settings.on else g()", "x = lambda: f()"),
        ("def f(x=settings.off or y): pass", "def f(x=y): pass"),
        ("if self.settings.off: f()", ""),
        ("if a.b.settings.off: f()", ""),
        ("if my_settings.off: f()", ""),
        ("if sampling.off: f()", ""),
        ("if my_sampling.off: f()", "if my_sampling.off: f()"),
        ("if mysettings.off: f()", "if mysettings.off: f()"),
        ("if self.off: f()", "if self.off: f()"),
        ("if f().settings.off: g()", "if f().settings.off: g()"),
        ("if settings.off.x: f()", "if settings.off.x: f()"),
        ("if settings.other: f()", "if settings.other: f()"),
        # Code without settings stays as it is.
        ("if 1: f()", "if 1: f()"),
        ("if x and True: f()", "if x and True: f()"),
        ("x = 1 if True else 2", "x = 1 if True else 2"),
        ("x = not 1 or 2 > 3", "x = not 1 or 2 > 3"),
        ("if x: pass", "if x: pass"),
        # Code with effects is kept.
        ("if f() and settings.off: g()", "if f() and False: g()"),
        ("if f(): \n    if settings.off: g()", "if f(): pass"),
        ("if x: \n    if settings.off: g()", ""),
        ("if x: \n    if settings.off: g()\nelse: h()", "if x: pass\nelse: h()"),
    ],
)
def test_folding(source, folded):
    tree = fold(ast.parse(source), NEUTRAL)
    wanted = ast.unparse(ast.parse(folded))
    for node in ast.walk(tree):  # an empty body is as good as `pass`
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]
    assert ast.unparse(ast.fix_missing_locations(tree)) == wanted


NAMES = ("settings.zero", "settings.on", "settings.none", "x", "y", "f()")
OPERATORS = ("{} and {}", "{} or {}", "not {} and {}", "{} == 0 or {}", "({} is None) and {}")


@pytest.mark.parametrize("frame", ["r = {}", "if {}: r = 1\nelse: r = 2", "r = 1 if {} else 2"])
def test_folded_code_does_the_same(frame):
    """All small expressions, with all values that the settings do not determine."""

    class Settings:
        off, zero, none, mode, on = False, 0, None, "old", True

    pairs = [
        operator.format(*names)
        for operator in OPERATORS
        for names in itertools.product(NAMES, repeat=2)
    ]
    expressions = pairs + [
        operator.format(f"({pair})", name)
        for operator in OPERATORS[:3]
        for pair in pairs[::7]
        for name in NAMES
    ]
    for expression in expressions:
        source = frame.format(expression)
        tree = ast.fix_missing_locations(fold(ast.parse(source), NEUTRAL))
        compiled = compile(source, "a", "exec"), compile(tree, "b", "exec")
        for x, y, z in itertools.product((0, 3), repeat=3):
            found = []
            for code in compiled:
                calls = []
                own = {"settings": Settings, "x": x, "y": y, "calls": calls}
                own["f"] = lambda calls=calls, z=z: calls.append(1) or z
                exec(code, own)
                found.append((own["r"], type(own["r"]), calls))
            assert found[0] == found[1], (source, ast.unparse(tree))


@dataclasses.dataclass(frozen=True)
class Small:
    epochs: int
    decay: float = dataclasses.field(default=0.1, metadata={"neutral": 0.0})
    mode: str | None = dataclasses.field(default=None, metadata={"neutral": None, "unit": "s"})
    threads: int = dataclasses.field(default=1, metadata={"incidental": True})


@pytest.mark.parametrize(
    ("settings", "left"),
    [
        ({"epochs": 0, "decay": 0.0, "mode": None}, {"epochs": 0}),
        ({"epochs": 0, "decay": 0, "mode": 0}, {"epochs": 0, "decay": 0, "mode": 0}),
        ({"decay": False, "mode": ""}, {"decay": False, "mode": ""}),
        ({"decay": 0.1, "other": None}, {"decay": 0.1, "other": None}),
        ({"epochs": 0, "threads": 1}, {"epochs": 0}),
        ({"epochs": 0, "threads": 7}, {"epochs": 0}),
        ({}, {}),
    ],
)
def test_without_neutral(settings, left):
    for of in (Small, dataclasses.fields(Small)):
        assert without_neutral(settings, of) == left
        assert list(without_neutral(settings, of)) == [name for name in settings if name in left]


def test_with_neutral_undoes_it():
    for settings in (Small(3, 0.0, None), Small(3, 0.2, None), Small(3, 0.0, "fast"), Small(3)):
        given = dataclasses.asdict(settings)
        assert Small(**with_neutral(without_neutral(given, Small), Small)) == settings
        assert restored(Small, without_neutral(given, Small)) == settings


def test_same():
    values = [0, 0.0, -0.0, False, None, "", "0", (), [], (0,), (0.0,), (False,), 1, True, 1.0]
    for one, other in itertools.product(enumerate(values), repeat=2):
        assert same(one[1], other[1]) == (one[0] == other[0])
