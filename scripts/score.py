"""Measure those scores of one run that share a job."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.scores.job import measure_all

    measure_all(
        snakemake.params.orders,
        inputs=snakemake.input,
        outputs=snakemake.output,
        device=snakemake.params.device,
        threads=snakemake.threads,
    )
