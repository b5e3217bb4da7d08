"""Fit the principal components of the training images."""

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to

with log_to(snakemake.log[0]), on_device("cpu", snakemake.threads):
    from svae.scores.principal_components import fit

    spectrum = fit(
        snakemake.input.data,
        most_components=snakemake.params.most_components,
        seed=snakemake.params.seed,
    )
    spectrum.save(snakemake.output[0])
