"""Distances of samples from test images in the features of a pretrained network
(svae.scores.feature_reference)."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from svae.scores.score import Column, Run, Score
from svae.settings.fields import END, setting

FILE = "file.features"  # the reference of the data set, made once for all runs


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Which network, and how many images are compared."""

    features: (
        Literal["efficientnet_lite0", "efficientnet_lite2"]
        | Annotated[str, "the path of a Keras model, NAME.keras"]
        | None
    ) = setting(
        "efficientnet_lite0",
        "the network, a path NAME.keras of a Keras model, or null for no such distances",
        also={
            "anyOf": [
                {"enum": ["efficientnet_lite0", "efficientnet_lite2"]},
                {
                    "description": "the path of a Keras model, NAME.keras",
                    "type": "string",
                    "pattern": r"\.keras" + END,
                },
                {"type": "null"},
            ]
        },
    )
    images: int = setting(
        5_000,
        "most samples, test images and training images",
        minimum=20,
        maximum=50_000,
    )


def measure(run: Run, settings: Settings) -> dict[str, Any]:
    """Of the run's samples, and of those of the linear VAE at its w."""
    from threadpoolctl import threadpool_limits

    from svae.scores.feature_reference import Reference, load, network_of
    from svae.scores.linear_vae_samples import sample

    path = run.setting(FILE)
    fitted = load(path)
    content, record = fitted.content, run.record
    if reason := content.get("refused"):
        return {"refused": reason}
    assert settings.features is not None  # else the rules leave the score out
    network = network_of(fitted, settings.features, run.store, path)
    count, latent_entries = content["n_images"], record["test"]["latent_entries"]
    linear = sample(run.spectrum, record["kl_weight"], latent_entries, count, run.seed)
    with threadpool_limits(limits=run.threads, user_api="blas"):
        reference = Reference.of(fitted.features)
        found = reference.compare(network.features(run.samples[:count]))
        linear_vae = {
            "name": f"linear VAE at the w of {record['variant']}",
            "meaning": "Draws from probabilistic PCA: what this KL weight gives without a network.",
            "of_run": True,
            **reference.compare(network.features(linear.reshape(-1, *run.store.shape))),
        }
    rows = content.pop("rows")
    floor = {key: value for key, value in rows[0].items() if key not in ("name", "meaning")}
    return {**content, **found, "floor": floor, "stand_ins": [*rows, linear_vae]}


SCORE = Score(
    name="feature_distances",
    title="Distances in features",
    meaning=(
        "Distances of samples from test images in the features of a network, by default one that "
        "was trained on photographs of ImageNet. They are nearer to what people see than pixels "
        "are, but can mislead, most of all where images are no photographs (Stein et al. 2023, "
        "arXiv 2306.04675). The rows below the variants are real images, the floor, and stand-ins "
        "for samples. Compare with those rows only: no number here is an FID, and none compares "
        "with numbers that were computed elsewhere."
    ),
    columns=(
        Column(
            key="frechet_distance",
            label="Fréchet distance",
            format=".4g",
            higher_is_better=False,
            csv="feature_frechet_distance",
            meaning=(
                "The squared distance between Gaussians fitted to both sets of features. It is too "
                "large by an amount that falls with the number of images."
            ),
        ),
        Column(
            key="floor.frechet_distance",
            label="Fréchet distance, floor",
            shown=False,
            csv="feature_frechet_distance_floor",
            meaning="That of as many training images.",
        ),
        Column(
            key="frechet_distance_infinite",
            label="extrapolated to infinitely many images",
            format=".4g",
            higher_is_better=False,
            csv="feature_frechet_distance_infinite",
            meaning=(
                "The same without this amount, by a line through the distances of parts of both "
                "sets (Chong and Forsyth 2020); about 0 for images of the same distribution. Only "
                "where both sets are more than twice as large as the number of features."
            ),
        ),
        Column(
            key="kernel_distance",
            label="kernel distance",
            format=".3g",
            higher_is_better=False,
            csv="feature_kernel_distance",
            error="kernel_distance_standard_error",
            meaning=(
                "The squared maximum mean discrepancy with a cubic kernel (Bińkowski et al. 2018). "
                "It is unbiased: 0 in expectation for images of the same distribution. The "
                "standard error is over samples and test images, from disjoint blocks."
            ),
        ),
        Column(
            key="floor.kernel_distance",
            label="kernel distance, floor",
            shown=False,
            csv="feature_kernel_distance_floor",
            meaning="That of as many training images.",
        ),
        *(
            Column(
                key=key,
                label=key,
                format=".3f",
                higher_is_better=True,
                csv=f"feature_{key}",
                meaning=meaning,
            )
            for key, meaning in (
                (
                    "precision",
                    "The share of samples in the neighbourhood of test images "
                    "(Kynkäänniemi et al. 2019).",
                ),
                ("recall", "The share of test images in the neighbourhood of samples."),
                (
                    "density",
                    "In how many neighbourhoods of test images a sample lies, relative to what "
                    "test images would have; it may exceed 1 (Naeem et al. 2020).",
                ),
                (
                    "coverage",
                    "The share of test images that have a sample in their neighbourhood.",
                ),
            )
        ),
        Column(
            key="n_images",
            label="images",
            format=",",
            meaning="Samples, or stand-ins for them. All but the kernel distance depend on it.",
        ),
    ),
    method=(
        "Features of {network} (SHA-256 of its weights {network_sha256}); {n_features} features; "
        "against {n_reference} test images."
    ),
    reference=("Heusel et al. 2017", "https://arxiv.org/abs/1706.08500"),
    measure=measure,
    settings=Settings,
    off=lambda settings: settings.features is None,
    needs=("samples", "spectrum"),
    files=("features",),
)
