"""Score what needs no network."""

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.jobs.neutral import restored
from svae.settings.parzen import ParzenSettings

with log_to(snakemake.log[0]), on_device(snakemake.params.device, snakemake.threads):
    from svae.scores.sanity_rows import baselines

    baselines(
        snakemake.input.data,
        restored(ParzenSettings, snakemake.params.settings),
        n_samples=snakemake.params.n_samples,
        seed=snakemake.params.seed,
        target=snakemake.output.scores,
    )
