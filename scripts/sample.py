"""Draw samples from one trained variant; on the CPU, so that they are the same everywhere."""

from pathlib import Path

from svae.jobs import devices
from svae.jobs.logs import log_to
from svae.jobs.neutral import restored
from svae.settings.sampling import SamplingSettings

with log_to(snakemake.log[0]):
    devices.set_up(None, threads=1)

    from svae.sampling.prior import sample

    sample(
        Path(snakemake.input.record).parent,
        snakemake.output.samples,
        restored(SamplingSettings, snakemake.params.settings),
    )
