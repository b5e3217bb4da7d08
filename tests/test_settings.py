"""The declarations of settings, and the schema that is made from them."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest
from helpers.workflow import CLONE

from svae.config.section import section_schema
from svae.settings.fields import REQUIRED, setting


@dataclass(frozen=True, kw_only=True)
class Example:
    count: int = setting(3, "how many", minimum=1, maximum=9)
    share: float = setting(0.5, "how much", exclusive_minimum=0, exclusive_maximum=1)
    shown: bool = setting(True, "whether it is shown")
    name: str = setting("x", "its name")
    kind: Literal["a", "b"] = setting("a", "its kind")
    chosen: str = setting("c", "its choice", choices=("c", "d"))
    limit: Literal["auto"] | int | None = setting("auto", "a limit", minimum=2)
    weight: float | Annotated[str, "the name of another"] = setting(1.0, "a weight", minimum=0)
    numbers: tuple[Annotated[int, "a number"], ...] = setting(
        (0,), "numbers", minimum=0, also={"minItems": 1}
    )
    added: int = setting(2, "a later one", neutral=0)


PROPERTIES = {
    "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
    "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1, "default": 0.5},
    "shown": {"type": "boolean", "default": True},
    "name": {"type": "string", "default": "x"},
    "kind": {"enum": ["a", "b"], "default": "a"},
    "chosen": {"enum": ["c", "d"], "default": "c"},
    "limit": {
        "anyOf": [{"enum": ["auto"]}, {"type": "integer", "minimum": 2}, {"type": "null"}],
        "default": "auto",
    },
    "weight": {
        "anyOf": [
            {"type": "number", "minimum": 0},
            {"type": "string", "description": "the name of another"},
        ],
        "default": 1.0,
    },
    "numbers": {
        "type": "array",
        "items": {"description": "a number", "type": "integer", "minimum": 0},
        "minItems": 1,
        "default": [0],
    },
    "added": {"type": "integer", "default": 2},
}
NAMES = [field.name for field in dataclasses.fields(Example)]


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_of_a_setting(name):
    schema = dict(section_schema(Example, "an example")["properties"][name])
    (field,) = (field for field in dataclasses.fields(Example) if field.name == name)
    assert schema.pop("description") == field.metadata["description"]
    assert schema == PROPERTIES[name]


def test_the_schema_of_a_section():
    schema = section_schema(Example, "an example")
    assert list(schema.pop("properties")) == NAMES
    assert schema == {
        "description": "an example",
        "type": "object",
        "additionalProperties": False,
        "default": {},
    }


def test_a_setting_without_default_is_required():
    @dataclass(frozen=True, kw_only=True)
    class Strict(Example):
        must: int = setting(REQUIRED, "needed")

    schema = section_schema(Strict, "strict")
    assert schema["required"] == ["must"]
    assert "default" not in schema
    assert schema["properties"]["must"] == {"description": "needed", "type": "integer"}
    with pytest.raises(TypeError, match="must"):
        Strict()


def test_a_field_that_is_resolved_is_no_setting():
    made = dataclasses.make_dataclass(
        "Made",
        [
            ("count", int, setting(3, "how many")),
            ("found", bool, dataclasses.field(default=False, metadata={"resolved": True})),
        ],
    )
    assert list(section_schema(made, "made")["properties"]) == ["count"]


def test_the_defaults_are_those_of_the_dataclass():
    assert Example() == Example(count=3, share=0.5, limit="auto", numbers=(0,))
    with pytest.raises(dataclasses.FrozenInstanceError):
        Example().count = 4


def test_only_a_setting_that_was_added_has_a_neutral_value():
    neutral = {
        field.name: field.metadata["neutral"]
        for field in dataclasses.fields(Example)
        if "neutral" in field.metadata
    }
    assert neutral == {"added": 0}


@pytest.mark.parametrize(
    ("hint", "value", "message"),
    [
        (dict, setting(None, "a mapping"), "field wrong: .*dict.* no counterpart in JSON"),
        (tuple[int, int], setting((0, 0), "a pair"), "field wrong: .*no counterpart in JSON"),
        (int, 3, r"field wrong is not declared by setting"),
    ],
)
def test_declarations_without_a_schema_are_refused(hint, value, message):
    wrong = dataclasses.make_dataclass("Wrong", [("wrong", hint, value)])
    with pytest.raises(TypeError, match=message):
        section_schema(wrong, "wrong")


def test_declaring_settings_imports_nothing_heavy():
    heavy = ("jsonschema", "yaml", "numpy", "tensorflow")
    code = f"import sys, svae.settings.fields; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr


def test_the_setting_of_the_guide_is_checked_as_stated(tmp_path):
    """docs/add-a-setting.md, in a copy of the package: the declaration and its message."""
    text = (CLONE / "docs/add-a-setting.md").read_text()
    (declaration,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
    (message,) = re.findall(r"^```text\n(.*?)\n```$", text, re.M | re.S)
    (path, old, new) = re.search(
        r"In `(svae/training/\S+)`, `([^`]+)` becomes `([^`]+)`", text
    ).groups()
    assert (CLONE / path).read_text().count(old) == 1
    name = new.rpartition(".")[2]
    assert declaration.lstrip().startswith(f"{name}: ")

    shutil.copytree(CLONE / "svae", tmp_path / "svae")
    target = tmp_path / "svae/settings/training.py"
    head, mark, rest = target.read_text().partition("    learning_rate_schedule: ")
    target.write_text(head + declaration + mark + rest)
    code = f"""
from pathlib import Path
from svae.config.resolve import resolve
from svae.errors import UserError
raw = {{"dataset": "mnist_5k", "variants": {{"a": {{"posterior": "mvn"}}}}}}
print(resolve(raw, Path()).variants["a"].{name})
raw["variants"]["a"]["{name}"] = 0.5
print(resolve(raw, Path()).variants["a"].{name})
try:
    resolve({{**raw, "training": {{"{name}": 0}}}}, Path())
except UserError as error:
    print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert run.stdout.splitlines() == ["1e-08", "0.5", message], run.stderr
