"""Fingerprints kept from one start of Snakemake to the next: to compute all takes seconds.

Imported by the Snakefile: standard library only.
"""

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path

from svae.errors import UserError
from svae.jobs.files import file_hash, read_json, write_json
from svae.jobs.fingerprint import fingerprint


class FingerprintCache:
    """The fingerprints of a package, in a JSON file that may be deleted at any time.

    They are those of its source files as they are when the object is made: after any edit, however
    small, all are computed again.

    package_root  as in `fingerprint`
    """

    def __init__(self, file: Path, package_root: Path | None = None):
        self._file, self._root = file, package_root
        self._source = _digest_of_source(package_root or Path(__file__).parents[1])
        self._known = self._kept()

    def fingerprint(
        self,
        *entries: str,
        without: tuple[str, ...] = (),
        settings: Mapping[str, object] | None = None,
    ) -> str:
        """Return svae.jobs.fingerprint.fingerprint of these arguments; errors as there."""
        key = repr((entries, without, sorted((settings or {}).items())))
        if key not in self._known:
            self._known[key] = fingerprint(
                *entries, without=without, settings=settings, package_root=self._root
            )
            self._keep(key)
        return self._known[key]

    def _keep(self, key: str) -> None:
        """Write the file again with a new fingerprint, at once, since jobs that are submitted read
        it; not if it cannot be written."""
        content = {"source": self._source, "fingerprints": {**self._kept(), key: self._known[key]}}
        with contextlib.suppress(OSError, UserError):
            write_json(self._file, content)

    def _kept(self) -> dict[str, str]:
        with contextlib.suppress(OSError, UserError):
            content = read_json(self._file)
            if content.get("source") == self._source:
                return content["fingerprints"]
        return {}


def _digest_of_source(root: Path) -> str:
    files = sorted((path.relative_to(root).as_posix(), path) for path in root.rglob("*.py"))
    named = "".join(f"{file_hash(path)} {name}\n" for name, path in files)
    return hashlib.sha256(named.encode()).hexdigest()
