"""Score the linear VAE at the KL weight of one run."""

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.settings.parzen import ParzenSettings

with log_to(snakemake.log[0]), on_device(snakemake.params.device, snakemake.params.threads):
    from svae.scores.linear_vae import score

    score(
        snakemake.input.data,
        snakemake.input.record,
        snakemake.input.spectrum,
        ParzenSettings(**snakemake.params.settings),
        n_samples=snakemake.params.n_samples,
        target=snakemake.output[0],
    )
