"""Readers of untrusted files, under fuzzing: a minute each in `make test-faults`, a moment here."""

import importlib.util
import random

import pytest
from helpers import fuzzing

from svae.errors import UserError


def varied(content, rng):
    """The content with a few bytes changed, left out or repeated."""
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        start = rng.randrange(len(content) + 1)
        end = start + rng.choice((1, 1, 2, 4, 8))
        part = rng.choice(
            (b"", rng.randbytes(1), b"\xff" * 4, bytes(4), bytes(content[start:end]) * 2)
        )
        content[start:end] = part
    return bytes(content[: rng.choice((len(content), len(content), rng.randrange(9000)))])


SLOW = {"settings": pytest.mark.slow}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW.get(name, ())) for name in fuzzing.TARGETS]
)
def test_what_was_found_and_a_few_other_inputs(tmp_path, name):
    rng = random.Random(0)
    inputs = fuzzing.inputs_of(name)
    inputs += [varied(rng.choice(inputs), rng) for _ in range(30)]
    found = [fuzzing.problem(name, content, tmp_path) for content in inputs]
    assert [text for text in found if text] == []


def test_the_seeds_are_read(tmp_path):
    """The first seed of every target is a good file, so that fuzzing gets beyond headers."""
    for name, target in fuzzing.TARGETS.items():
        if name not in ("keras file", "web page"):
            path = tmp_path / "input"
            path.write_bytes(target.wrap(target.seeds()[0]))
            target.read(path)


FAULTY = {
    "another error": (lambda path: {}[path.read_bytes()], "KeyError"),
    "an escape sequence": (lambda path: error_of("\x1b[31m"), "shown"),
    "a mark of direction": (lambda path: error_of("\u202e"), "shown"),
}


def error_of(text):
    raise UserError(text)


@pytest.mark.parametrize(("read", "words"), FAULTY.values(), ids=FAULTY)
def test_findings_are_noticed(tmp_path, monkeypatch, read, words):
    monkeypatch.setitem(fuzzing.TARGETS, "tar", fuzzing.TARGETS["tar"]._replace(read=read))
    assert fuzzing.problem("tar", b"x", tmp_path).startswith(words)


@pytest.mark.faults
@pytest.mark.parametrize("name", fuzzing.TARGETS)
def test_fuzzing(tmp_path, name, record_property):
    if not importlib.util.find_spec("atheris"):
        pytest.skip("needs atheris, which has wheels for Linux on x86-64 (fuzzing.lock)")
    tried, findings = fuzzing.fuzzed(name, 60, tmp_path)
    record_property("faults", (f"fuzzing of {name}", {"tried": tried, "wrong": len(findings)}))
    assert not findings and tried > 100
