"""The variants: the sections `model` and `training`, with the overrides of each variant."""

import json
import logging
from collections.abc import Collection, Mapping
from typing import Any

from svae.config.check import closest, shown
from svae.config.data import KnownImages
from svae.config.sweeps import Family, family_of, pairs_between
from svae.errors import UserError
from svae.model import geometry
from svae.settings.training import TrainingSettings

log = logging.getLogger(__name__)


def origin(config: dict[str, Any], name: str, key: str) -> str:
    """The full key from which a variant has a value."""
    if key in config["variants"][name]:
        return f"variants.{family_of(config['families'], name)}.{key}"
    return f"model.{key}" if key in config["model"] else f"training.{key}"


def resolve_variants(config: dict[str, Any], dimension: int) -> dict[str, TrainingSettings]:
    """The settings of each variant, by name; `dimension`: D, pixels per image times channels.
    config: as `svae.config.sweeps.expanded` gives it, here and below.

    UserError for a contradiction, with the key that must change.
    """
    merged = {
        name: {**config["model"], **config["training"], **own}
        for name, own in config["variants"].items()
    }
    for name, values in merged.items():
        if values["posterior"] == "vanilla":
            if config["variants"][name].get("latent_size", 1) != 1:
                raise UserError(
                    f"{origin(config, name, 'latent_size')} is {values['latent_size']}, but a "
                    f"vanilla latent is a vector; remove the key, or use another posterior"
                )
            values["latent_size"] = 1
        if values["posterior"] == "low_rank" and values["rank"] > values["latent_size"]:
            d = values["latent_size"]
            raise UserError(
                f"{origin(config, name, 'rank')} is {values['rank']}, but variant {name} has "
                f"latent_size {d}, and a {d}x{d} mean has rank {d} at most; lower it"
            )
        if values["learning_rate_warmup_epochs"] > values["epochs"]:
            raise UserError(
                f"{origin(config, name, 'learning_rate_warmup_epochs')} is "
                f"{values['learning_rate_warmup_epochs']:g}, but variant {name} has "
                f"{values['epochs']} epochs; lower it"
            )
        if values["objective"] == "weighted" and values["beta"] != 1:
            raise UserError(
                f"{origin(config, name, 'beta')} is {values['beta']:g}, but variant {name} has "
                f"objective weighted; leave beta at 1 and set kl_weight, or use objective elbo"
            )
    settings = {}
    for name, values in merged.items():
        weighted = values["objective"] == "weighted"
        own = {
            "kl_weight": _kl_weight(config, name, merged, dimension, []) if weighted else None,
            "decoder_variance": None if weighted else values["decoder_variance"],
        }
        if values["posterior"] != "low_rank":
            # Without effect, so a change of them reruns nothing.
            own |= {"low_rank_start": None, "rank": 1}
        if own["decoder_variance"] != "learned":
            own["decoder_variance_learning_rate"] = None  # likewise
        settings[name] = TrainingSettings(**{**values, **own})
    return settings


def published_weight(dimension: int, latent_entries: int) -> float:
    """w = D / L, which is equivalent to the published code's two means (see svae.model.objectives).

    192 at 64x64x3 for 64 latent entries, 21.3 for 576.
    """
    return dimension / latent_entries


def _kl_weight(
    config: dict[str, Any], name: str, merged: dict[str, dict], dimension: int, seen: list[str]
) -> float:
    """w of a variant: a number, D / (N d^2) as published, or the w of the variant it names."""
    values = merged[name]
    rule = values["kl_weight"]
    if rule == "published":
        return published_weight(dimension, values["latent_maps"] * values["latent_size"] ** 2)
    if not isinstance(rule, str):
        return rule
    where = f"{origin(config, name, 'kl_weight')} is {shown(rule)}"
    if rule not in merged:
        others = ", ".join(other for other in merged if other != name) or "there is none"
        close = closest(rule, ["published", *merged])
        raise UserError(
            f"{where}; it must be published, a number above 0 or the name of another variant "
            f"({others})" + (f"; did you mean {close}?" if close and close != name else "")
        )
    if rule == name or rule in seen:
        raise UserError(
            f"{where}, so variant {rule} would get its weight from itself; "
            f"set variants.{rule}.kl_weight to a number or published"
        )
    if merged[rule]["objective"] == "elbo":
        raise UserError(
            f"{where}, but variant {rule} has objective elbo and thus no kl_weight; "
            f"write a number or published"
        )
    return _kl_weight(config, rule, merged, dimension, [*seen, name])


