"""Small disks: one to fill, which exists as long as a process; one whose power is cut."""

import os
import shutil
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


# A small file system in an image, by mkfs's name: smallest size in MiB, options of mkfs, of mount.
FILE_SYSTEMS = {
    "ext4": (64, ["-q", "-F"], []),
    "xfs": (300, ["-q"], ["nouuid"]),
    "btrfs": (128, ["-q"], []),
}


class Disk:
    """A disk of its own, a file with a file system, mounted at `folder`; a context manager.

    `image` copies what has reached the disk by now: what is left if the power goes at this moment.
    """

    def __init__(self, place, kind):
        size, options, self.mount_options = FILE_SYSTEMS[kind]
        if os.geteuid() or not shutil.which(f"mkfs.{kind}"):
            pytest.skip(f"needs root and mkfs.{kind}")
        self.place, self.count = place, 0
        with (place / "disk").open("wb") as file:
            file.truncate(size << 20)
        subprocess.run([f"mkfs.{kind}", *options, place / "disk"], check=True, capture_output=True)
        if not self._mount(place / "disk"):
            pytest.skip(f"this machine mounts no {kind} in a file")

    def image(self):
        self.count += 1
        copy = self.place / f"image-{self.count}"
        subprocess.run(["cp", "--sparse=always", self.place / "disk", copy], check=True)
        return copy

    def turn_to(self, image):
        """Mount an image instead, at the same place."""
        self._unmount()
        assert self._mount(image), f"{image} cannot be mounted"

    def _mount(self, image):
        self.folder = self.place / "mounted"
        self.folder.mkdir(exist_ok=True)
        options = ",".join(["loop", *self.mount_options])
        command = ["mount", "-o", options, image, self.folder]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def _unmount(self):
        subprocess.run(["umount", "--lazy", self.folder], check=True)
        # Where a device of the same identity is known, btrfs would mount that.
        if shutil.which("btrfs"):
            subprocess.run(
                ["btrfs", "device", "scan", "--forget"], capture_output=True, check=False
            )

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._unmount()
