"""Whether samples are copies of training images (svae.scores.copies)."""

from typing import Any

from svae.scores.score import Column, Run, Score

JUDGED = 2_500  # most samples, and most test images, whose nearest images are searched for


def measure(run: Run, settings: None) -> dict[str, Any]:
    from svae.scores.copies import shares
    from svae.scores.scored_images import scored_images

    return shares(
        run.samples[:JUDGED],
        scored_images(run.store, "test", JUDGED),
        run.store.split("train"),
        run.store.split("valid"),
        run.seed,
        run.threads,
    )


SCORE = Score(
    name="memorisation",
    title="Memorisation",
    meaning=(
        "The share of samples that lie nearer to a training image than to any held-out image, over "
        "all training images. Copies raise it above the share that chance gives; distances would "
        "confuse blur with copying."
    ),
    columns=(
        Column(
            key="share_of_samples",
            label="share of samples nearer to a training image",
            format=".3f",
            csv="memorisation_share_of_samples",
            error="share_of_samples_standard_error",
            meaning="If it is well above the null share, samples are copies.",
        ),
        Column(
            key="share_if_null",
            label="null share",
            format=".3f",
            csv="memorisation_share_if_null",
            meaning="The share if samples owe nothing to single training images; copies have 1.",
        ),
        Column(
            key="z",
            label="z",
            format=".1f",
            csv="memorisation_z",
            meaning=(
                "Standard errors by which the share of samples exceeds the null share: above 3, "
                "samples are copies."
            ),
            mark=("cannot_tell", "(cannot tell)"),
        ),
        Column(
            key="share_of_test_images",
            label="share of test images nearer to a training image",
            format=".3f",
            csv="memorisation_share_of_test_images",
            error="share_of_test_images_standard_error",
            meaning=(
                "The control, on images that are not copies: the null share, up to chance, if all "
                "splits have the same distribution."
            ),
        ),
        Column(
            key="z_of_test_images",
            label="z of test images",
            format=".1f",
            meaning="Near 0 if all splits have the same distribution.",
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
