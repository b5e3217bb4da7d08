"""Destinations of a stage's log lines and of its final error."""

import contextlib
import logging
import logging.handlers
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from svae.errors import Stopped, UserError, readable
from svae.jobs.disk import disk_error


class _Readable(logging.Formatter):
    """Escapes what messages of libraries may quote of a stranger's file."""

    def format(self, record: logging.LogRecord) -> str:
        lines = super().format(record).split("\n")
        return "\n".join(readable(line.replace("\t", "    ")) for line in lines)


class _Lasting(logging.handlers.WatchedFileHandler):
    """Appends to a file, and to a new one what was written before if the file was removed:
    Snakemake removes the log of a job at its start, even if another process still runs the job."""

    def reopenIfNeeded(self) -> None:
        number = self.stream.fileno()  # type: ignore[union-attr]  # it is open from the start
        with contextlib.suppress(OSError):
            if os.path.samestat(Path(self.baseFilename).stat(), os.fstat(number)):
                return
        with contextlib.suppress(OSError):
            written = Path(f"/proc/self/fd/{number}").read_text(encoding="utf-8")
            with Path(self.baseFilename).open("a", encoding="utf-8") as file:
                file.write(written)
        super().reopenIfNeeded()


@contextlib.contextmanager
def log_to(path: Path | str) -> Iterator[None]:
    """Send log lines to the file `path` and to standard error; exit on an error.

    For a `UserError` only its message is shown; for any other error the traceback goes to the file
    and its last line to standard error.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _Lasting(path, encoding="utf-8")
    except OSError as error:
        sys.exit(f"Error: {disk_error(path, error) or error}")
    file.setFormatter(_Readable("%(asctime)s %(levelname)s %(message)s"))
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setFormatter(_Readable("%(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[file, terminal], force=True)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a log line that cannot be written is no traceback
    try:
        yield
    except Stopped as stopped:
        logging.warning("%s", stopped)
        sys.exit(stopped.exit_code)
    except UserError as error:
        logging.error("Error: %s", error)
        sys.exit(1)
    except Exception as error:
        if isinstance(error, OSError) and (disk := disk_error(error.filename or path, error)):
            logging.error("Error: %s", disk)
            sys.exit(1)
        logging.getLogger().removeHandler(terminal)
        logging.exception("unexpected error")
        sys.exit(f"Error: {type(error).__name__}: {readable(str(error))} (traceback in {path})")
