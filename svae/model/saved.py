"""Loading the model of a finished run, from nothing but its folder."""

from pathlib import Path
from typing import Any

from svae.errors import UserError
from svae.jobs.files import file_hash, read_json
from svae.jobs.neutral import restored
from svae.model.vae import SpatialVAE
from svae.settings.training import TrainingSettings

# The files of a run folder (see svae.training.run_folder) from which its model is loaded.
RECORD = "run.json"
WEIGHTS = "final.weights.h5"


def load_model(folder: Path | str) -> tuple[SpatialVAE, dict[str, Any]]:
    """Return the SpatialVAE of a finished run, with its final weights, and the run's record.

    The model computes in float32, whatever precision it was trained in. UserError if the run is not
    finished or its weights are not the recorded ones.
    """
    record_path, weights = Path(folder, RECORD), Path(folder, WEIGHTS)
    remedy = f"delete {record_path} and run snakemake again"
    if not record_path.exists():
        raise UserError(f"{folder} has no finished run (no {RECORD}); run snakemake to train it")
    record = read_json(record_path)
    if not weights.exists():
        raise UserError(f"{weights} is missing; {remedy}")
    if file_hash(weights) != record["weights_sha256"]:
        raise UserError(f"{weights} is not the file that {RECORD} records; {remedy}")
    settings = restored(TrainingSettings, {**record["settings"], "precision": "float32"})
    model = SpatialVAE(tuple(record["image_shape"]), record["padding"], settings, record["seed"])
    model.load_weights(weights)
    return model, record
