"""Download one file of the data set and check it."""

import sys

from svae.jobs.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.fetch import fetch

    fetch(
        snakemake.output[0],
        known_hash=snakemake.params.known_hash,
        progress=sys.stderr.isatty(),
        **snakemake.params.addresses,
    )
