"""Write the score of one variant: that of its first seed, and how the others spread."""

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.report.seeds import combine

    combine(snakemake.input, snakemake.output[0])
