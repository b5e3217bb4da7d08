"""Runs the real workflow in its own folder, for the tests."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Container
from copy import copy
from pathlib import Path

import yaml

from helpers.snakemakes import snakemake
from svae.scores.registry import scores

CLONE = Path(__file__).parents[2]
PARTS = ("Snakefile", "rules", "scripts", "svae", "profiles", "config.yaml")

# Variants and settings of a run that takes seconds.
VARIANTS = {
    "vanilla": {"posterior": "vanilla"},
    "low_rank": {"posterior": "low_rank", "threads": 2},
    "vanilla_matched": {"posterior": "vanilla", "kl_weight": "low_rank"},
}
SMALL = {
    "training": {"epochs": 1, "threads": 1},
    "sampling": {"n_samples": 200},
    "parzen": {"fresh_draws": 2},
    "sliced_wasserstein": {"images": 50},
    "feature_distances": {"features": None},
    "importance_weighted_bound": {"importance_samples": 4, "images": 20},
    "variants": VARIANTS,
}


# The scores that such a run has.
MEASURED = [score for name, score in scores().items() if name != "feature_distances"]


def measured_anew(rules: Container[str]) -> set[str]:
    """The scores that read files which jobs of these rules make."""
    made_by = {"samples": "sample", "spectrum": "spectrum", "features": "features"}
    return {
        score.name
        for score in scores().values()
        if "train" in rules or any(made_by.get(need) in rules for need in score.needs + score.files)
    }


# Fingerprints that one copy computed serve the next, as long as its code is the same.
FINGERPRINTS = ".snakemake/fingerprints.json"
_fingerprints = b""


class Workflow:
    """A copy of the workflow and its package in `folder`, so that a test may edit both."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            source, target = CLONE / part, folder / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        if _fingerprints:
            kept = folder / FINGERPRINTS
            kept.parent.mkdir(exist_ok=True)
            kept.write_bytes(_fingerprints)

    def copy(self, folder: Path) -> "Workflow":
        """A copy in another folder, with everything that was made in this one."""
        shutil.copytree(self.folder, folder)
        twin = copy(self)
        twin.folder = folder
        return twin

    def configure(self, changes: dict) -> None:
        """Override the copy's config.yaml with `changes`, inner mappings too, except variants."""
        path = self.folder / "config.yaml"
        content = _merged(yaml.safe_load(path.read_text()), changes)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def run(self, *arguments: str, check: bool = True, **environment: str):
        """Run Snakemake in the folder with the copy's package; return the finished process."""
        global _fingerprints
        done = snakemake(arguments, self.folder, self._environment(environment))
        if (kept := self.folder / FINGERPRINTS).exists():
            _fingerprints = kept.read_bytes()
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def command_line(self, *arguments: str, check: bool = True, **environment: str):
        """The same with the command of a user, which also loads plugins from the folder."""
        done = subprocess.run(**self._command(arguments, environment), capture_output=True)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def start(self, *arguments: str, environment: dict[str, str] | None = None, **options):
        """Start that command in its own process group."""
        command = self._command(arguments, environment or {})
        return subprocess.Popen(**command, start_new_session=True, **options)

    def _command(self, arguments: tuple[str, ...], environment: dict[str, str]) -> dict:
        return {
            "args": [sys.executable, "-m", "snakemake", *arguments],
            "cwd": self.folder,
            "env": self._environment(environment),
            "text": True,
        }

    def _environment(self, changes: dict[str, str]) -> dict[str, str]:
        # GPUs and profiles of the machine do not affect the tests.
        ours = {"CUDA_VISIBLE_DEVICES": "", "SNAKEMAKE_PROFILE": "none"}
        return {**os.environ, **ours, "PYTHONPATH": str(self.folder), **changes}

    def planned(self, *arguments: str) -> dict[str, int]:
        """How many jobs of each rule Snakemake plans; {} if nothing is to be done. In place of the
        rule `scores`, the names of the scores that its jobs measure and do not only write again."""
        done = self.run("-n", *arguments)
        text = done.stdout + done.stderr
        table = re.search(r"^job +count\n[- ]+\n(.*?)^total", text, re.MULTILINE | re.DOTALL)
        if table is None:
            assert "Nothing to be done" in text, text
            return {}
        jobs = dict(line.split() for line in table[1].splitlines())
        counts = Counter({rule: int(count) for rule, count in jobs.items() if rule != "all"})
        if several := counts.pop("scores", 0):
            settings = yaml.safe_load((self.folder / "config.yaml").read_text())
            without = [] if settings["feature_distances"]["features"] else ["feature_distances"]
            found = re.findall(r"^Job \d+: Measuring (.*) of \w+$", text, re.MULTILINE)
            named = Counter(name for names in found for name in names.split(", "))
            of_files = Counter(dict.fromkeys(measured_anew(counts), several))
            for name in ("parzen", "what its files change", *without):
                named.pop(name, None)
                of_files.pop(name, None)
            counts |= named | of_files
        return dict(counts)

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that occurs exactly once in a file of the copy."""
        file = self.folder / path
        text = file.read_text()
        assert text.count(old) == 1, (path, old, text.count(old))
        file.write_text(text.replace(old, new))


def _merged(base: dict, changes: dict) -> dict:
    merged = dict(base)
    for key, value in changes.items():
        nested = isinstance(value, dict) and key != "variants"
        merged[key] = _merged(base.get(key) or {}, value) if nested else value
    return merged
