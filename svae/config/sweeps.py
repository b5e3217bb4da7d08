"""Sweeps: a list for `kl_weight` or `beta` makes a family of variants out of one.

    naive: {posterior: naive, kl_weight: [16, 1]}

is the family naive of the variants naive_w16 and naive_w1. Each is what a variant with one of these
numbers is, so that nothing after this module knows of lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from svae.config.check import shown
from svae.errors import UserError
from svae.settings.training import TrainingSettings

# The settings that may be lists, and what stands before a number in the name of a member.
MARKS = {"kl_weight": "w", "beta": "beta"}
# The one of them that each objective has.
SWEPT = {"weighted": "kl_weight", "elbo": "beta"}


@dataclass(frozen=True)
class Family:
    """The variants that one list makes, by the setting that differs."""

    key: str
    """kl_weight or beta."""
    members: Mapping[str, float]
    """Names of variants, in the order of the list -> the value of each."""


def with_lists(properties: dict[str, Any]) -> dict[str, Any]:
    """The schemas of a section's settings, in which those of `MARKS` may also be lists."""
    found = dict(properties)
    for key in MARKS:
        schema = found[key]
        options = schema.get("anyOf")
        if options is None:
            outer = ("description", "default")
            options = [{name: each for name, each in schema.items() if name not in outer}]
            schema = {name: schema[name] for name in outer}
        number = next(option for option in options if option.get("type") == "number")
        listed = {
            "description": "one or more different numbers, each of which makes a variant",
            "type": "array",
            "minItems": 1,
            "uniqueItems": True,
            "items": {"description": schema["description"], **number},
        }
        found[key] = {**schema, "anyOf": [*options, listed]}
    return found


def expanded(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the members of each family instead of the variant that has the list,
    and with the families by name under an additional key, `families`.

    A variant that takes its weight from a family is a family of the same weights. UserError for a
    list that its objective does not use, and for a name that is there twice.
    """
    variants: dict[str, dict[str, Any]] = {}
    families: dict[str, Family] = {}
    for name, own in config["variants"].items():
        family = _family(config, name)
        if family is None:
            variants[name] = own
            continue
        families[name] = family
        for member, value in family.members.items():
            if member in config["variants"]:
                raise UserError(
                    f"variants.{name}.{family.key} makes a variant {member}, but there is another "
                    f"one of this name; rename one of the two"
                )
            variants[member] = {**own, family.key: value}
    by_case: dict[str, str] = {}
    for name in variants:
        if (other := by_case.setdefault(name.lower(), name)) != name:
            raise UserError(
                f"variants {other} and {name} differ only in case, which not all file systems "
                f"distinguish; rename one of the two"
            )
    for key in MARKS:
        unused = all(family.key != key for family in families.values())
        if isinstance(config["training"][key], list) and unused:
            raise UserError(
                f"training.{key} is {shown(config['training'][key])}, but no variant uses it; "
                f"write one number, or remove the key"
            )
    return {**config, "variants": variants, "families": families}


def several_weights(variants: Mapping[str, TrainingSettings]) -> bool:
    """Whether there is more than one w, the weight of the KL relative to the SSE. Under the ELBO it
    is 2 v beta for the decoder variance v; unless v is a number, each variant ends at its own.
    """
    weights: set[Any] = set()
    for name, settings in variants.items():
        if settings.objective == "weighted":
            weights.add(settings.kl_weight)
        elif isinstance(settings.decoder_variance, str):
            weights.add(name)
        else:
            weights.add(2 * settings.decoder_variance * settings.beta)
    return len(weights) > 1


def family_of(families: Mapping[str, Family], variant: str) -> str:
    """The name that the configuration has for a variant: that of its family, if it is in one."""
    for name, family in families.items():
        if variant in family.members:
            return name
    return variant


def pairs_between(
    families: Mapping[str, Family], first: str, second: str, where: str
) -> list[tuple[str, str]]:
    """The pairs that a comparison of two names asks for: of two families, the members of equal
    value. `where`: the key and the value, for messages. UserError if only one is a family, or if
    they have no value in common."""
    swept = [name for name in (first, second) if name in families]
    if not swept:
        return [(first, second)]
    one = families[swept[0]]
    members = " and ".join(f"{name} ({', '.join(families[name].members)})" for name in swept)
    if len(swept) == 1:
        raise UserError(
            f"{where}, but only one of them is a family: {members}; name one of its members, or "
            f"compare it with another family"
        )
    other = families[second]
    found = [
        (a, b)
        for a, value in one.members.items()
        for b in other.members
        if (one.key, value) == (other.key, other.members[b])
    ]
    if not found:
        raise UserError(
            f"{where}, but the two families share no {one.key}: {members}; name two of these"
        )
    return found


def _setting(config: dict[str, Any], name: str, key: str) -> Any:
    return config["variants"][name].get(key, config["training"][key])


def _family(config: dict[str, Any], name: str) -> Family | None:
    """The family of a variant, None for one that has no list."""
    objective = _setting(config, name, "objective")
    used = SWEPT[objective]
    for key in MARKS:
        given = config["variants"][name].get(key)
        # A beta for all variants is refused, too, as one number is.
        given = config["training"][key] if given is None and key == "beta" else given
        if key != used and isinstance(given, list):
            own = key in config["variants"][name]
            where = f"variants.{name}.{key}" if own else f"training.{key}"
            raise UserError(
                f"{where} is {shown(given)}, but variant {name} has objective {objective}; "
                f"set {used} instead, or change the objective"
            )
    values = _values(config, name, used, [])
    if values is None:
        return None
    return Family(used, {f"{name}_{MARKS[used]}{_plain(value)}": value for value in values})


def _values(config: dict[str, Any], name: str, key: str, seen: list[str]) -> list[float] | None:
    """The list of a variant, or of the variant that it takes its weight from; None if neither has
    one."""
    given = _setting(config, name, key)
    if isinstance(given, list):
        return given
    # A circle is refused when the weights are resolved.
    if not isinstance(given, str) or given not in config["variants"] or given in seen:
        return None
    if _setting(config, given, "objective") != "weighted":
        return None
    return _values(config, given, key, [*seen, name])


def _plain(value: float) -> str:
    """A number as it stands in names: 16, 5.333, 1e-05."""
    return repr(value).removesuffix(".0").replace("+", "")
