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
        "The share of samples that lie nearer to a training image than to any held-out image. "
        "Copies raise it above the null share, and above the same share of real test images; "
        "distances would confuse blur with copying."
    ),
    columns=(
        Column(
            key="share_of_samples",
            label="share of samples nearer to a training image",
            format=".3f",
            csv="memorisation_share_of_samples",
            error="share_of_samples_standard_error",
            meaning="Its standard error, if samples owe nothing to single training images.",
        ),
        Column(
            key="share_of_test_images",
            label="the same share of test images",
            format=".3f",
            csv="memorisation_share_of_test_images",
            error="share_of_test_images_standard_error",
            meaning="Of the half of the test images that are no references.",
        ),
        Column(
            key="share_if_null",
            label="null share",
            format=".3f",
            meaning="Of samples that owe nothing to single training images; of copies it is 1.",
        ),
        Column(
            key="z",
            label="z",
            format=".1f",
            csv="memorisation_z",
            meaning=(
                "The distance of the share of samples from the null share, in standard errors: "
                "above 3 it speaks for copies."
            ),
        ),
        Column(
            key="z_of_test_images",
            label="z of test images",
            format=".1f",
            meaning="The control, which is near 0 if all splits are of one distribution.",
        ),
        Column(
            key="can_tell",
            label="can tell",
            csv="memorisation_can_tell",
            shown=False,
            over_seeds="any",
            meaning="Whether z would be above 3 if all samples were copies.",
        ),
    ),
    method=(
        "{n_samples} samples and {n_test} test images, each compared with {n_train} training "
        "images and {n_held_out} held-out images."
    ),
    measure=measure,
    needs=("samples",),
    tensorflow=False,
)
