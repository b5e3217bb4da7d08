"""Compare images of the data set with its test images in the features of a network."""

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.jobs.neutral import restored
from svae.scores.measures.feature_distances import Settings

with log_to(snakemake.log[0]), on_device(snakemake.params.device, snakemake.threads):
    from svae.scores.feature_reference import fit, save

    settings = restored(Settings, snakemake.params.settings)
    fitted = fit(
        snakemake.input.data,
        settings.features,
        settings.images,
        n_samples=snakemake.params.n_samples,
        seed=snakemake.params.seed,
        threads=snakemake.threads,
    )
    save(fitted, snakemake.output[0])
