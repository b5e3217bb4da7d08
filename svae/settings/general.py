"""The settings at the top level of config.yaml."""

from dataclasses import dataclass
from typing import Annotated, Literal

from svae.settings.fields import END, REQUIRED, setting


@dataclass(frozen=True, kw_only=True)
class GeneralSettings:
    """What is trained on, how often, and where."""

    # Any name in svae/datasets/sources.yaml; svae.config.schema adds them.
    dataset: str = setting(REQUIRED, "the data set to train and score on")
    name: (
        Annotated[str, "letters, digits, - and _, at most 60, the first a letter or digit"] | None
    ) = setting(
        None,
        "the name of the data set's files, runs and titles; null: that of the data set",
        also={"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,59}" + END},
    )
    seeds: tuple[Annotated[int, "a seed"], ...] = setting(
        (0,),
        "one or more different seeds, such as [0, 1, 2]",
        minimum=0,
        maximum=2**31 - 1,
        also={"minItems": 1, "uniqueItems": True},
    )
    comparisons: (
        Literal["auto"]
        | tuple[Annotated[tuple[str, ...], "two names of variants, such as [mvn, naive]"], ...]
    ) = setting(
        "auto",
        "pairs of variants, such as [[mvn, naive]]; auto: every variant against the first",
    )
    device: Literal["auto", "cpu", "gpu"] = setting("auto", "what trainings run on")
