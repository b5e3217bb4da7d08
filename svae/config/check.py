"""Checking a mapping against the schema of configurations, with messages that a user can act on.

One line per problem: the key, what is wrong with it, and what to write instead.
"""

import contextlib
import difflib
import functools
import json
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.validators import extend

from svae.errors import UserError

MOST_MESSAGES = 4
MOST_CHARACTERS = 60  # of a wrong value that a message quotes
MOST_KEYS = 16  # named in a message


def checked(raw: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """`raw` with its numbers read, its removed variants left out and its defaults filled in.

    UserError with all that the schema does not allow, in at most `MOST_MESSAGES` lines.
    """
    check_writable(raw)
    raw = _typed(_without_removed_variants(raw), schema)
    problems = list(dict.fromkeys(_problems(raw, schema)))
    if len(problems) > MOST_MESSAGES:
        more = len(problems) - MOST_MESSAGES + 1
        problems = [*problems[: MOST_MESSAGES - 1], f"... and {more} more"]
    if problems:
        raise UserError("\n".join(problems))
    return _complete(raw, schema)


def check_writable(content: Any) -> None:
    """Refuse content that no message can show: a number with thousands of digits, or a YAML alias
    that contains itself."""
    try:
        json.dumps(content, default=str, skipkeys=True)
    except (ValueError, RecursionError):
        raise UserError(
            "the configuration contains a number with thousands of digits, or a YAML alias (*NAME) "
            "inside the value that it refers to; write the value itself"
        ) from None


def _is_number(checker: Any, value: Any) -> bool:
    # Excludes NaN, infinity, and whole numbers too large for a float.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300


def _is_integer(checker: Any, value: Any) -> bool:
    return _is_number(checker, value) and value == int(value)


_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine_many(
        {"number": _is_number, "integer": _is_integer}
    ),
)


def _problems(raw: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    unnamed = list(_unnamed(raw))
    if unnamed:
        yield from unnamed
        return
    errors = _Validator(schema).iter_errors(raw)
    for error in sorted(errors, key=lambda error: list(map(str, error.absolute_path))):
        yield from _messages(error, schema)


def _unnamed(content: dict[Any, Any], key: str = "") -> Iterator[str]:
    for name, value in content.items():
        if not isinstance(name, str):
            text = "null" if name is None else shown(name)
            where = f" under {key}" if key else ""
            yield (
                f"key {text}{where} is not a valid name; YAML reads on, off, yes, no, null, "
                f"numbers and dates as values: use another name"
            )
        elif isinstance(value, dict):
            yield from _unnamed(value, _join(key, name))


def _messages(error: ValidationError, root: dict[str, Any]) -> Iterator[str]:
    """One line per problem: the key, what is wrong with it, and what to write instead."""
    key = functools.reduce(_join, map(str, error.absolute_path), "")
    # jsonschema sets all of these, and no schema here is merely true or false.
    value: Any = error.instance
    schema: Any = error.schema
    rule = error.validator
    if rule == "additionalProperties":
        for name in value:
            if name not in schema["properties"]:
                yield f"unknown key {_join(key, name)}; {_meant(name, schema, root)}"
    elif rule == "required":
        for name in schema["required"]:
            if name not in value:
                expected = _expectation(schema["properties"][name])
                yield f"{_join(key, name)} is missing; it must be {expected}"
    elif rule == "minProperties":
        yield f"{key} is empty; name at least one, such as low_rank: {{posterior: low_rank}}"
    elif "propertyNames" in error.absolute_schema_path:
        rules = root["properties"]["variants"]["propertyNames"]["description"]
        yield f"{_join(key, value)} is not a valid variant name; use {rules}"
    else:
        names = [name for option in _options(schema) for name in option.get("enum", [])]
        close = closest(str(value), names)
        yield f"{key} is {shown(value)}; it must be {_expectation(schema)}" + (
            f"; did you mean {close}?" if close else ""
        )


def _meant(name: str, schema: dict[str, Any], root: dict[str, Any]) -> str:
    """What an unknown key could have been meant for."""
    known = list(schema["properties"])
    places = [
        f"{section}.{name}"
        for section, inner in root["properties"].items()
        if name in inner.get("properties", {})
    ]
    if name in root["properties"]:
        places.append(f"{name} at the top level")
    close = " or ".join(places) or closest(name, known)
    if close:
        return f"did you mean {close}?"
    if len(known) > MOST_KEYS:
        return f"known here: {', '.join(known[:MOST_KEYS])} and {len(known) - MOST_KEYS} more"
    return f"known here: {', '.join(known)}"


def closest(name: str, known: list[str]) -> str | None:
    return next(iter(difflib.get_close_matches(name.lower(), known, n=1)), None)


def _join(key: str, name: str) -> str:
    name = name if name.isprintable() and len(name) <= MOST_CHARACTERS else shown(name)
    return f"{key}.{name}" if key else name


def shown(value: Any) -> str:
    """A value on one line, for messages."""
    if value is None or value == "":
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        numbers = all(isinstance(item, int | float) for item in value)
        return str(value) if numbers and len(str(value)) <= MOST_CHARACTERS else "a list"
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}..."


