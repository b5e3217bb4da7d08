"""Score the samples of one run, and further samples of it."""

from pathlib import Path

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.settings.parzen import ParzenSettings
from svae.settings.sampling import SamplingSettings

with log_to(snakemake.log[0]), on_device(snakemake.params.device, snakemake.params.threads):
    from svae.scores.scoring import score

    score(
        data=snakemake.input.data,
        folder=Path(snakemake.input.record).parent,
        samples=snakemake.input.samples,
        settings=ParzenSettings(**snakemake.params.settings),
        sampling=SamplingSettings(**snakemake.params.sampling),
        fresh_draws=snakemake.params.fresh_draws,
        target=snakemake.output.score,
        per_image=snakemake.output.per_image,
    )
