"""Saving figures."""

from pathlib import Path

from matplotlib.figure import Figure

from svae.jobs.files import replacing


def save(figure: Figure, target: Path | str) -> None:
    """Write a PNG atomically; equal figures give identical files."""
    with replacing(target) as temporary:
        figure.savefig(temporary, dpi=figure.dpi, metadata={"Software": None})
