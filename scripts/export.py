"""Write the samples, test images, latents and SavedModel of one variant for other programs."""

from pathlib import Path

from svae.jobs import devices
from svae.jobs.logs import log_to
from svae.jobs.neutral import restored
from svae.settings.export import ExportSettings

with log_to(snakemake.log[0]):
    devices.set_up(None, snakemake.threads)

    from svae.use.export import export

    export(
        data=snakemake.input.data,
        folder=Path(snakemake.input.record).parent,
        samples=snakemake.input.samples,
        target=snakemake.output[0],
        settings=restored(ExportSettings, snakemake.params.settings),
    )
