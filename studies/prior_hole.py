"""T4: the ways in which latents of T2's runs are drawn, and the figure of their first samples."""

from collections.abc import Mapping
from pathlib import Path

from svae.figures.grids import APART, GAP, Row, labelled_rows
from svae.pixels import to_bytes
from svae.report.png import save
from svae.sampling.file import open_samples

PRIORS = {"standard": "N(0, I)", "gaussian": "Gaussian", "mixture": "mixture of 50"}
STATISTICS = {"moving": "statistics of training images", "prior": "statistics of samples"}
T2_ITSELF = "standard_moving"
CELLS = {
    f"{prior}_{statistics}": {"prior": prior, "batch_norm": statistics, "components": 50}
    for prior in PRIORS
    for statistics in STATISTICS
}
"""The settings `sampling` of each cell; the first is that of T2."""
# A vector, maps behind a dense map, maps, and maps with a mean of low rank.
SHOWN = ("vector", "naive_dense", "naive", "low_rank")
COLUMNS = 8  # with 10, the file has more than 1 MiB


def label(cell: str) -> str:
    prior, _, statistics = cell.partition("_")
    return f"{PRIORS[prior]}, {STATISTICS[statistics]}"


def draw(folders: Mapping[str, Path], epochs: int, target: Path) -> None:
    """folders: the folder of outputs of each cell; a variant without samples in all has no rows."""
    rows: list[Row] = []
    for variant in SHOWN:
        if all(_samples(folder, variant).exists() for folder in folders.values()):
            rows += _rows(variant, folders)
    rows[-1] = rows[-1]._replace(below=GAP)
    caption = (
        f"The first {COLUMNS} samples of seed 0 in the order drawn; none was chosen. All rows of a "
        f"variant are from the same weights, trained for {epochs} epochs. Latents from N(0, I), or "
        "from a Gaussian or a mixture of 50 fitted to the posteriors of training images; batch "
        "normalization with the statistics of training images or of the samples. "
        "The source files are not the official ones."
    )
    save(labelled_rows(rows, "CIFAR-10 (32x32): samples of T2's runs", caption), target)


def _rows(variant: str, folders: Mapping[str, Path]) -> list[Row]:
    rows = []
    for cell, folder in folders.items():
        with open_samples(_samples(folder, variant)) as samples:
            images = to_bytes(samples[:COLUMNS])
        rows.append(Row("" if rows else variant, images, details=[label(cell)]))
    rows[-1] = rows[-1]._replace(below=APART)
    return rows


def _samples(folder: Path, variant: str) -> Path:
    return folder / f"runs/cifar10/{variant}/seed-0/samples.h5"
