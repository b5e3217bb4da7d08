"""Download one file of the data set and check it."""

import sys

from svae.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.fetch import fetch

    fetch(target=snakemake.output[0], progress=sys.stderr.isatty(), **snakemake.params.source)
