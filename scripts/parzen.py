"""Score the samples of one variant."""

from svae.logs import log_to
from svae.settings.parzen import ParzenSettings

with log_to(snakemake.log[0]):
    from svae.scoring import score

    score(
        data=snakemake.input.data,
        record=snakemake.input.record,
        samples=snakemake.input.samples,
        settings=ParzenSettings(**snakemake.params.settings),
        target=snakemake.output.score,
        per_image=snakemake.output.per_image,
    )
