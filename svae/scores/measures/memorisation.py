"""Whether samples are copies of training images (svae.scores.copies)."""

from typing import Any

from svae.scores.score import Column, Run, Score

JUDGED = 10_000  # samples, and test images, at most, whose nearest images are looked for


def measure(run: Run, settings: None) -> dict[str, Any]:
    from svae.scores.copies import shares

    return shares(
        run.samples[:JUDGED],
        run.store.images("test", JUDGED),
        run.store.split("train"),
        run.store.split("valid"),
        run.seed,
        run.threads,
    )


SCORE = Score(
    name="memorisation",
    title="Memorisation",
    meaning=(
        "The share of samples that lie nearer to a training image than to any of as many held-out "
        "images. Copies raise it above the same share of real test images; distances would confuse "
        "blur with copying."
    ),
    columns=(
        Column(
            key="share_of_samples",
            label="share of samples nearer to a training image",
            format=".3f",
            csv="memorisation_share_of_samples",
            error="share_of_samples_standard_error",
            meaning="To be compared with the next column: well above it, samples are copies.",
        ),
        Column(
            key="share_of_test_images",
            label="the same share of test images",
            format=".3f",
            csv="memorisation_share_of_test_images",
            error="share_of_test_images_standard_error",
            meaning="Of images that are no copies: a half if all splits are of one distribution.",
        ),
        Column(
            key="share_if_all_were_copies",
            label="the share if all were copies",
            format=".3f",
            meaning="Below 1 where only a part of the training images is compared.",
        ),
    ),
    method=(
        "{n_samples} samples and {n_test} test images, each compared with {n_reference} training "
        "images and as many held-out images."
    ),
    measure=measure,
    needs=("samples",),
    tensorflow=False,
)
