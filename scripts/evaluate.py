"""Measure one run beside its Parzen score, and make its pictures."""

from pathlib import Path

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.settings.evaluation import EvaluationSettings

with log_to(snakemake.log[0]), on_device(snakemake.params.device, snakemake.params.threads):
    from svae.scores.measures import measure

    measure(
        data=snakemake.input.data,
        folder=Path(snakemake.input.record).parent,
        samples=snakemake.input.samples,
        settings=EvaluationSettings(**snakemake.params.settings),
        threads=snakemake.params.threads,
        target=snakemake.output.measures,
        pictures_target=snakemake.output.pictures,
    )
