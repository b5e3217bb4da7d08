"""Convert the files of the data set into one h5 store."""

from svae.logs import log_to

with log_to(snakemake.log[0]):
    from svae.datasets.convert import convert
    from svae.datasets.verify import verify

    files = {**dict(snakemake.input.items()), **snakemake.params.folders}
    for role, published in snakemake.params.to_verify.items():
        verify(files[role], **published)
    convert(
        snakemake.params.dataset,
        files,
        snakemake.output[0],
        sha256=snakemake.params.sha256,
        processes=snakemake.threads,
        **snakemake.params.settings,
    )
