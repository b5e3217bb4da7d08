"""Measures the peak memory and the time of each rule, next to what it asks for.

    python benchmarks/resources.py FOLDER [--images 2000] [--sizes 28 32 64 128]

FOLDER: where the outputs go; new, so that all of it runs. Sizes: 28 is mnist_5k, 28x28x1; the
others are colour images of noise, as many as --images. Two variants are trained for two epochs.
Memory is the resident memory of a job and its processes, without Snakemake, as `benchmark:` of the
rules has it. The asked time is for this number of images and epochs. The last line is all of it as
JSON.
"""

import argparse
import csv
import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from svae.config import memory, runtime
from svae.config.resolve import Configuration, resolve

CLONE = Path(__file__).parent.parent
VARIANTS = {name: {"posterior": name} for name in ("vanilla", "low_rank")}
# Those by the store, once it is there, and others.
OF_STORE = {
    "spectrum": (memory.of_spectrum, runtime.of_spectrum),
    "baselines": (memory.of_sanity_rows, runtime.of_scores),
    "features": (memory.of_features, runtime.of_scores),
    "scores": (memory.of_scores, runtime.of_scores),
}
RULES = {
    "convert": (partial(memory.of_conversion, cores=1), runtime.of_conversion),
    "parzen": (memory.of_parzen, runtime.of_scores),
}


def configuration(folder: Path, side: int, count: int) -> dict:
    """The configuration of a run at one size, and its images."""
    common = {"variants": VARIANTS, "training": {"epochs": 2}}
    if side == 28:
        return {"dataset": "mnist_5k", **common}
    images = folder / "images"
    images.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        noise = random.integers(0, 256, (side, side, 3), np.uint8)
        Image.fromarray(noise).save(images / f"{number:06}.png")
    sources = {"images": {"archive": str(images)}}
    return {
        "dataset": "images",
        "sources": sources,
        "conversion": {"size": side},
        **common,
    }


def asked(config: Configuration, rule: str, variant: str | None, store: Path) -> tuple[int, int]:
    """MB and minutes."""
    if rule == "train":
        settings = config.variants[variant or ""]
        minutes = runtime.of_training(config, settings, store)
        return memory.of_training(config, settings, store), minutes
    if rule in OF_STORE:
        of_memory, of_runtime = OF_STORE[rule]
        return of_memory(config, store), of_runtime(config)
    of_memory, of_runtime = RULES[rule]
    return of_memory(config), of_runtime(config)


def measured(folder: Path, side: int, count: int) -> list[dict]:
    folder.mkdir(parents=True)
    raw = configuration(folder, side, count)
    (folder / "config.yaml").write_text(yaml.safe_dump(raw))
    command = [sys.executable, "-m", "snakemake", "--snakefile", CLONE / "Snakefile"]
    subprocess.run([*command, "--directory", folder, "--cores", "1", "--quiet"], check=True)
    config = resolve(raw, folder)
    rows = []
    for path in sorted((folder / "benchmarks/out").glob("*.tsv")):
        rule, _, rest = path.stem.partition("_")
        variant = next((name for name in VARIANTS if f"_{name}_seed" in rest), None)
        (line,) = csv.DictReader(path.read_text().splitlines(), delimiter="\t")
        megabytes, minutes = asked(config, rule, variant, folder / f"data/{config.name}.h5")
        job = f"{rule} {variant}" if variant else rule
        rows.append(
            {
                "size": side,
                "job": job,
                # Of Linux in MiB.
                "peak_mb": round(float(line["max_rss"]) * 2**20 / 1e6),
                "asked_mb": megabytes,
                "seconds": float(line["s"]),
                "asked_minutes": minutes,
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--sizes", type=int, nargs="+", default=[28, 32, 64, 128])
    given = parser.parse_args()
    rows = []
    for side in given.sizes:
        for row in measured(given.folder.resolve() / str(side), side, given.images):
            ratio = row["asked_mb"] / row["peak_mb"]
            print(
                f"{side:4d}  {row['job']:16s} {row['peak_mb']:6d} MB, asked {row['asked_mb']:6d} "
                f"({ratio:.2f} times); {row['seconds']:6.1f} s, asked {row['asked_minutes']} min",
                flush=True,
            )
            rows.append(row)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
