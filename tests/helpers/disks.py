"""A small disk to fill: a separate file system, which exists as long as the process."""

import subprocess

import pytest

# Arguments: size in bytes, folder, command. Prints what is left in the folder.
ON_SMALL_DISK = """
mount -t tmpfs -o size="$1" tmpfs "$2" || exit 99
folder="$2"; shift 2
"$@"; code=$?
echo "left: $(ls -A "$folder")"
exit $code
"""


def run_on_small_disk(folder, size, command):
    """Run a command with a disk of `size` bytes at `folder`, in its own namespaces, as root or
    as a user."""
    for arguments in (["unshare", "--user", "--map-root-user", "--mount"], ["unshare", "--mount"]):
        try:
            tried = subprocess.run(
                [*arguments, "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            break
        if tried.returncode == 0:
            return subprocess.run(
                [*arguments, "sh", "-c", ON_SMALL_DISK, "sh", str(size), str(folder), *command],
                capture_output=True,
                text=True,
                check=False,
            )
    pytest.skip("this machine lets nobody mount a small file system")
