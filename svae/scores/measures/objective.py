"""The objective J = SSE + w KL and the evidence lower bound, on training and test images.

svae.scores.image_terms has their definitions and the reasons why they decide.
"""

import math
from typing import Any

from svae.scores.score import Column, Run, Score


def measure(run: Run, settings: None) -> dict[str, Any]:
    from svae.model.objectives import weighted
    from svae.scores.image_terms import elbo, means_and_errors, terms_by_image

    model, weight = run.model, run.record["kl_weight"]
    terms = {split: terms_by_image(model, run.store.split(split)) for split in ("train", "test")}
    variance = float(terms["train"][0].mean() / model.dimension)
    networks = {"encoder": model.encoder, "decoder": model.decoder}
    found: dict[str, Any] = {
        **{
            f"{name}_parameters": sum(math.prod(w.shape) for w in network.trainable_variables)
            for name, network in networks.items()
        },
        "kl_weight": weight,
        "decoder_variance": variance,
        "decoder_variance_from": "mean squared error of the training images",
        "dimension": model.dimension,
    }
    for split, (sse, kl) in terms.items():
        bound = elbo(sse, kl, variance, model.dimension)
        values = {"j": weighted(sse, kl, weight), "elbo": bound, "sse": sse, "kl": kl}
        found[split] = {"n_images": len(sse), **means_and_errors(values)}
    found["j_test_less_train"] = found["test"]["j"] - found["train"]["j"]
    # Of the test images: of these, differences between variants are taken.
    return {**found, "per_image": values}


SCORE = Score(
    name="objective",
    title="Objective and evidence lower bound",
    meaning=(
        "Both follow from the SSE (one posterior sample per image) and the KL. J = SSE + w KL is "
        "what training minimises: variants that share w compare by it, and then they compare at "
        "equal rate. The ELBO is a lower bound of log p(x) for a Gaussian decoder; with the best "
        "variance, that of the training images, it compares variants of any w."
    ),
    reference=("Alemi et al. 2018", "https://arxiv.org/abs/1711.00464"),
    columns=(
        Column(
            key="test.j",
            label="J, test images",
            format=".1f",
            higher_is_better=False,
            csv="test_j",
            error="test.j_standard_error",
            per_image="j",
            compared_at="kl_weight",
            meaning="SSE + w KL per test image, w being the run's own: compare at equal w only.",
        ),
        Column(
            key="train.j",
            label="J, training images",
            format=".1f",
            higher_is_better=False,
            csv="train_j",
            error="train.j_standard_error",
            meaning="The same of training images, which the training has minimised.",
        ),
        Column(
            key="j_test_less_train",
            label="J, test less training",
            format=".1f",
            csv="j_test_less_train",
            shown=False,
            meaning="How much larger J is on images that were not trained on.",
        ),
        Column(
            key="test.elbo",
            label="ELBO, test images",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="test_elbo_at_optimal_variance_nats",
            error="test.elbo_standard_error",
            per_image="elbo",
            meaning="The evidence lower bound at that variance, per test image.",
        ),
        Column(
            key="train.elbo",
            label="ELBO, training images",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="train_elbo_at_optimal_variance_nats",
            error="train.elbo_standard_error",
            meaning="The same of training images.",
        ),
        Column(
            key="decoder_variance",
            label="optimal variance",
            format=".4f",
            csv="optimal_decoder_variance",
            meaning="The mean squared error per pixel of the training images.",
        ),
        Column(
            key="encoder_parameters",
            label="encoder parameters",
            format=",",
            csv="encoder_parameters",
            meaning="They differ between posteriors, as do the encoder's outputs.",
        ),
        Column(
            key="decoder_parameters",
            label="decoder parameters",
            format=",",
            csv="decoder_parameters",
            meaning="They differ between a vector and feature maps.",
        ),
        Column(
            key="test.sse",
            label="SSE, test images",
            csv="test_sse",
            format=".1f",
            error="test.sse_standard_error",
            per_image="sse",
            higher_is_better=False,
            shown=False,
            meaning="The squared error from one posterior sample per image.",
        ),
        Column(
            key="test.kl",
            label="KL, test images",
            unit="nats",
            csv="test_kl_nats",
            format=".2f",
            error="test.kl_standard_error",
            per_image="kl",
            shown=False,
            meaning="The divergence of the posterior from the prior, per image.",
        ),
    ),
    method="{train.n_images} training images and {test.n_images} test images.",
    measure=measure,
    needs=("model",),
)
