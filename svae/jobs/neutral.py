"""Settings at their neutral values, with which the code does what it did before they existed.

A setting that is added to a stage declares this value:

    weight_decay: float = dataclasses.field(default=0.0, metadata={"neutral": 0.0})

At that value the setting is not part of the identity of a run, so no finished run becomes stale.
svae.jobs.fingerprint treats the code likewise. A setting with the metadata {"incidental": True} is
never part of it: numbers of threads, which affect last digits at most.

Imported by the Snakefile: standard library only.
"""

from collections.abc import Iterable, Mapping
from dataclasses import Field, fields
from typing import Any, TypeVar

T = TypeVar("T")
NEUTRAL = "neutral"  # the key in a field's metadata


def same(one: object, other: object) -> bool:
    """Whether two settings are equal in value and type: 0, 0.0, False and None all differ."""
    return type(one) is type(other) and repr(one) == repr(other)


def without_neutral(settings: Mapping[str, Any], of: type | Iterable[Field[Any]]) -> dict[str, Any]:
    """Return the settings in their order, except incidental ones and those at their neutral values.

    of  the dataclass that the settings are for, or its fields.
    """
    neutral, incidental = _neutral(of), _incidental(of)
    return {
        name: value
        for name, value in settings.items()
        if name not in incidental and (name not in neutral or not same(value, neutral[name]))
    }


def with_neutral(settings: Mapping[str, Any], of: type | Iterable[Field[Any]]) -> dict[str, Any]:
    """Return the settings with the neutral value of each that is missing; undoes `without_neutral`.

    The defaults of the dataclass cannot replace it, because they may be other values.
    """
    return {**_neutral(of), **settings}


def restored(of: type[T], settings: Mapping[str, Any]) -> T:
    """Return an object of the dataclass `of`, from settings that may lack neutral ones."""
    return of(**with_neutral(settings, of))


def _incidental(of: type | Iterable[Field[Any]]) -> set[str]:
    found = fields(of) if isinstance(of, type) else of
    return {field.name for field in found if field.metadata.get("incidental")}


def _neutral(of: type | Iterable[Field[Any]]) -> dict[str, Any]:
    found = fields(of) if isinstance(of, type) else of
    return {field.name: field.metadata[NEUTRAL] for field in found if NEUTRAL in field.metadata}
