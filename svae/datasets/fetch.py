"""Downloading a published file, checked against its checksum."""

from pathlib import Path
from typing import Any

import pooch

from svae.errors import UserError

TIMEOUT_SECONDS = 60
CHUNK_BYTES = 1 << 20


def fetch(url: str, target: Path | str, known_hash: str, progress: bool, retries: int = 3) -> None:
    """Download `url` to `target`, which appears only when whole and with the right checksum.

    A file that is already there with that checksum is left as it is, without any network.

    Args:
        url: http or https address.
        target: path to write; its folder is made if need be.
        known_hash: "sha256:HEX" or "md5:HEX".
        progress: whether to draw a progress bar on standard error.
        retries: further attempts after a failed one, waiting 1, 2, 3... seconds in between.

    Raises:
        UserError: no server, an HTTP error, a wrong checksum, or a folder that cannot be written.
    """
    target = Path(target).absolute()
    http = pooch.HTTPDownloader(
        progressbar=progress,
        chunk_size=CHUNK_BYTES,
        timeout=TIMEOUT_SECONDS,
        # Some servers label a .tar.gz as a gzip *transfer*; it would then arrive unpacked.
        headers={"Accept-Encoding": "identity"},
    )

    def download(url: str, output_file: str, owner: Any) -> None:
        http(url, output_file, owner)
        # pooch's temporary files, and so its results, are readable by their owner alone.
        Path(output_file).chmod(0o644)

    store = pooch.create(
        path=target.parent,
        base_url="",
        registry={target.name: known_hash},
        urls={target.name: url},
        retry_if_failed=retries,
    )
    try:
        store.fetch(target.name, downloader=download)
    except (OSError, ValueError) as error:  # every exception of requests is an OSError
        raise UserError(
            f"{target.name} could not be downloaded from {url}: {error}\n"
            f"Try again later, or put the file at {target} by hand, or name a copy of it in "
            "config.yaml: `sources: {NAME: {archive: PATH, sha256: HEX}}`, NAME being the data set."
        ) from error
