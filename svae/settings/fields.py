"""How a setting is declared: as one field of a dataclass.

    @dataclass(frozen=True, kw_only=True)
    class ThingSettings:
        count: int | None = setting(3, "how many things, or null for all", minimum=1)

This is the only place for the type, the default, the bounds and the description of a setting.
`svae.config.section` makes the JSON schema of config.yaml from them, and with it the checks, the
messages and the completion in editors.

Imported by the Snakefile: standard library only.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

REQUIRED = dataclasses.MISSING  # instead of a default: the user must give a value

END = r"$(?!\n)"
"""The end of a text, in a pattern: Python's `$` also matches before a newline at the end."""


def setting(
    default: Any,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    exclusive_minimum: float | None = None,
    exclusive_maximum: float | None = None,
    choices: Sequence[str] = (),
    also: Mapping[str, Any] | None = None,
    neutral: Any = dataclasses.MISSING,
    incidental: bool = False,
) -> Any:
    """Declare a setting in the body of a dataclass.

    default      its value if config.yaml has none, or REQUIRED.
    description  what it is, in a few words without a full stop; messages put it in brackets.
    minimum, maximum, exclusive_minimum, exclusive_maximum
                 bounds of its numbers.
    choices      the words that a `str` is limited to, if Literal[...] cannot list them.
    also         further keywords of JSON Schema.
    neutral      for a setting that is added later: the value with which the code does what it did
                 before. Runs with this value count as runs without the setting, so nothing reruns.
                 Write it as a literal, since it is also read from the source.
    incidental   for a setting that affects the last digits of results at most: it is recorded with
                 a run, and makes none stale.

    The annotation of the field gives the types: int, float, bool, str, None, Literal[...],
    tuple[X, ...], Annotated[X, "description"] and unions of these, in the order
    in which messages list them.
    """
    bounds = {
        "minimum": minimum,
        "exclusiveMinimum": exclusive_minimum,
        "maximum": maximum,
        "exclusiveMaximum": exclusive_maximum,
    }
    metadata: dict[str, Any] = {
        "description": description,
        "bounds": {name: value for name, value in bounds.items() if value is not None},
        "choices": tuple(choices),
        "also": dict(also or {}),
    }
    if neutral is not dataclasses.MISSING:
        metadata["neutral"] = neutral
    if incidental:
        metadata["incidental"] = True
    return dataclasses.field(default=default, metadata=metadata)
