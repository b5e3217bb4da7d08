"""What was measured of a run, kept in its folder until it would be measured otherwise.

Snakemake deletes the outputs of a job before it starts and when it fails. One job measures many
scores, so each is kept as soon as it is measured: after a stop, a failure, or a change that touches
one of them, the others are written again from here.

`measured/NAME.zip` has the two files of a score, its recipe (the digest of its code and settings),
and digests of the files that it was measured from.

Imported by the Snakefile: standard library only.
"""

import hashlib
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from svae.errors import Damaged
from svae.jobs.files import checked, file_hash, read_json, read_zip, replacing

FOLDER = "measured"
# Of a run's record, what is another with each training, or by where it ran.
INCIDENTAL = ("training_seconds", "history_sha256", "device")


def recipe(*decisive: Any) -> str:
    """The digest of all that decides how a score is measured, given as JSON has it."""
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def place(run: Path | str, score: str) -> Path:
    """Where the run folder keeps a score."""
    return Path(run, FOLDER, f"{score}.zip")


def kept_recipe(path: Path | str) -> str | None:
    """The recipe by which a score was measured; None if nothing readable is kept."""
    return _read(path).get("recipe")


def digests(record: Path | str, store_checksum: str, files: Mapping[str, Any]) -> dict[str, str]:
    """Digests of what a score is measured from, by name: the run, the images, and other files."""
    content = {key: value for key, value in read_json(record).items() if key not in INCIDENTAL}
    found = {name: file_hash(path) for name, path in files.items()}
    return {"record": recipe(content), "data": store_checksum, **found}


def keep(
    path: Path, recipe: str, inputs: Mapping[str, str], score: Path | str, per_image: Path | str
) -> None:
    """Keep the files of a score that was just measured."""
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        archive.writestr("recipe.json", json.dumps({"recipe": recipe, "inputs": dict(inputs)}))
        archive.write(score, "score.json")
        archive.write(per_image, "per_image.npz")


def restore(
    path: Path, recipe: str, inputs: Mapping[str, str], score: Path | str, per_image: Path | str
) -> bool:
    """Write the files of a score as they were kept; False if nothing is kept that was measured by
    this recipe from these inputs."""
    if _read(path) != {"recipe": recipe, "inputs": dict(inputs)}:
        return False
    try:
        contents = read_zip(path, "score.json", "per_image.npz")
    except (OSError, Damaged):
        return False
    for target, content in zip((score, per_image), contents.values(), strict=True):
        with replacing(target) as temporary:
            temporary.write_bytes(content)
    return True


def _read(path: Path | str) -> dict[str, Any]:
    try:
        with checked(path):
            found = json.loads(read_zip(path, "recipe.json")["recipe.json"])
    except (OSError, Damaged):
        return {}
    return found if isinstance(found, dict) else {}
