"""The files of a folder, a zip or a tar archive, none of which is trusted."""

import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from svae.datasets.formats.tar_file import tar_members
from svae.datasets.formats.untrusted import (
    MEMBER_LIMIT,
    nature_of,
    without_files,
)
from svae.datasets.formats.zip_file import zip_members
from svae.datasets.readers import BrokenImage
from svae.errors import readable
from svae.jobs.folders import files_in


def members(
    path: Path | str, wanted: Callable[[str], bool], limit: int, member_limit: int = MEMBER_LIMIT
) -> Iterator[tuple[str, bytes | BrokenImage]]:
    """Yield (name, content) of the wanted files of a folder, a zip or a tar archive.

    If a file in a folder cannot be read or is too large, its content is a BrokenImage with the
    reason.

    A name is the path inside the folder or archive, with `/` and without `./`; bytes that are not
    UTF-8, and control characters, are written as `\\xfc`. Hidden files, and `__MACOSX` folders of
    macOS, are left out. Files of a folder or a zip archive are sorted by name, those of a tar
    archive keep its order. `svae.jobs.folders.files_in` says which files of a folder count.

    Args:
        path: a folder, a zip archive, or a tar archive, plain or compressed by gzip, bzip2 or xz.
        wanted: returns for a name whether the file is to be read.
        limit: the most bytes that an archive may unpack to, including unwanted members.
        member_limit: the most bytes of one wanted file.

    Raises:
        UserError: if the archive is damaged, truncated, too large or empty, or has an unsafe
            member, which the message names.
    """
    if Path(path).is_dir():
        found = _folder_members(path, wanted, member_limit)
    elif nature_of(path) == "a zip archive":
        found = zip_members(path, wanted, limit, member_limit)
    else:
        found = tar_members(path, wanted, limit, member_limit)
    yield from found


def names(path: Path | str, wanted: Callable[[str], bool], limit: int) -> Iterator[str]:
    """Yield the names of all files, wanted or not, as `members` with the same arguments meets them.

    A tar archive is read for it, including the wanted files; of others, only the names are.
    """
    tar = not Path(path).is_dir() and nature_of(path) != "a zip archive"
    met: list[str] = []

    def note(name: str) -> bool:
        met.append(name)
        return tar and wanted(name)

    for _ in members(path, note, limit):
        yield from met
        met.clear()
    yield from met


def _folder_members(
    root: Path | str, wanted: Callable[[str], bool], member_limit: int
) -> Iterator[tuple[str, bytes | BrokenImage]]:
    files = {readable(name): entry.path for name, entry in files_in(root)}
    if not files:
        raise without_files(root)
    for name in sorted(files):
        if wanted(name):
            yield name, file_content(Path(files[name]), member_limit)


def file_content(path: Path, limit: int) -> bytes | BrokenImage:
    """The content of a file in the user's folder, or the problem with it."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return BrokenImage("not a regular file")
        if status.st_size > limit:
            return BrokenImage(f"a file of {status.st_size} bytes, more than the limit of {limit}")
        return path.read_bytes()
    except OSError as error:
        return BrokenImage(f"cannot be read ({error.strerror})")
