"""Several seeds: one run for each variant and seed, in lists of paths."""

from collections.abc import Sequence
from pathlib import Path


def by_variant(variants: Sequence[str], paths: Sequence[Path | str]) -> dict[str, list[Path | str]]:
    """Variant -> its paths, one a seed, out of a list in the order of

        for variant in variants: for seed in seeds

    ValueError if the paths cannot be shared out equally.
    """
    seeds, rest = divmod(len(paths), len(variants))
    if rest or not seeds:
        raise ValueError(f"{len(paths)} paths for {len(variants)} variants")
    return {
        variant: list(paths[index * seeds : (index + 1) * seeds])
        for index, variant in enumerate(variants)
    }