def _expectation(schema: dict[str, Any]) -> str:
    """What a schema asks for, in words."""
    about = schema.get("description", "")
    if "enum" in schema:
        *others, last = schema["enum"]
        words = f"one of {', '.join([*others, last])}" if others else last
    elif schema.get("type") == "string":
        return about
    elif "anyOf" in schema:
        *options, last = (_expectation(option) for option in schema["anyOf"])
        words = f"{', '.join(options)} or {last}"
    else:
        words = {
            "integer": "a whole number",
            "number": "a number",
            "object": "a mapping",
            "array": "a list",
            "null": "null",
            "boolean": "true or false",
        }[schema["type"]]
        ranges = {
            "exclusiveMinimum": "above",
            "minimum": "from" if "maximum" in schema else "of at least",
            "maximum": "to" if "minimum" in schema else "and at most",
            "exclusiveMaximum": "and below",
        }
        limits = [f"{word} {schema[key]}" for key, word in ranges.items() if key in schema]
        words = " ".join([words, *limits])
    return f"{words} ({about})" if about else words


# Normal form --------------------------------------------------------------------------------------


def _without_removed_variants(raw: dict[str, Any]) -> dict[str, Any]:
    """`NAME: false` under variants leaves a variant out, as a second --configfile cannot delete."""
    if not isinstance(raw.get("variants"), dict):
        return raw
    kept = {
        name: own
        for name, own in raw["variants"].items()
        if own is not False and not (isinstance(own, str) and own.lower() == "false")
    }
    return {**raw, "variants": kept}


def _options(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """A schema and its alternatives."""
    return [schema, *schema.get("anyOf", [])]


def _option(schema: dict[str, Any], kind: str) -> dict[str, Any]:
    """The alternative of this JSON type; {} if there is none."""
    return next((option for option in _options(schema) if option.get("type") == kind), {})


def _kinds(schema: dict[str, Any]) -> set[str]:
    """The JSON types that a schema allows."""
    return {option["type"] for option in _options(schema) if "type" in option}


def _typed(value: Any, schema: dict[str, Any]) -> Any:
    """Convert text to the number, truth value or null that the schema asks for.

    YAML 1.1 reads 1e-3 as text because it has no dot, and Snakemake reads all inner values of
    --config training='{epochs: 5}' as text.
    """
    if isinstance(value, dict):
        other = schema.get("additionalProperties") or {}
        known = schema.get("properties", {})
        return {name: _typed(inner, known.get(name, other)) for name, inner in value.items()}
    if isinstance(value, list):
        items = _option(schema, "array").get("items", {})
        return [_typed(inner, items) for inner in value]
    kinds = _kinds(schema)
    if isinstance(value, str) and "null" in kinds and value in ("null", "~", ""):
        return None
    if isinstance(value, str) and "boolean" in kinds and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if isinstance(value, str) and kinds & {"integer", "number"}:
        for read in (int, float):
            with contextlib.suppress(ValueError):
                return read(value)
    return value


def _complete(value: Any, schema: dict[str, Any], fill: bool = True) -> Any:
    """Fill in the defaults, and convert every number to its type: JSON does not distinguish 1 from
    1.0.

    Variants are not filled in, because their defaults are the values of model and training.
    """
    if isinstance(value, dict):
        schema = _option(schema, "object")
        known, other = schema.get("properties", {}), schema.get("additionalProperties")
        if other:
            return {name: _complete(inner, other, fill=False) for name, inner in value.items()}
        defaults = {
            name: inner["default"] for name, inner in known.items() if fill and "default" in inner
        }
        return {
            name: _complete(inner, known[name], fill)
            for name, inner in {**defaults, **value}.items()
        }
    if isinstance(value, list):
        return [_complete(inner, _option(schema, "array")["items"], fill) for inner in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        return int(value) if "integer" in _kinds(schema) else float(value)
    return value
