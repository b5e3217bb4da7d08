"""A configuration, checked and resolved: from a config.yaml's mapping to each stage's settings.

Light enough for the Snakefile: neither TensorFlow nor h5py nor numpy is imported.
"""

import contextlib
import difflib
import logging
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from svae import geometry
from svae.datasets.catalogue import Dataset, catalogue
from svae.errors import UserError
from svae.settings import ParzenSettings, SamplingSettings, TrainingSettings

log = logging.getLogger(__name__)
MOST_MESSAGES = 4
PARZEN_AUTO = {"n_valid": 1000, "n_test": 10_000}  # the field's protocol, where there are as many


@dataclass(frozen=True)
class Source:
    """One file of a data set: a local path, or an address to fetch it from."""

    role: str
    location: str
    sha256: str | None

    @property
    def remote(self) -> bool:
        return self.location.startswith(("http://", "https://", "ftp://"))


@dataclass(frozen=True)
class Configuration:
    """All settings, by stage."""

    dataset: Dataset
    sources: dict[str, Source]
    crop: int | None
    size: int | None
    seed: int
    variants: dict[str, TrainingSettings]
    sampling: SamplingSettings
    parzen: ParzenSettings
    figure_columns: int


def config_file(working: Path, clone: Path) -> Path:
    """working/config.yaml if there is one, else the clone's; UserError if it holds no mapping."""
    path = working / "config.yaml"
    if not path.exists():
        path = clone / "config.yaml"
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it with: git checkout config.yaml") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        raise UserError(f"{path} is empty; give it at least dataset and variants, or delete it")
    if not isinstance(content, dict):
        kind = _name(content)
        raise UserError(
            f"{path} holds {kind}; write one KEY: VALUE a line, as in dataset: mnist_5k"
        )
    return path


def resolve(raw: dict[str, Any], schema: dict[str, Any], working: Path) -> Configuration:
    """Check `raw` against the schema and beyond it, fill in defaults, resolve every variant.

    `working`: the folder that relative paths in the configuration start from. UserError with all
    that is wrong (at most `MOST_MESSAGES` lines) if anything is.
    """
    raw = _without_removed_variants(raw)
    raw = _typed(raw, schema, schema)
    problems = list(_problems(raw, schema))
    if problems:
        more = len(problems) - MOST_MESSAGES + 1
        if more > 1:
            problems = [*problems[: MOST_MESSAGES - 1], f"... and {more} more"]
        raise UserError("\n".join(problems))
    config = _with_defaults(raw, schema, schema)

    dataset = catalogue()[config["dataset"]]
    crop, size = config["conversion"]["crop"], config["conversion"]["size"]
    height, width = _image_size(dataset, crop, size)
    variants = _variants(config, height * width * dataset.channels)
    padding = dataset.padding if crop is None and size is None else 0
    for name, settings in variants.items():
        try:
            stem = settings.posterior == "vanilla"
            geometry.check(height + 2 * padding, width + 2 * padding, settings.latent_size, stem)
        except UserError as error:
            raise UserError(f"variants.{name}: {error}") from None
    _warn_of_twins(variants)
    overridden = config["sources"].get(dataset.name)
    if not overridden:
        _check_counts(config, variants, dataset)
    if config["parzen"]["sigma_log10_min"] > config["parzen"]["sigma_log10_max"]:
        raise UserError("parzen.sigma_log10_min is above parzen.sigma_log10_max; swap them")
    return Configuration(
        dataset=dataset,
        sources=_sources(dataset, overridden, working),
        crop=crop,
        size=size,
        seed=config["seed"],
        variants=variants,
        sampling=SamplingSettings(**config["sampling"]),
        parzen=ParzenSettings(**config["parzen"]),
        figure_columns=config["figure"]["columns"],
    )


# Checks by the schema ---------------------------------------------------------------------------


def _problems(raw: dict[str, Any], schema: dict[str, Any]) -> Iterator[str]:
    for key, value in _leaves(raw):
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{key} is {value}; write a finite number"
    validator = Draft202012Validator(schema)
    for error in sorted(validator.iter_errors(raw), key=lambda e: [str(part) for part in e.path]):
        yield _message(error, schema)


def _message(error: ValidationError, root: dict[str, Any]) -> str:
    """One line: the key, what is wrong with it, and what to write instead."""
    key = ".".join(map(str, error.absolute_path))
    rule, value = error.validator, error.instance
    if rule == "additionalProperties":
        known = list(error.schema["properties"])
        unknown = [str(name) for name in value if name not in known]
        return "; ".join(
            f"unknown key {_join(key, name)}; {_suggestion(name, known)}" for name in unknown
        )
    if rule == "required":
        missing = next(name for name in error.validator_value if name not in value)
        expected = _expectation(error.schema["properties"][missing], root)
        return f"{_join(key, missing)} is missing; it must be {expected}"
    if rule == "minProperties":
        return f"{key} is empty; name at least one, such as low_rank: {{posterior: low_rank}}"
    if error.parent is not None or "propertyNames" in error.absolute_schema_path:
        return f"{_join(key, str(value))} is no name for a variant; use {_name_rule(root)}"
    message = f"{key} is {_name(value)}; it must be {_expectation(error.schema, root)}"
    names = error.schema.get("enum", [])
    close = difflib.get_close_matches(str(value), map(str, names), n=1)
    return message + (f"; did you mean {close[0]}?" if close else "")


