"""The measures that have a value for every test image: of these, differences are taken.

Imported by the Snakefile: no numpy, no TensorFlow.
"""

import functools
from dataclasses import dataclass

from svae.scores.registry import scores
from svae.scores.score import Column


@dataclass(frozen=True)
class ImageMeasure:
    """A column of a score, with the array of its values in the score's npz file."""

    score: str
    column: Column

    @property
    def array(self) -> str:
        assert self.column.per_image is not None  # as of all measures
        return self.column.per_image

    @property
    def name(self) -> str:
        """Such as objective.j."""
        return f"{self.score}.{self.array}"

    @property
    def label(self) -> str:
        """With its unit, for a caption."""
        return self.column.label + (f" ({self.column.unit})" if self.column.unit else "")


@functools.cache
def image_measures() -> dict[str, ImageMeasure]:
    """All measures by name, in the order of the scores."""
    found = [
        ImageMeasure(score.name, column) for score in scores().values() for column in score.measures
    ]
    return {measure.name: measure for measure in found}


def j() -> ImageMeasure:
    """SSE + w KL, which decides between variants that share w."""
    return image_measures()["objective.j"]


def elbo() -> ImageMeasure:
    """The ELBO at its optimal variance, which decides between variants of any w."""
    return image_measures()["objective.elbo"]


def parzen() -> ImageMeasure:
    return image_measures()["parzen.log_likelihood"]
