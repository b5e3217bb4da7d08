"""Convert the files of the data set into one h5 store."""

from svae.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.convert import convert

    convert(
        snakemake.params.dataset,
        files=dict(snakemake.input.items()),
        sha256=snakemake.params.sha256,
        output=snakemake.output[0],
        crop=snakemake.params.crop,
        size=snakemake.params.size,
    )
