"""Train one variant on a GPU of its own, or on the CPU."""

from pathlib import Path

from svae import devices
from svae.logs import log_to
from svae.settings.services import Services
from svae.settings.training import TrainingSettings

with (
    log_to(snakemake.log[0]),
    devices.claim_gpu(devices.LOCK_FOLDER, devices.gpus_for(snakemake.params.device)) as gpu,
):
    settings = TrainingSettings(**snakemake.params.settings)
    device = devices.set_up(gpu, settings.threads, snakemake.params.device)

    from svae.training import train

    train(
        snakemake.input.data,
        Path(snakemake.output.record).parent,
        settings,
        Services(**snakemake.params.services),
        variant=snakemake.wildcards.variant,
        seed=snakemake.params.seed,
        code=snakemake.params.code,
        device=device,
        lock_folder=Path(snakemake.log[0]).parent,
    )
