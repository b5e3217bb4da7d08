"""A new setting changes no fingerprint at its neutral value, but does at others."""

import pytest
from helpers.packages import edit, write

from svae.jobs.fingerprint import definitions, fingerprint

SETTINGS = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Settings:
    epochs: int
"""
FIELD = "from .fields import setting\n{}    decay: float = setting(0.0, neutral=0.0)\n"
FIELDS = """
from dataclasses import field

def setting(default, *, neutral):
    return field(default=default, metadata={"neutral": neutral})
"""
STAGE = """
from . import steps
from .settings import Settings

def run(values):
    settings = Settings(**values)
    step(settings, 1)

def step(settings, x):
    y = steps.take(x)
    return y
"""
STEPS = "def take(x):\n    return x\n"
FILES = {"settings.py": SETTINGS, "stage.py": STAGE, "steps.py": STEPS}
WITH_DECAY = {
    **FILES,
    "fields.py": FIELDS,
    "settings.py": FIELD.format(SETTINGS),
    "decay.py": "LEAST = 1\n\ndef decayed(x):\n    return x - LEAST\n",
}


def digest(root, **settings):
    return fingerprint(
        "pkg.stage:run", "pkg.settings:Settings", package_root=root, settings=settings or None
    )


def with_reads(tmp_path, read, top="from . import decay"):
    """The package with the new setting, which the code `read`, within `step`, reads."""
    stage = STAGE.replace("    return y", f"    {read}\n    return y")
    return write(tmp_path / "with", {**WITH_DECAY, "stage.py": f"{top}\n{stage}"})


FOLDED = [
    "if settings.decay:\n        y = decay.decayed(y)",
    "if settings.decay > 0:\n        y = decay.decayed(y)",
    "if settings.decay != 0.0:\n        y = decay.decayed(y)",
    "if 0 < settings.decay <= 1:\n        y = decay.decayed(y)",
    "if not settings.decay == 0:\n        y = decay.decayed(y)",
    "if settings.decay and decay.LEAST:\n        y = decay.decayed(y)",
    "if x > 1 and settings.decay:\n        y = decay.decayed(y)",
    "if self.settings.decay:\n        y = decay.decayed(y)",
    "if model.settings.decay:\n        y = decay.decayed(y)",
    "if own_settings.decay:\n        y = decay.decayed(y)",
    "if settings.decay:\n        from .decay import decayed\n        y = decayed(y)",
    "if settings.decay:\n        if decay.LEAST:\n            y = decay.decayed(y)",
    "if x:\n        if settings.decay:\n            y = decay.decayed(y)",
    "if settings.decay:\n        settings.other(decay.decayed(y, settings.decay))",
    "from .decay import decayed\n    if settings.decay:\n        y = decayed(y)",
    "if settings.decay in (0.1, 0.2):\n        y = decay.decayed(y)",
    "if settings.decay is not None and settings.decay:\n        y = decay.decayed(y)",
    "if settings.decay or (settings.decay and x):\n        y = decay.decayed(y)",
]


@pytest.mark.parametrize("read", FOLDED)
def test_a_new_setting_at_its_neutral_value_changes_nothing(tmp_path, read):
    before = digest(write(tmp_path / "without", FILES), epochs=1)
    root = with_reads(tmp_path, read)
    assert digest(root, epochs=1, decay=0.0) == before
    edit(root, "decay.py", "x - LEAST", "x + LEAST")
    edit(root, "settings.py", "setting(0.0, ", "setting(0.1, ")  # its default
    assert digest(root, epochs=1, decay=0.0) == before
    found = definitions("pkg.stage:run", package_root=root, settings={"epochs": 1, "decay": 0.0})
    assert "pkg.decay" not in found and "pkg.fields" not in found


@pytest.mark.parametrize("read", FOLDED)
@pytest.mark.parametrize(
    "values", [{"decay": 0.1}, {"decay": 0}, {"decay": False}, {"decay": -0.0}, {"decay": None}, {}]
)
def test_any_other_value_changes_it(tmp_path, read, values):
    before = digest(write(tmp_path / "without", FILES), epochs=1)
    root = with_reads(tmp_path, read)
    after = digest(root, epochs=1, **values)
    assert after != before
    assert after == digest(root)  # the same as without any settings
    for file, old, new in [
        ("decay.py", "x - LEAST", "x + LEAST"),
        ("settings.py", "neutral=0.0", "neutral=0.5"),
        ("settings.py", "setting(0.0", "setting(0.2"),
    ]:
        edit(root, file, old, new)
        assert digest(root, epochs=1, **values) not in (before, after)
        edit(root, file, new, old)


@pytest.mark.parametrize(
    "read",
    [
        "y = decay.decayed(y, settings.decay)",
        "y += settings.decay",
        "rate = settings.decay\n    if rate:\n        y = decay.decayed(y)",
        "if getattr(settings, 'decay'):\n        y = decay.decayed(y)",
        "if values['decay']:\n        y = decay.decayed(y)",
        "if config.decay:\n        y = decay.decayed(y)",
        "if make(x).settings.decay:\n        y = decay.decayed(y)",
        "if settings.decay > LIMIT:\n        y = decay.decayed(y)",
        "if settings.decay is 0.0:\n        y = decay.decayed(y)",
        "if settings.decay < 'a':\n        y = decay.decayed(y)",
        "if f(x) and settings.decay:\n        y = decay.decayed(y)",
        "if x or settings.decay:\n        y = decay.decayed(y)",
        "if settings.decay:\n        yield decay.decayed(y)",
        "if settings.decay:\n        global y\n        y = decay.decayed(y)",
        "while settings.decay:\n        y = decay.decayed(y)",
        # Other settings of the same name.
        "if settings.decay:\n        y = decay.decayed(y)\n    replace(settings, decay=1.0)",
        "if settings.decay:\n        y = decay.decayed(y)\n    Settings(decay=1.0)",
        "if settings.decay:\n        y = decay.decayed(y)\n    Imported_as(1, decay=1.0)",
        "if settings.decay:\n        y = decay.decayed(y)\n    dict(values, decay=1.0)",
        "if settings.decay:\n        y = decay.decayed(y)\n    x = {**values, 'decay': 1.0}",
        "if settings.decay:\n        y = decay.decayed(y)\n    settings.decay = 1.0",
    ],
)
def test_other_reads_count(tmp_path, read):
    before = digest(write(tmp_path / "without", FILES), epochs=1)
    root = with_reads(tmp_path, read)
    found = digest(root, epochs=1, decay=0.0)
    assert found != before
    if "decayed" in read:
        edit(root, "decay.py", "x - LEAST", "x + LEAST")
        assert digest(root, epochs=1, decay=0.0) not in (found, before)


def test_a_setting_with_the_name_of_another_always_counts(tmp_path):
    files = {**WITH_DECAY, "other.py": "class Other:\n    decay: float\n"}
    stage = STAGE.replace("    return y", "    if settings.decay:\n        y = 1\n    return y")
    alone = digest(write(tmp_path, {**files, "stage.py": stage}), epochs=1, decay=0.0)
    root = write(tmp_path, {**files, "stage.py": "from .other import Other\n" + stage})
    assert digest(root, epochs=1, decay=0.0) == digest(root) != alone


def test_a_changed_neutral_value_changes_it(tmp_path):
    root = with_reads(tmp_path, FOLDED[0])
    before = digest(root, epochs=1, decay=0.0)
    edit(root, "settings.py", "neutral=0.0", "neutral=0.5")
    assert digest(root, epochs=1, decay=0.0) != before
    assert digest(root, epochs=1, decay=0.5) != before  # `if settings.decay` is taken


@pytest.mark.parametrize(
    ("declared", "value", "neutral"),
    [
        ("setting(0.0, neutral=0.0)", 0.0, True),
        ("fields.setting('a', neutral='off')", "off", True),
        ("field(default=0.0, metadata={'neutral': 0.0})", 0.0, True),
        ("field(default=0.0, metadata={'unit': 1, 'neutral': -1})", -1, True),
        ("setting(None, neutral=None)", None, True),
        ("setting((), neutral=(1, 2))", (1, 2), True),
        ("setting((), neutral=(1, 2))", [1, 2], False),
        ("setting(1, neutral=True)", 1, False),
        ("setting(0.0, neutral=NOTHING)", 0.0, False),
        ("setting(0.0, metadata={'other': 0.0})", 0.0, False),
        ("0.0", 0.0, False),
    ],
)
def test_declarations(tmp_path, declared, value, neutral):
    before = digest(write(tmp_path / "without", FILES), epochs=1)
    top = "from dataclasses import field" if declared.startswith("field(") else ""
    text = f"{top}\nfrom . import fields\n{SETTINGS}    new: int = {declared}"
    root = write(tmp_path / "with", {**WITH_DECAY, "settings.py": text})
    assert (digest(root, epochs=1, new=value) == before) is neutral
