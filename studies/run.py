"""Run tables of the study, and put what they found into docs/study/.

    python studies/run.py [--outputs study] [--archives FOLDER] [--docs docs/study] [TABLE ...]

TABLE is a configuration in this folder, such as t2, or t4; without any, all of them are run. Each
has its own folder of outputs, so that no table replaces another's runs. A run that was stopped goes
on where it was. --archives: a folder with files of the official names (cifar-10-binary.tar.gz,
img_align_celeba.zip, list_eval_partition.txt), which are otherwise fetched.

T4 trains nothing: it draws other samples from the runs of T2, which it copies. Nor does T0, whose
files lie in the folders of T1 and T5.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import closed_form
import csv_files
import prior_hole
import yaml

from svae.scores import spectrum
from svae.scores.registry import scores

HERE = Path(__file__).parent
TABLES = ("pilot", "t0", "t1", "t2", "t3", "t4", "t5", "t6", "e1", "e2")
ARCHIVES = {
    "cifar10": {"archive": "cifar-10-binary.tar.gz"},
    "celeba": {"archive": "img_align_celeba.zip", "partition": "list_eval_partition.txt"},
}
# What each table leaves for the pages.
RESULTS = (
    *("summary.csv", "paired_differences.csv", "comparison.png", "training_curves.png"),
    *("rate_distortion.csv", "rate_distortion.json", "rate_distortion.png", "kl_per_map.png"),
    *("paired_differences.png", "score_against_kl_weight.png"),
)


def sources(archives: Path | None) -> list[str]:
    """Snakemake's arguments for archives that are here already."""
    if archives is None:
        return []
    found = {}
    for dataset, files in ARCHIVES.items():
        paths = {role: archives.resolve() / name for role, name in files.items()}
        if all(path.exists() for path in paths.values()):
            found[dataset] = {role: str(path) for role, path in paths.items()}
    if not found:
        sys.exit(f"Error: {archives} has none of the archives; see studies/README.md")
    return [f"sources={yaml.safe_dump(found, default_flow_style=True, width=9999).strip()}"]


def snakemake(table: str, folder: Path, settings: list[str], *targets: str) -> None:
    command = [sys.executable, "-m", "snakemake", "--cores", "all", "--rerun-incomplete"]
    command += ["--keep-going", "--snakefile", str(HERE.parent / "Snakefile")]
    command += ["--configfile", str(HERE / f"{table}.yaml"), "--directory", str(folder)]
    command += ["--config", *settings] if settings else []
    done = subprocess.run([*command, "--", *targets] if targets else command)
    if done.returncode:
        sys.exit(f"Error: {table} is not complete; see the logs in {folder / 'logs'}")


def copy_runs(source: Path, target: Path) -> None:
    """Copy what trainings made, with its times: Snakemake then has no reason to train. Nor are the
    scores in `measured` that do not depend on samples measured again."""
    if target.exists():
        return
    begun = target.with_name(f"{target.name}.begun")
    shutil.rmtree(begun, ignore_errors=True)
    without = shutil.ignore_patterns("scores", "samples.h5", "pictures.h5", "prior.h5")
    shutil.copytree(source / "data", begun / "data", copy_function=os.link)
    shutil.copytree(source / "runs", begun / "runs", ignore=without)
    begun.rename(target)


def keep(folder: Path, docs: Path) -> None:
    """Copy the tables and figures of a finished table, and write a row for each of its runs."""
    docs.mkdir(parents=True, exist_ok=True)
    for name in RESULTS:
        if (folder / "results" / name).exists():
            shutil.copyfile(folder / "results" / name, docs / name)
    keep_rows(folder, docs)


def keep_rows(folder: Path, docs: Path) -> None:
    """Write a row for each run in a folder of outputs."""
    records = sorted(folder.glob("runs/*/*/seed-*/run.json"))
    csv_files.write(docs / "runs.csv", [of_run(record) for record in records])


def of_run(record: Path) -> dict[str, Any]:
    """The numbers of one run: of every score, those that summary.csv has."""
    run = json.loads(record.read_text(encoding="utf-8"))
    row = {"variant": run["variant"], "seed": run["seed"]}
    for name, score in scores().items():
        path = record.parent / "scores" / f"{name}.json"
        if not path.exists():
            continue
        content = json.loads(path.read_text(encoding="utf-8"))
        for column in score.columns:
            if column.csv is not None:
                row[column.csv] = entry(content, column.key)
            if column.error_csv is not None:
                row[column.error_csv] = entry(content, column.error)
    return row


def entry(content: Any, key: str) -> Any:
    """A number of a JSON file, whose key may lead into objects: a.b."""
    for part in key.split("."):
        content = content.get(part) if isinstance(content, dict) else None
    return content


def run(table: str, outputs: Path, docs: Path, settings: list[str]) -> None:
    if table == "t0":
        for dataset, (other, weights) in closed_form.DATASETS.items():
            folder = Path(f"runs/{dataset}/baselines")
            files = [folder / "spectrum.npz", folder / "baselines.json"]
            snakemake(other, outputs / other, settings, *map(str, files))
            fitted, rows = (outputs / other / path for path in files)
            curve = closed_form.curve(spectrum.load(fitted), weights)
            csv_files.write(docs / f"t0/{dataset}.csv", curve)
            csv_files.write(docs / f"t0/{dataset}_rows.csv", closed_form.sanity_rows(rows))
        return
    if table == "t4":
        folders = {prior_hole.T2_ITSELF: outputs / "t2"}
        for cell, sampling in prior_hole.CELLS.items():
            if cell not in folders:
                folders[cell] = outputs / "t4" / cell
                copy_runs(outputs / "t2", folders[cell])
                text = yaml.safe_dump(sampling, default_flow_style=True).strip()
                snakemake("t2", folders[cell], [*settings, f"sampling={text}"])
            keep_rows(folders[cell], docs / "t4" / cell)
        epochs = configuration("t2")["training"]["epochs"]
        prior_hole.draw(folders, epochs, docs / "t4/prior_hole.png")
        return
    folder = outputs / table
    if table == "pilot":  # judged on validation images only: nothing of it is scored
        snakemake(table, folder, settings, *files_of_runs(table, "run.json"))
        return
    # Those of the follow-ups are compared by their endpoint only.
    targets = files_of_runs(table, "scores/objective.json") if table.startswith("e") else []
    snakemake(table, folder, settings, *targets)
    keep(folder, docs / table)


def files_of_runs(table: str, name: str) -> list[str]:
    """The path of a file in the folder of each run of a table."""
    given = configuration(table)
    return [
        f"runs/{given['dataset']}/{variant}/seed-{seed}/{name}"
        for variant, own in given["variants"].items()
        if own
        for seed in given["seeds"]
    ]


def configuration(table: str) -> dict[str, Any]:
    return yaml.safe_load((HERE / f"{table}.yaml").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", metavar="TABLE", choices=(*TABLES, []))
    parser.add_argument("--outputs", type=Path, default=Path("study"))
    parser.add_argument("--archives", type=Path)
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs/study")
    given = parser.parse_args()
    tables = given.tables or TABLES
    if "t4" in tables and "t2" not in tables and not (given.outputs / "t2/results").exists():
        sys.exit("Error: t4 draws samples from the runs of t2: run t2 first")
    for table in tables:
        run(table, given.outputs.resolve(), given.docs.resolve(), sources(given.archives))


if __name__ == "__main__":
    main()
