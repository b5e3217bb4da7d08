"""Reconstruction, KL and active units on the test images, as the training measured them at its end.

svae.training.terms computes them for run.json.
"""

from typing import Any

from svae.scores.score import Column, Run, Score


def measure(run: Run, settings: None) -> dict[str, Any]:
    terms, dimension = run.record["test"], run.record["dimension"]
    return {
        **terms,
        "mse_per_pixel_posterior_mean": terms["sse_per_image_posterior_mean"] / dimension,
        "saturated_share_of_samples": run.record["samples"]["saturated_share"],
        "kl_weight": run.record["kl_weight"],
        "decoder_variance": run.record["decoder_variance"],
    }


SCORE = Score(
    name="reconstruction",
    title="Reconstruction and latent",
    meaning=(
        "Training minimises SSE + w KL per image, SSE being the squared error of an image on "
        "[-1, 1] summed over its pixels and MSE its mean over them. As published, w = D / (latent "
        "entries) differs between variants. An entry of the latent is active if its posterior mean "
        "varies over the test images by more than 0.01, a map if any of its entries is."
    ),
    columns=(
        Column(
            key="kl_weight",
            label="KL weight w",
            format=".3g",
            meaning=(
                "The weight of the KL; it equals a decoder variance of w / 2 at beta = 1, or "
                "beta = w / 2 at variance 1."
            ),
        ),
        Column(
            key="kl_nats_per_image",
            label="KL",
            unit="nats",
            format=".2f",
            median="kl_nats_median",
            largest="kl_nats_largest",
            meaning="The divergence of the posterior from the prior, per image.",
        ),
        Column(
            key="kl_nats_median",
            label="median KL",
            unit="nats",
            csv="test_kl_median_nats",
            shown=False,
            meaning="The median over the test images.",
        ),
        Column(
            key="kl_nats_largest",
            label="largest KL",
            unit="nats",
            csv="test_kl_largest_nats",
            shown=False,
            over_seeds="largest",
            meaning="The largest of a test image.",
        ),
        Column(
            key="sse_per_image",
            label="SSE, posterior sample",
            format=".1f",
            higher_is_better=False,
            median="sse_median",
            meaning="The squared error from one posterior sample per image.",
        ),
        Column(
            key="sse_per_image_posterior_mean",
            label="SSE, posterior mean",
            format=".1f",
            higher_is_better=False,
            csv="test_sse_posterior_mean",
            meaning="The squared error from the mean of the posterior.",
        ),
        Column(
            key="mse_per_pixel",
            label="MSE per pixel, posterior sample",
            format=".4f",
            higher_is_better=False,
            csv="test_mse_per_pixel",
            meaning="The mean squared error from one posterior sample per image.",
        ),
        Column(
            key="mse_per_pixel_posterior_mean",
            label="MSE per pixel, posterior mean",
            format=".4f",
            higher_is_better=False,
            meaning="The mean squared error from the mean of the posterior.",
        ),
        Column(
            key="active_entries",
            label="active entries",
            format=",",
            of="latent_entries",
            csv="active_entries",
            meaning="Entries of the latent that carry something.",
        ),
        Column(
            key="latent_entries",
            label="latent entries",
            csv="latent_entries",
            shown=False,
            meaning="Entries of the latent.",
        ),
        Column(
            key="active_maps",
            label="active maps",
            format=",",
            of="latent_maps",
            csv="active_maps",
            meaning="Feature maps of the latent that carry something.",
        ),
        Column(
            key="latent_maps",
            label="latent maps",
            csv="latent_maps",
            shown=False,
            meaning="Feature maps of the latent.",
        ),
        Column(
            key="decoder_variance",
            label="decoder variance",
            format=".4f",
            meaning="Of the Gaussian around the decoder's mean, under the evidence lower bound.",
        ),
        Column(
            key="elbo_nats_per_image",
            label="ELBO",
            unit="nats",
            format=".1f",
            higher_is_better=True,
            csv="test_elbo_nats",
            meaning="The evidence lower bound, per image, where it is the objective.",
        ),
        Column(
            key="saturated_share",
            label="saturated share of reconstructions",
            csv="saturated_share_of_reconstructions",
            shown=False,
            higher_is_better=False,
            meaning="The share of their pixels that are black or white where the image is not.",
        ),
        Column(
            key="saturated_share_of_samples",
            label="saturated share of samples",
            csv="saturated_share_of_samples",
            shown=False,
            higher_is_better=False,
            meaning="The share of pixels of samples that are black or white in grey surroundings.",
        ),
    ),
    method="Means over {n_images} test images.",
    measure=measure,
    tensorflow=False,
)
