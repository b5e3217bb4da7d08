"""Fit a prior to the posteriors of one trained variant; on the CPU, like its samples."""

from pathlib import Path

from threadpoolctl import threadpool_limits

from svae.jobs import devices
from svae.jobs.logs import log_to
from svae.settings.fitted_prior import PriorSettings

with log_to(snakemake.log[0]), threadpool_limits(1):
    devices.set_up(None, threads=1)

    from svae.sampling.fit import fit

    fit(
        snakemake.input.data,
        Path(snakemake.input.record).parent,
        snakemake.output.prior,
        PriorSettings(**snakemake.params.settings),
    )
