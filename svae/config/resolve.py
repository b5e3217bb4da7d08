"""A configuration, checked and resolved: from a config.yaml's mapping to each stage's settings.

Light enough for the Snakefile: neither TensorFlow nor h5py nor numpy is imported.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from svae.config.data import (
    Conversion,
    Fetching,
    Source,
    image_size,
    resolve_conversion,
    resolve_sources,
    with_datasets,
)
from svae.config.schema import check_writable, checked, closest, shown
from svae.config.score_sections import refuse_moved_keys, with_scores
from svae.datasets.catalogue import Dataset, catalogue
from svae.errors import UserError
from svae.model import geometry
from svae.scores.registry import scores
from svae.settings.parzen import ParzenSettings
from svae.settings.sampling import SamplingSettings
from svae.settings.services import Services
from svae.settings.training import TrainingSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Configuration:
    """All settings, by stage."""

    dataset: Dataset
    sources: dict[str, Source]
    fetching: Fetching
    conversion: Conversion
    seeds: tuple[int, ...]
    device: str  # auto, cpu or gpu
    threads: int  # of TensorFlow, in a job that is of no variant
    services: Services
    variants: dict[str, TrainingSettings]
    sampling: SamplingSettings
    parzen: ParzenSettings
    """What every Parzen score is taken by, those of sanity rows too."""
    scores: dict[str, Any]
    """The settings of each score by its name; None where it has none."""
    figure_columns: int
    figure_seeds: str  # first or all
    figure_training_images: bool


def config_file(working: Path, clone: Path) -> Path:
    """working/config.yaml if there is one, else the clone's; UserError if it holds no mapping."""
    path = working / "config.yaml"
    if not path.exists():
        path = clone / "config.yaml"
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it with: git checkout config.yaml") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); put a file there") from None
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text; save it as UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1
        tab = r"\t" in error.problem
        remedy = "indent with spaces" if tab else "correct that line or the one above"
        raise UserError(f"{path}, line {line}: {error.problem}; {remedy}") from None
    except UserError as error:
        raise UserError(f"{path}, {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    check_writable(content)
    if content is None:
        raise UserError(f"{path} is empty; give it at least dataset and variants, or delete it")
    if not isinstance(content, dict):
        kind = shown(content)
        raise UserError(
            f"{path} holds {kind}; write one KEY: VALUE a line, as in dataset: mnist_5k"
        )
    return path


class _Loader(yaml.SafeLoader):
    """Refuses a key that stands twice in a mapping; YAML would take the last in silence."""

    def compose_mapping_node(self, anchor: str | None) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                line = key.start_mark.line + 1
                raise UserError(f"line {line}: {key.value} is there a second time; keep one")
            seen.add(key.value)
        return node


def resolve(raw: dict[str, Any], schema: dict[str, Any], working: Path) -> Configuration:
    """Check `raw` against the schema and beyond it, fill in defaults, resolve every variant.

    `working`: the folder that relative paths in the configuration start from. UserError with all
    that the schema does not allow, or else with the first contradiction.
    """
    refuse_moved_keys(raw)
    config = checked(raw, with_scores(with_datasets(schema)))

    published = catalogue()[config["dataset"]]
    conversion = resolve_conversion(config["conversion"], published)
    dataset = published.chosen(conversion.options)
    own = config["sources"].get(dataset.name, {})
    sources = resolve_sources(dataset, own, working)
    height, width = image_size(dataset, conversion)
    variants = _variants(config, height * width * conversion.channels)
    padding = 0 if conversion.crop or conversion.size else dataset.padding
    _check_sizes(config, variants, height + 2 * padding, width + 2 * padding)
    _warn_of_twins(variants)
    _check_counts(config, variants, dataset)
    sampling = config["sampling"]
    if sampling["batch_norm"] == "batch" and sampling["n_samples"] % sampling["batch_size"]:
        raise UserError(
            f"sampling.n_samples is {sampling['n_samples']}, no multiple of sampling.batch_size, "
            f"which is {sampling['batch_size']}; with batch_norm batch, all batches must be equal"
        )
    parzen = config["parzen"]
    low, high = parzen["sigma_log10_min"], parzen["sigma_log10_max"]
    if low > high:
        raise UserError(
            f"parzen.sigma_log10_min is {low:g}, above parzen.sigma_log10_max, which is {high:g}; "
            f"swap them"
        )
    if parzen["refine"] and parzen["protocol"] == "paper":
        raise UserError(
            "parzen.refine is true, but under protocol paper each sigma has images of its own, so "
            "that nothing can be searched between them; set it to false, or take protocol disjoint"
        )
    return Configuration(
        dataset=dataset,
        sources=sources,
        fetching=Fetching(**config["fetch"]),
        conversion=conversion,
        seeds=tuple(config["seeds"]),
        device=config["device"],
        threads=config["training"]["threads"],
        services=Services(
            checkpoint_minutes=config["checkpoints"]["minutes"],
            picture_epochs=config["tensorboard"]["picture_epochs"],
        ),
        variants=variants,
        sampling=SamplingSettings(**sampling),
        parzen=scores()["linear_vae"].settings_of(config),
        scores={name: score.settings_of(config) for name, score in scores().items()},
        figure_columns=config["figure"]["columns"],
        figure_seeds=config["figure"]["seeds"],
        figure_training_images=config["figure"]["training_images"],
    )


def _origin(config: dict[str, Any], name: str, key: str) -> str:
    """The full key from which a variant has a value."""
    if key in config["variants"][name]:
        return f"variants.{name}.{key}"
    return f"model.{key}" if key in config["model"] else f"training.{key}"


def _variants(config: dict[str, Any], dimension: int) -> dict[str, TrainingSettings]:
    merged = {
        name: {**config["model"], **config["training"], **own}
        for name, own in config["variants"].items()
    }
    for name, values in merged.items():
        if values["posterior"] == "vanilla":
            if config["variants"][name].get("latent_size", 1) != 1:
                raise UserError(
                    f"variants.{name}.latent_size is {values['latent_size']}, but a vanilla latent "
                    f"is a vector; drop the key, or take posterior naive, mvn or low_rank"
                )
            values["latent_size"] = 1
        if values["learning_rate_warmup_epochs"] > values["epochs"]:
            raise UserError(
                f"{_origin(config, name, 'learning_rate_warmup_epochs')} is "
                f"{values['learning_rate_warmup_epochs']:g}, but variant {name} has "
                f"{values['epochs']} epochs; lower it"
            )
        if values["objective"] == "weighted" and values["beta"] != 1:
            raise UserError(
                f"{_origin(config, name, 'beta')} is {values['beta']:g}, but variant {name} has "
                f"objective weighted; leave beta at 1 and set kl_weight, or take objective elbo"
            )
    settings = {}
    for name, values in merged.items():
        weighted = values["objective"] == "weighted"
        own = {
            "kl_weight": _kl_weight(config, name, merged, dimension, []) if weighted else None,
            "decoder_variance": None if weighted else values["decoder_variance"],
        }
        if values["posterior"] != "low_rank":
            own["low_rank_start"] = None  # decides nothing there, so it reruns nothing
        if own["decoder_variance"] != "learned":  # its rate decides nothing, so it reruns nothing
            own["decoder_variance_learning_rate"] = None
        settings[name] = TrainingSettings(**{**values, **own})
    return settings


def published_weight(dimension: int, latent_entries: int) -> float:
    """w = D / L: what the published code's two means amount to (see svae.model.objectives).

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
    where = f"{_origin(config, name, 'kl_weight')} is {shown(rule)}"
    if rule not in merged:
        others = ", ".join(other for other in merged if other != name) or "there is none"
        close = closest(rule, ["published", *merged])
        raise UserError(
            f"{where}; it must be published, a number above 0 or the name of another variant "
            f"({others})" + (f"; did you mean {close}?" if close and close != name else "")
        )
    if rule == name or rule in seen:
        raise UserError(
            f"{where}, so that variant {rule} would take its weight from itself; "
            f"give variants.{rule}.kl_weight a number or published"
        )
    if merged[rule]["objective"] == "elbo":
        raise UserError(
            f"{where}, but variant {rule} has objective elbo and so no kl_weight; "
            f"write a number or published"
        )
    return _kl_weight(config, rule, merged, dimension, [*seen, name])


def _check_sizes(
    config: dict[str, Any], variants: dict[str, TrainingSettings], height: int, width: int
) -> None:
    for name, settings in variants.items():
        stem = settings.posterior == "vanilla"
        try:
            geometry.check(height, width, settings.latent_size, stem)
        except UserError as error:
            if geometry.fitting_latent_sizes(height) and not stem:
                raise UserError(f"{_origin(config, name, 'latent_size')}: {error}") from None
            given = [key for key in ("size", "crop") if config["conversion"][key]]
            where = f"conversion.{given[0]}" if given else f"variants.{name}"
            raise UserError(f"{where}: {error}; set conversion.size to 32, 64 or 128") from None


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
    """Counts against those of the official data set; a smaller one's are counted by the stages."""
    splits, parzen = dataset.counts, config["parzen"]
    if splits is None:
        return
    for name, settings in variants.items():
        if settings.batch_size > splits["train"]:
            raise UserError(
                f"{_origin(config, name, 'batch_size')} is {settings.batch_size}, but "
                f"{dataset.name} has {splits['train']} training images; lower it"
            )
    limits = {"n_valid": splits["valid"], "n_test": splits["test"]}
    images = {"n_valid": "validation images", "n_test": "test images"}
    if parzen["protocol"] == "paper":
        count = parzen["sigma_count"]
        limits["n_valid"] = splits["test"] // count
        images["n_valid"] = f"test images for each of {count} sigmas (protocol paper)"
        if limits["n_valid"] < 2:
            raise UserError(
                f"parzen.sigma_count is {count}, but under protocol paper each sigma needs 2 or "
                f"more test images of its own and {dataset.name} has {splits['test']}; lower it"
            )
    for key, limit in limits.items():
        if parzen[key] != "auto" and parzen[key] > limit:
            raise UserError(
                f"parzen.{key} is {parzen[key]}, but {dataset.name} has {limit} {images[key]}; "
                f"lower it or write auto"
            )