def _name_rule(root: dict[str, Any]) -> str:
    return root["properties"]["variants"]["propertyNames"]["description"] + ", and not 'published'"


def _suggestion(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _name(value: Any) -> str:
    """A value as a message shows it."""
    if value is None:
        return "empty"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    return f"{value!r} (text)" if isinstance(value, str) else repr(value)


def _expectation(schema: dict[str, Any], root: dict[str, Any]) -> str:
    """What a schema asks for, in words."""
    schema = _dereference(schema, root)
    about = f" ({schema['description']})" if "description" in schema else ""
    if "const" in schema:
        return f"{schema['const']}"
    if "enum" in schema:
        return f"one of {', '.join(map(str, schema['enum']))}{about}"
    if "anyOf" in schema:
        return " or ".join(_expectation(option, root) for option in schema["anyOf"]) + about
    words = {
        "integer": "a whole number",
        "number": "a number",
        "string": "text",
        "object": "a mapping",
        "null": "null",
    }
    ranges = {
        "minimum": "at least",
        "exclusiveMinimum": "above",
        "maximum": "at most",
        "exclusiveMaximum": "below",
    }
    limits = [f"{word} {schema[key]}" for key, word in ranges.items() if key in schema]
    return (
        " ".join(
            [" or ".join(words[kind] for kind in _kinds(schema)), " and ".join(limits)]
        ).strip()
        + about
    )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, _join(key, str(name)))
    else:
        yield key, value


# Normal form ------------------------------------------------------------------------------------


def _without_removed_variants(raw: dict[str, Any]) -> dict[str, Any]:
    """`NAME: false` under variants leaves a variant out, as a second --configfile cannot delete."""
    if not isinstance(raw.get("variants"), dict):
        return raw
    kept = {k: v for k, v in raw["variants"].items() if v not in (False, "false")}
    return {**raw, "variants": kept}


