"""Train one variant on a GPU of its own, or on the CPU."""

from pathlib import Path

from svae.jobs.devices import on_device
from svae.jobs.logs import log_to
from svae.jobs.neutral import restored
from svae.settings.services import CheckpointSettings, Services, TensorBoardSettings
from svae.settings.training import TrainingSettings
from svae.training.stopping import stop_request

settings = restored(TrainingSettings, snakemake.params.settings | {"threads": snakemake.threads})
services = Services(
    checkpoints=CheckpointSettings(**snakemake.params.services["checkpoints"]),
    tensorboard=TensorBoardSettings(**snakemake.params.services["tensorboard"]),
)

# Signals are taken here already, since TensorFlow takes seconds to import, and a GPU to be free.
with (
    log_to(snakemake.log[0]),
    stop_request() as request,
    on_device(snakemake.params.device, snakemake.threads) as device,
):
    from svae.jobs.set_aside import folder_for
    from svae.training.train import train

    request.check()  # an import may have swallowed what the signal raised
    folder = Path(snakemake.output.record).parent
    train(
        snakemake.input.data,
        folder,
        settings,
        services,
        variant=snakemake.wildcards.variant,
        seed=snakemake.params.seed,
        code=snakemake.params.code,
        device=device,
        aside_folder=folder_for(folder),
        spectrum=Path(snakemake.input.spectrum),
    )
