"""The JSON Schema of config.yaml, made from the dataclasses of settings and from sources.yaml.

    python -m svae.config.schema > config.schema.json

writes the file for editors that the first line of config.yaml names.
"""

import ast
import functools
import json
from pathlib import Path
from typing import Any, NamedTuple

from svae.config.section import section_schema
from svae.config.sweeps import with_lists
from svae.datasets.catalogue import Dataset, catalogue
from svae.scores.registry import scores
from svae.settings.conversion import ConversionSection
from svae.settings.export import ExportSettings
from svae.settings.fetch import FetchSettings
from svae.settings.fields import END
from svae.settings.figure import FigureSettings
from svae.settings.general import GeneralSettings
from svae.settings.model import ModelSection, VariantSection
from svae.settings.sampling_section import SamplingSection
from svae.settings.services import CheckpointSettings, TensorBoardSettings
from svae.settings.training import TrainingSection

POSTERIORS = Path(__file__).parents[1] / "model/posteriors.py"
# Of variants: of folders and values that they would be confused with, and of devices of Windows.
RESERVED = ("published", "baselines", "aux", "con", "nul", "prn")
MOST_CHARACTERS = 64  # of a variant's name, which is part of names of files
DIALECT = "https://json-schema.org/draft/2020-12/schema"


class Section(NamedTuple):
    settings: type  # a dataclass whose fields are declared by svae.settings.fields.setting
    description: str


SECTIONS = {
    "fetch": Section(FetchSettings, "timeouts and retries of downloads"),
    "conversion": Section(ConversionSection, "how images are converted into data/DATASET.h5"),
    "model": Section(ModelSection, "the model of every variant, unless the variant overrides it"),
    "training": Section(
        TrainingSection, "the training of every variant, unless the variant overrides it"
    ),
    "checkpoints": Section(CheckpointSettings, "when a training saves its state"),
    "tensorboard": Section(TensorBoardSettings, "what TensorBoard shows"),
    "sampling": Section(SamplingSection, "the samples drawn from each variant"),
    **{
        name: Section(score.settings, f"the score {score.title}")
        for name, score in scores().items()
        if score.settings and not score.section
    },
    "figure": Section(FigureSettings, "the comparison figure"),
    "export": Section(ExportSettings, "what results/export_VARIANT contains"),
}


def config_schema() -> dict[str, Any]:
    """The schema of a whole configuration."""
    known = catalogue()
    general = section_schema(GeneralSettings, "the configuration")
    sections = {name: section_schema(*section) for name, section in SECTIONS.items()}
    general["properties"]["dataset"]["enum"] = list(known)
    sections["conversion"]["properties"] |= _option_schemas(known)
    sections["training"]["properties"] = with_lists(sections["training"]["properties"])
    return {
        "$schema": DIALECT,
        **general,
        "required": [*general["required"], "variants"],
        "properties": {
            **general["properties"],
            "sources": _sources_schema(known),
            "variants": _variants_schema(sections["model"], sections["training"]),
            **sections,
        },
    }


def _variants_schema(*overridden: dict[str, Any]) -> dict[str, Any]:
    """What `variants` may contain; a variant may override any setting of these sections."""
    variant = section_schema(
        VariantSection, "a posterior and overrides, such as {posterior: vanilla, latent_maps: 576}"
    )
    own = variant.pop("properties")
    own["posterior"]["enum"] = list(posterior_classes())
    inherited = {
        name: schema for section in overridden for name, schema in section["properties"].items()
    }
    return {
        "description": "variants by name, such as low_rank: {posterior: low_rank}",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {
            "description": f"a letter, then letters, digits and underscores, {MOST_CHARACTERS} at "
            f"most, but not {', '.join(RESERVED[:-1])} or {RESERVED[-1]}",
            "pattern": f"^[A-Za-z][A-Za-z0-9_]{{0,{MOST_CHARACTERS - 1}}}{END}",
            "not": {"enum": list(RESERVED)},
        },
        "additionalProperties": {**variant, "properties": {**inherited, **own}},
    }


@functools.cache
def posterior_classes() -> dict[str, str]:
    """POSTERIORS as names of classes, read from its source: an import would import TensorFlow."""
    for node in ast.parse(POSTERIORS.read_text(encoding="utf-8")).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id="POSTERIORS"), value=ast.Dict() as names):
                return {
                    ast.literal_eval(key): ast.unparse(value)
                    for key, value in zip(names.keys, names.values, strict=True)
                    if key is not None
                }
    raise LookupError(f"{POSTERIORS} has no POSTERIORS: dict[...] = {{...}}")


def _option_schemas(known: dict[str, Dataset]) -> dict[str, dict[str, Any]]:
    """The values of `conversion.OPTION`, for the options of all data sets."""
    schemas: dict[str, dict[str, Any]] = {}
    for dataset in known.values():
        for option, choices in dataset.options.items():
            schema = schemas.setdefault(
                option,
                {"description": f"{option} of {dataset.name}", "enum": [], "default": choices[0]},
            )
            schema["enum"] += [choice for choice in choices if choice not in schema["enum"]]
    return schemas


def _sources_schema(known: dict[str, Dataset]) -> dict[str, Any]:
    """What `sources` may contain: for each data set that has files, where they are."""
    return {
        "description": "where the files of a data set come from, if not from the official address",
        "type": "object",
        "additionalProperties": False,
        "default": {},
        "properties": {
            name: _source_schema(dataset) for name, dataset in known.items() if dataset.files
        },
    }


def _source_schema(dataset: Dataset) -> dict[str, Any]:
    """What `sources.NAME` may contain: one location per role, and checksums."""
    roles = list(dict.fromkeys(file.role for file in dataset.files))
    folder = "a folder, " * any(file.folder for file in dataset.files)
    location = {
        "description": f"{folder}a path (relative to the working directory), an address or "
        "official",
        "type": "string",
        "minLength": 1,
    }
    digest: dict[str, Any] = {
        "description": "the file's SHA-256, 64 hexadecimal digits in quotes",
        "type": "string",
        "pattern": "^[0-9a-fA-F]{64}" + END,
    }
    checksum: dict[str, Any] = digest
    if roles != ["archive"]:
        checksum = {
            "description": f"SHA-256 by role, such as {{{roles[0]}: HEX}}",
            "type": "object",
            "additionalProperties": False,
            "properties": dict.fromkeys(roles, digest),
        }
        if "archive" in roles:
            checksum = {"description": "checksums", "anyOf": [digest, checksum]}
    return {
        "description": f"a source, such as {{{roles[0]}: {dataset.files[0].name}}}",
        "type": "object",
        "additionalProperties": False,
        "properties": {**dict.fromkeys(roles, location), "sha256": checksum},
    }


def editor_schema() -> dict[str, Any]:
    """The schema for editors, which also accepts a file that overrides another one: it may lack
    data set and variants, and may have `NAME: false` under variants."""
    schema = config_schema()
    variants = schema["properties"]["variants"]
    variants["additionalProperties"] = {
        "anyOf": [variants["additionalProperties"], {"const": False}]
    }
    return {key: value for key, value in schema.items() if key != "required"}


def main() -> None:
    print(json.dumps(editor_schema(), indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