def _dereference(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _typed(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Read text as the number or null that it is meant to be, where the schema asks for one.

    YAML 1.1 takes 1e-3 for text, for want of a dot, and Snakemake all inner values of
    --config training='{epochs: 5}'.
    """
    schema = _dereference(schema, root)
    if isinstance(value, dict):
        other = schema.get("additionalProperties") or {}
        known = schema.get("properties", {})
        return {k: _typed(v, known.get(k, other), root) for k, v in value.items()}
    kinds = {kind for option in [schema, *schema.get("anyOf", [])] for kind in _kinds(option)}
    if isinstance(value, str) and "null" in kinds and value in ("null", "~", ""):
        return None
    if isinstance(value, str) and kinds & {"integer", "number"}:
        for read in (int, float):
            with contextlib.suppress(ValueError):
                return read(value)
    return value


def _kinds(schema: dict[str, Any]) -> list[str]:
    kinds = schema.get("type", [])
    return [kinds] if isinstance(kinds, str) else kinds


def _with_defaults(raw: Any, schema: dict[str, Any], root: dict[str, Any]) -> Any:
    """Defaults for all that is not given, but not inside variants, whose defaults are elsewhere."""
    schema = _dereference(schema, root)
    if schema.get("type") == "integer" and raw is not None:
        return int(raw)
    if schema.get("type") == "number":
        return float(raw)
    if not isinstance(raw, dict) or "properties" not in schema:
        return raw
    filled = {
        name: _dereference(inner, root)["default"]
        for name, inner in schema["properties"].items()
        if "default" in _dereference(inner, root)
    }
    return {
        name: _with_defaults(value, schema["properties"][name], root)
        for name, value in (filled | raw).items()
    }


# Checks beyond the schema -----------------------------------------------------------------------


def _image_size(dataset: Dataset, crop: int | None, size: int | None) -> tuple[int, int]:
    """Height and width of the stored images."""
    if crop is not None and crop > min(dataset.height, dataset.width):
        raise UserError(
            f"conversion.crop is {crop}, but {dataset.name} has {dataset.height}x{dataset.width} "
            f"images; lower it or write null"
        )
    side = size or crop
    return (side, side) if side else (dataset.height, dataset.width)


def _variants(config: dict[str, Any], dimension: int) -> dict[str, TrainingSettings]:
    merged = {
        name: {**config["model"], **config["training"], **own}
        for name, own in config["variants"].items()
    }
    for name, own in config["variants"].items():
        if own["posterior"] == "vanilla":
            if own.get("latent_size", 1) != 1:
                raise UserError(
                    f"variants.{name}.latent_size is {own['latent_size']}, but a vanilla latent is "
                    f"a vector: drop the key, or take posterior naive, mvn or low_rank"
                )
            merged[name]["latent_size"] = 1
        if merged[name]["objective"] == "weighted" and merged[name]["beta"] != 1:
            raise UserError(
                f"variants.{name}: beta belongs to objective elbo; under objective weighted set "
                f"kl_weight, or leave beta at 1"
            )
    return {name: _settings(name, merged, dimension) for name in merged}


def _settings(name: str, merged: dict[str, dict], dimension: int) -> TrainingSettings:
    values = dict(merged[name])
    if values["objective"] == "elbo":
        values["kl_weight"] = None
        if values["decoder_variance"] not in ("optimal", "learned"):
            values["decoder_variance"] = float(values["decoder_variance"])
    else:
        values["kl_weight"] = _kl_weight(name, merged, dimension, [])
        values["decoder_variance"] = None
    for key in ("dropout", "beta", "kl_warmup_epochs", "learning_rate"):
        values[key] = float(values[key])
    for key in ("latent_maps", "latent_size", "epochs", "batch_size", "threads"):
        values[key] = int(values[key])
    values["decoder_variance_learning_rate"] = float(values["decoder_variance_learning_rate"])
    return TrainingSettings(**values)


def _kl_weight(name: str, merged: dict[str, dict], dimension: int, seen: list[str]) -> float:
    """w of a variant: a number, D / L as published, or the weight of the variant it names."""
    rule, values = merged[name]["kl_weight"], merged[name]
    if rule == "published":
        return dimension / (values["latent_maps"] * values["latent_size"] ** 2)
    if not isinstance(rule, str):
        return float(rule)
    where = f"variants.{name}.kl_weight is {rule!r}"
    if rule not in merged:
        known = ["published", *(other for other in merged if other != name)]
        raise UserError(
            f"{where}; it must be a number above 0, published, or the name of another variant; "
            f"{_suggestion(rule, known)}"
        )
    if rule == name or rule in seen:
        raise UserError(f"{where}, which leads back to itself; give a number or published")
    return _kl_weight(rule, merged, dimension, [*seen, name])


def _warn_of_twins(variants: dict[str, TrainingSettings]) -> None:
    first: dict[TrainingSettings, str] = {}
    for name, settings in variants.items():
        other = first.setdefault(settings, name)
        if other != name:
            log.warning(
                "variants %s and %s are the same training (objective %s); "
                "leave one out with variants: {%s: false}",
                other,
                name,
                settings.objective,
                name,
            )


def _check_counts(
    config: dict[str, Any], variants: dict[str, TrainingSettings], dataset: Dataset
) -> None:
    """Counts against the data set's; a source of the user's own is counted by the stages."""
    splits, parzen = dataset.counts, config["parzen"]
    for name, settings in variants.items():
        if settings.batch_size > splits["train"]:
            raise UserError(
                f"variants.{name}: batch_size is {settings.batch_size}, but {dataset.name} has "
                f"{splits['train']} training images; lower it"
            )
    tried = parzen["n_valid"]
    limits = {"n_valid": splits["valid"], "n_test": splits["test"]}
    if parzen["protocol"] == "paper":
        limits["n_valid"] = splits["test"] // parzen["sigma_count"]
    for key, limit in limits.items():
        if parzen[key] != "auto" and parzen[key] > limit:
            raise UserError(
                f"parzen.{key} is {parzen[key]}, but {dataset.name} has {limit} images for it "
                f"(protocol {parzen['protocol']}); lower it or write auto"
            )
    if parzen["protocol"] == "paper" and tried == "auto" and limits["n_valid"] < 2:
        raise UserError(
            f"parzen.sigma_count is {parzen['sigma_count']}, but protocol paper needs a block of "
            f"test images for each and {dataset.name} has {splits['test']}; lower it"
        )


def _sources(
    dataset: Dataset, overridden: dict[str, str] | None, working: Path
) -> dict[str, Source]:
    sources = {}
    for file in dataset.files:
        role, own = file.role, (overridden or {}).get(file.role)
        source = Source(role, own or file.url, (overridden or {}).get("sha256"))
        if own and not source.remote and not (working / own).is_file():
            raise UserError(
                f"sources.{dataset.name}.{role} is {own}, but there is no such file in {working}; "
                f"correct the path, or drop the key to fetch the file"
            )
        sources[role] = source
    return sources


def as_params(settings: Any) -> dict[str, Any]:
    """A stage's settings as the plain mapping that a rule hands to its script."""
    return asdict(settings)
