"""config.yaml, the settings and both schemas say the same."""

import ast
import dataclasses
import json
import re
import subprocess
import sys

import pytest
from helpers.workflow import CLONE
from jsonschema import Draft202012Validator
from test_config import DEFAULTS, KEYS, MINIMAL, VARIANT

from svae.config.check import checked
from svae.config.schema import SECTIONS, config_schema, editor_schema
from svae.settings.training import TrainingSettings


def default_of(schema):
    """The value of a key that is not given."""
    if "properties" in schema and schema["default"] == {}:
        return {name: inner["default"] for name, inner in schema["properties"].items()}
    return schema["default"]


SETTABLE = [name for name in DEFAULTS if name not in ("dataset", "sources", "variants")]


@pytest.mark.parametrize("section", SETTABLE)
def test_config_yaml_has_the_defaults(section):
    """It may omit settings; those in it have their defaults, and are in the order of the fields."""
    default, named = default_of(KEYS[section]), DEFAULTS[section]
    if not isinstance(default, dict):
        assert named == default
        return
    assert named == {name: value for name, value in default.items() if name in named}
    assert list(named) == [name for name in default if name in named]


def test_config_yaml_names_every_section():
    assert set(DEFAULTS) == set(KEYS)


def test_config_yaml_explains_every_setting():
    lines = (CLONE / "config.yaml").read_text().splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r" *\w+: \S", line) and not re.match(r"  \w+: {posterior", line):
            assert "# " in line or before.lstrip().startswith("#"), line


def test_the_schema_describes_every_key_and_allows_no_other():
    def walk(schema):
        assert schema.get("description"), schema
        if schema.get("type") == "object":
            other = schema["additionalProperties"]
            inner = schema.get("properties", {})
            assert other is False or not inner
            for part in [*inner.values(), *([other] if other else [])]:
                walk(part)

    walk(config_schema())


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_allowed(section):
    defaults = default_of(KEYS[section])
    assert checked({**MINIMAL, section: defaults}, config_schema())[section] == defaults
    for field in dataclasses.fields(SECTIONS[section].settings):
        if "resolved" not in field.metadata:
            assert type(defaults[field.name]) is type(field.default)


def test_a_variant_may_override_every_setting_of_model_and_training():
    settings = {field.name for field in dataclasses.fields(TrainingSettings)}
    assert set(VARIANT) == settings
    assert {*KEYS["model"]["properties"], *KEYS["training"]["properties"], "posterior"} == settings


def test_the_schema_for_editors_is_up_to_date():
    path = CLONE / "config.schema.json"
    assert json.loads(path.read_text()) == editor_schema(), "out of date; run: make schema"
    first = (CLONE / "config.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={path.name}"


@pytest.mark.parametrize(
    ("content", "accepted"),
    [
        (DEFAULTS, True),
        ({"training": {"epochs": 3}}, True),
        ({"variants": {"mvn": False, "a": {"posterior": "naive", "epochs": 3}}}, True),
        ({"variants": {"a": {"epochs": 3}}}, False),
        ({"training": {"epoch": 3}}, False),
        ({"training": {"epochs": 0}}, False),
        ({"dataset": "coco"}, False),
    ],
)
def test_the_schema_for_editors_accepts_partial_files(content, accepted):
    assert Draft202012Validator(editor_schema()).is_valid(content) == accepted


def literal(module, name):
    """The names in a constant of a module that is too heavy to import here."""
    for node in ast.parse((CLONE / "svae" / module).read_text()).body:
        match node:
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=value)
            ):
                found = ast.unparse(target) == name
            case _:
                found = False
        if found:
            parts = value.keys if isinstance(value, ast.Dict) else value.elts
            return [part.value for part in parts]
    raise AssertionError(f"{module} has no {name}")


def test_the_schema_knows_the_choices():
    protocol = KEYS["parzen"]["properties"]["protocol"]
    assert protocol["enum"] == literal("scores/parzen_window.py", "PROTOCOLS")


def test_the_configuration_imports_nothing_heavy():
    heavy = ("tensorflow", "keras", "h5py", "numpy", "scipy", "matplotlib")
    modules = "svae.config.resolve, svae.config.yaml_file"
    code = f"import sys, {modules}; print([n for n in {heavy} if n in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.stdout.strip() == "[]", run.stderr
