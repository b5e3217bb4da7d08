"""The sliced Wasserstein distance of samples from test images (svae.scores.wasserstein)."""

from dataclasses import dataclass
from typing import Any

from svae.scores.score import Column, Run, Score
from svae.settings.fields import setting
from svae.streams import Stream, generator


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How many images are compared."""

    images: int = setting(
        4096,
        "most samples, training images and test images, of each the same number",
        minimum=2,
        maximum=100_000,
    )


def measure(run: Run, settings: Settings) -> dict[str, Any]:
    """Of equal numbers of samples, test images and training images; images are chosen at random."""
    from svae.datasets.subset import subset
    from svae.scores import wasserstein

    drawn, train, test = run.samples, run.store.split("train"), run.store.split("test")
    count = min(settings.images, len(drawn), len(train), len(test))
    chosen = (
        subset(images, count, generator(run.seed, stream))
        for images, stream in ((test, Stream.WASSERSTEIN_TEST), (train, Stream.WASSERSTEIN_TRAIN))
    )
    # `chosen` are two, which its type does not say.
    return wasserstein.compare(drawn[:count], *chosen, run.seed, run.threads)  # type: ignore[call-arg, arg-type]


SCORE = Score(
    name="sliced_wasserstein",
    title="Sliced Wasserstein distance",
    meaning=(
        "The distance between patches of samples and of test images, at each level of a Laplacian "
        "pyramid: the first level shows fine structure, the last one large shapes. Patches are "
        "normalised, so that it measures structure and not contrast."
    ),
    reference=("Karras et al. 2018", "https://arxiv.org/abs/1710.10196"),
    columns=(
        Column(
            key="distance_mean",
            label="distance, mean of levels",
            higher_is_better=False,
            csv="sliced_wasserstein",
            error="distance_mean_standard_error",
            meaning=(
                "The distance of samples from test images; its standard error is over the choice "
                "of both, from the distances of disjoint parts."
            ),
        ),
        Column(
            key="floor_mean",
            label="floor, mean of levels",
            csv="sliced_wasserstein_floor",
            error="floor_mean_standard_error",
            meaning=(
                "The distance of as many training images from the test images: nothing below it "
                "can be distinguished."
            ),
        ),
        Column(
            key="distance",
            each="levels",
            label="distance at side {}",
            higher_is_better=False,
            meaning="The distance at the level whose images have this side, in pixels.",
        ),
        Column(
            key="floor",
            each="levels",
            label="floor at side {}",
            meaning="The floor at that level.",
        ),
    ),
    method=(
        "{n_images} images of each kind; standard errors from {n_parts} disjoint parts of them. "
        "Unit: {unit}."
    ),
    measure=measure,
    settings=Settings,
    needs=("samples",),
    tensorflow=False,
)