def resolve_comparisons(config: dict[str, Any]) -> tuple[tuple[str, str], ...] | None:
    """The pairs under `comparisons`; None for auto. Two families stand for their members of equal
    value.

    UserError for a pair of other than two different variants, for one that is asked for twice, and
    for a family with a single variant.
    """
    families = config["families"]
    names = [*config["variants"], *families]
    if config["comparisons"] == "auto":
        return None
    pairs: list[tuple[str, str]] = []
    for index, pair in enumerate(config["comparisons"]):
        where = f"comparisons.{index} is {shown(', '.join(pair))}"
        if len(pair) != 2 or pair[0] == pair[1]:
            raise UserError(
                f"{where}; it must be two different variants, such as [{', '.join(names[:2])}]"
            )
        for name in pair:
            if name not in names:
                close = closest(name, names)
                raise UserError(
                    f"{where}, but there is no variant {name} (there are {', '.join(names)})"
                    + (
                        f"; did you mean {close}?"
                        if close
                        else "; drop the pair, or add the variant"
                    )
                )
        for first, second in pairs_between(families, pair[0], pair[1], where):
            if (first, second) in pairs or (second, first) in pairs:
                raise UserError(f"{where}, which is asked for twice; drop one of the two")
            pairs.append((first, second))
    return tuple(pairs)


def check_latent_sizes(
    config: dict[str, Any], variants: dict[str, TrainingSettings], height: int, width: int
) -> None:
    """Check that the networks of each variant can make images of this size, padding included."""
    for name, settings in variants.items():
        stem = settings.posterior == "vanilla"
        try:
            geometry.check(height, width, settings.latent_size, stem)
        except UserError as error:
            if geometry.fitting_latent_sizes(height) and not stem:
                raise UserError(f"{origin(config, name, 'latent_size')}: {error}") from None
            given = [key for key in ("size", "crop") if config["conversion"][key]]
            where = (
                f"conversion.{given[0]}"
                if given
                else f"variants.{family_of(config['families'], name)}"
            )
            raise UserError(f"{where}: {error}; set conversion.size to 32, 64 or 128") from None
        if settings.arrangement == "permuted" and settings.latent_size % 2 == 0:
            odd = [d for d in geometry.fitting_latent_sizes(height) if d % 2]
            raise UserError(
                f"{origin(config, name, 'arrangement')} is permuted, but variant {name} has "
                f"latent_size {settings.latent_size}, and only maps of odd size can be permuted; "
                + (
                    f"set latent_size to one of those that fit: {', '.join(map(str, odd))}"
                    if odd
                    else f"none fits {height}x{width} images, use another arrangement"
                )
            )


def check_batch_sizes(
    config: dict[str, Any], variants: dict[str, TrainingSettings], known: KnownImages | None
) -> None:
    """Check against what is known of the data set; a smaller one is checked when it is trained."""
    if known is None:
        return
    images = known.counts["train"]
    for name, settings in variants.items():
        if settings.batch_size > images:
            raise UserError(
                f"{origin(config, name, 'batch_size')} is {settings.batch_size}, but "
                f"{known.whose} {images} training images; lower it"
            )


def options_without(
    raw: Mapping[str, Any],
    variants: Mapping[str, TrainingSettings],
    families: Mapping[str, Family],
    failed: Collection[str],
) -> str:
    """Options of Snakemake for the report of all variants but those that failed.

    raw: the configuration as it was read. The others stay as they are: one that has its weight from
    a variant that goes gets it as a number, and so do the members of a family that stay.
    """

    def left(name: str) -> Any:
        """What the options say of a variant of the configuration, or of a family."""
        if name not in families:
            return {"kl_weight": variants[name].kl_weight}
        family = families[name]
        values = [value for member, value in family.members.items() if member not in failed]
        return {family.key: values} if values else False

    changes: dict[str, Any] = {}
    for name in failed:
        family = family_of(families, name)
        changes[family] = left(family) if family in families else False
    default = (raw.get("training") or {}).get("kl_weight")
    for name, own in raw["variants"].items():
        if name in changes or name not in {*variants, *families}:
            continue
        rule = own.get("kl_weight", default)
        if isinstance(rule, str) and rule in {*changes, *failed}:
            changes[name] = left(name)
    named = json.dumps(changes).replace('"', "")
    pairs = raw.get("comparisons")
    lost = isinstance(pairs, list) and any(name in changes for pair in pairs for name in pair)
    return f"--config variants='{named}'" + (" comparisons=auto" if lost else "")


def warn_of_twins(variants: dict[str, TrainingSettings], families: Mapping[str, Family]) -> None:
    """Log a warning for each variant whose training is identical to that of an earlier one."""
    first: dict[TrainingSettings, str] = {}
    for name, settings in variants.items():
        other = first.setdefault(settings, name)
        if other != name:
            family = family_of(families, name)
            log.warning(
                "variants %s and %s are identical trainings (objective %s); "
                "remove one with variants: {%s: false}%s",
                other,
                name,
                settings.objective,
                family,
                "" if family == name else f", or take its {families[family].key} out of the list",
            )
