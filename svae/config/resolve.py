"""A configuration, checked and resolved: from a config.yaml's mapping to each stage's settings.

Imported by the Snakefile: no TensorFlow, h5py or NumPy.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from svae.config.check import checked
from svae.config.data import (
    Conversion,
    KnownImages,
    Source,
    image_size,
    known_images,
    resolve_conversion,
    resolve_export,
    resolve_sources,
)
from svae.config.moved import refuse_moved_keys
from svae.config.schema import config_schema
from svae.config.sweeps import Family, expanded
from svae.config.variants import (
    check_batch_sizes,
    check_latent_sizes,
    resolve_comparisons,
    resolve_variants,
    warn_of_twins,
)
from svae.datasets.catalogue import Dataset, catalogue
from svae.errors import UserError
from svae.scores.registry import scores
from svae.scores.score import part_of
from svae.settings.export import ExportSettings
from svae.settings.fetch import FetchSettings
from svae.settings.figure import FigureSettings
from svae.settings.fitted_prior import PriorSettings
from svae.settings.parzen import ParzenSettings
from svae.settings.sampling import SamplingSettings
from svae.settings.sampling_section import SamplingSection
from svae.settings.services import CheckpointSettings, Services, TensorBoardSettings
from svae.settings.training import TrainingSettings


@dataclass(frozen=True)
class Configuration:
    """All settings, by stage."""

    dataset: Dataset
    name: str
    """The data set's in names of files and folders."""
    sources: dict[str, Source]
    fetch: FetchSettings
    conversion: Conversion
    seeds: tuple[int, ...]
    comparisons: tuple[tuple[str, str], ...] | None
    """The pairs of variants whose differences are asked for; None: every variant against the
    first."""
    device: str  # auto, cpu or gpu
    threads: Literal["auto"] | int  # of jobs that belong to no variant
    services: Services
    variants: dict[str, TrainingSettings]
    families: dict[str, Family]
    """The variants that lists make, by the name that the configuration has for them."""
    sampling: SamplingSettings
    prior: PriorSettings
    parzen: ParzenSettings
    """For every Parzen score, including those of the sanity rows."""
    scores: dict[str, Any]
    """The settings of each score by its name; None if it has none."""
    figure: FigureSettings
    export: ExportSettings


def resolve(raw: dict[str, Any], working: Path) -> Configuration:
    """Check `raw`, the mapping of a config.yaml, fill in defaults, and resolve every variant.

    `working`: the folder that relative paths in the configuration start from. UserError with all
    that the schema does not allow, or else with the first contradiction.
    """
    refuse_moved_keys(raw)
    config = expanded(checked(raw, config_schema()))

    published = catalogue()[config["dataset"]]
    conversion = resolve_conversion(config["conversion"], published)
    dataset = published.chosen(conversion.options)
    known = known_images(dataset, conversion)
    if conversion.max_images is not None:
        dataset = replace(dataset, counts=None)
    name = _checked_name(config["name"], dataset)
    if name != dataset.name:
        dataset = replace(dataset, title=f"{name} ({dataset.title})")
    own = config["sources"].get(dataset.name, {})
    sources = resolve_sources(dataset, own, working)
    height, width = image_size(dataset, conversion)
    variants = resolve_variants(config, height * width * conversion.channels)
    padding = 0 if conversion.crop or conversion.size else dataset.padding
    check_latent_sizes(config, variants, height + 2 * padding, width + 2 * padding)
    warn_of_twins(variants, config["families"])
    check_batch_sizes(config, variants, known)
    sampling, prior = _resolved_sampling(SamplingSection(**config["sampling"]))
    return Configuration(
        dataset=dataset,
        name=name,
        sources=sources,
        fetch=FetchSettings(**config["fetch"]),
        conversion=conversion,
        seeds=tuple(config["seeds"]),
        comparisons=resolve_comparisons(config),
        device=config["device"],
        threads=config["training"]["threads"],
        services=Services(
            checkpoints=CheckpointSettings(**config["checkpoints"]),
            tensorboard=TensorBoardSettings(**config["tensorboard"]),
        ),
        variants=variants,
        families=config["families"],
        parzen=_checked_parzen(part_of(config["parzen"], ParzenSettings), known),
        scores={name: score.settings_of(config) for name, score in scores().items()},
        sampling=sampling,
        prior=prior,
        figure=FigureSettings(**config["figure"]),
        export=resolve_export(config["export"], working),
    )


def _checked_name(name: str | None, dataset: Dataset) -> str:
    """The name of the data set's files: the user's, or that of the data set."""
    others = catalogue().keys() - {dataset.name}
    if name is not None and name.lower() in {other.lower() for other in others}:
        raise UserError(
            f"name is {name}, which is another data set than {dataset.name}; use another name"
        )
    return dataset.name if name is None else name


def _resolved_sampling(section: SamplingSection) -> tuple[SamplingSettings, PriorSettings]:
    """The settings of the samples, and those of the prior that they are drawn from."""
    _check_batches(section)
    prior = PriorSettings(
        prior=section.prior,
        components=section.components if section.prior == "mixture" else 1,
        statistics=section.batch_norm == "prior",
    )
    sampling = SamplingSettings(
        n_samples=section.n_samples,
        batch_size=section.batch_size,
        batch_norm=section.batch_norm,
        fitted_prior=prior.prior != "standard",
        prior_statistics=prior.statistics,
    )
    return sampling, prior


def _check_batches(sampling: SamplingSection) -> None:
    if sampling.batch_norm == "batch" and sampling.batch_size == 1:
        raise UserError(
            "sampling.batch_size is 1, but with batch_norm batch the statistics would be those of "
            "one sample; set it to 2 or more"
        )
    if sampling.batch_norm == "batch" and sampling.n_samples % sampling.batch_size:
        raise UserError(
            f"sampling.n_samples is {sampling.n_samples}, not a multiple of sampling.batch_size, "
            f"which is {sampling.batch_size}; with batch_norm batch, all batches must be of this "
            f"size: change one of the two"
        )


def _checked_parzen(parzen: ParzenSettings, known: KnownImages | None) -> ParzenSettings:
    _check_counts(parzen, known)
    low, high = parzen.sigma_log10_min, parzen.sigma_log10_max
    if low > high:
        raise UserError(
            f"parzen.sigma_log10_min is {low:g}, above parzen.sigma_log10_max, which is {high:g}; "
            f"swap them"
        )
    if parzen.refine is True and parzen.protocol == "paper":
        raise UserError(
            "parzen.refine is true, but with protocol paper each sigma has its own images, and no "
            "search between sigmas is possible; set it to auto, or use protocol disjoint"
        )
    return parzen


def _check_counts(parzen: ParzenSettings, known: KnownImages | None) -> None:
    """Check against what is known of the data set; a smaller one is checked when it is scored."""
    if known is None:
        return
    valid, test = known.counts["valid"], known.counts["test"]
    images = "validation images"
    if parzen.protocol == "paper":
        count = parzen.sigma_count
        valid, images = test // count, f"test images for each of {count} sigmas (protocol paper)"
        if valid < 2:
            raise UserError(
                f"parzen.sigma_count is {count}, but with protocol paper each sigma needs at least "
                f"2 test images of its own, and {known.whose} {test}; lower it"
            )
    for key, asked, limit, kind in (
        ("n_valid", parzen.n_valid, valid, images),
        ("n_test", parzen.n_test, test, "test images"),
    ):
        if asked != "auto" and asked > limit:
            raise UserError(
                f"parzen.{key} is {asked}, but {known.whose} {limit} {kind}; lower it or write auto"
            )
