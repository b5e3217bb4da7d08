"""Measure one score of one run."""

import contextlib

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.scores.registry import scores

SCORE = scores()[snakemake.wildcards.score]
DEVICE = contextlib.nullcontext()
if SCORE.tensorflow:
    DEVICE = on_device(snakemake.params.device, snakemake.params.threads)

with log_to(snakemake.log[0]), DEVICE:
    from svae.scores.measuring import measure

    measure(
        SCORE,
        settings=snakemake.params.settings,
        reads=snakemake.params.reads,
        threads=snakemake.params.threads,
        data=snakemake.input.data,
        record=snakemake.input.record,
        target=snakemake.output.score,
        per_image=snakemake.output.per_image,
        **{need: snakemake.input.get(need) for need in ("samples", "spectrum")},
    )
