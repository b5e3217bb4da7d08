"""Settings on Snakemake's command line, checked before Snakemake reads them.

It would end with a traceback, or drop a part in silence. The Snakefile is read later, the profile
profiles/default before; its call of this module is the first code of this package that runs.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from itertools import chain
from pathlib import Path

from svae.config.check import shown
from svae.config.yaml_file import check_file, check_text
from svae.errors import UserError


def check_command_line(arguments: Sequence[str]) -> None:
    """UserError if Snakemake would not use all of `--configfile` and `--config`, or not read it."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="*", action="append", default=[])
    parser.add_argument("--config", "-C", nargs="*", action="append", default=[])
    given, _ = parser.parse_known_args(arguments)
    for option, groups in (("--configfile", given.configfile), ("--config", given.config)):
        if len(groups) > 1:
            raise UserError(
                f"{option} is given {len(groups)} times, and Snakemake uses only the last; write "
                f"all its values after one {option}"
            )
    for path in chain(*given.configfile):
        check_file(Path(path))
    _check_settings(chain(*given.config))


def _check_settings(entries: Iterable[str]) -> None:
    keys = set()
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals or not re.fullmatch(r"[a-zA-Z_][\w-]*\w", key):  # as Snakemake has it
            raise UserError(
                f"--config has {shown(entry)}; write KEY=VALUE, as in 'training={{epochs: 5}}', "
                "and files or rules to make before --config"
            )
        if key in keys:
            raise UserError(f"--config: duplicate key {key}; remove one")
        keys.add(key)
        try:
            check_text(value)
        except UserError as error:
            raise UserError(f"--config {key}, {error}") from None
