"""Make the pictures of one run."""

from pathlib import Path

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to

with log_to(snakemake.log[0]), on_device(snakemake.params.device, snakemake.threads):
    from svae.sampling.examples import write

    write(
        data=snakemake.input.data,
        folder=Path(snakemake.input.record).parent,
        samples=snakemake.input.samples,
        threads=snakemake.threads,
        target=snakemake.output[0],
    )
