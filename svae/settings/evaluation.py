"""The settings of what is measured beside the Parzen score."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EvaluationSettings:
    """How much of the test images and of the samples is looked at."""

    importance_samples: int  # k, latents an image of the importance-weighted bound
    bound_images: int | str  # test images of that bound, or auto
    decoder_variance: float | None  # of that bound; None: the trained one
    distance_images: int  # most pictures in a sliced Wasserstein distance
