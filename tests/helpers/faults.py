"""Faults of disks, made on purpose: flipped bits, cut files, failing calls, kills."""

import os
import random
import shutil
import subprocess
import sys
from collections import Counter

from svae.errors import UserError

# What a disk may fail, by the calls of the system that writers make.
CALLS = ("write", "pwrite64", "ftruncate", "fsync", "rename", "mkdir", "unlink")
FAULTS = {
    "ENOSPC": ("write", "pwrite64", "ftruncate", "fsync", "rename", "mkdir"),
    "EIO": ("write", "pwrite64", "ftruncate", "fsync", "rename"),
    "EPERM": ("fchmod", "chmod", "fchmodat"),
    "KILL": CALLS,
}


def damaged_copies(path, flips, cuts, seed=0):
    """Write damaged contents to `path`, one after the other, and yield after each."""
    whole, rng = path.read_bytes(), random.Random(seed)
    try:
        for bit in rng.sample(range(8 * len(whole)), min(flips, 8 * len(whole))):
            content = bytearray(whole)
            content[bit // 8] ^= 1 << bit % 8
            path.write_bytes(content)
            yield f"bit {bit}"
        for length in sorted(
            {0, len(whole) - 1, *rng.sample(range(len(whole)), min(cuts, len(whole)))}
        ):
            path.write_bytes(whole[:length])
            yield f"cut to {length}"
    finally:
        path.write_bytes(whole)


def outcomes(path, read, flips, cuts):
    """How often damage was refused, without effect, or accepted with another content."""
    whole, found = read(), Counter(tried=0, refused=0, same=0, wrong=0)
    for what in damaged_copies(path, flips, cuts):
        found["tried"] += 1
        try:
            same = read() == whole
        except UserError as error:
            assert "\n" not in str(error), what
            found["refused"] += 1
        else:
            found["same" if same else "wrong"] += 1
    return found


def points(code, folder, call):
    """How often a Python program makes a system call, in its first thread."""
    trace = folder / "trace"
    run(code, folder, "-o", str(trace), "-e", f"trace={call}")
    lines = trace.read_text().splitlines() if trace.exists() else []
    first = [line for line in lines if f" {call}(" in line]
    own = first[0].split()[0] if first else ""
    return sum(line.split()[0] == own for line in first)


def run(code, folder, *strace):
    """Run a Python program in `folder`, under strace with these options."""
    tracer = ["strace", "-f", "-qq", "--seccomp-bpf", *strace] if strace else []
    return subprocess.run(
        [*tracer, sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def fault(code, folder, call, what, number):
    """Run a program whose call of this number fails, or is the moment of a kill."""
    action = "signal=KILL" if what == "KILL" else f"error={what}"
    options = ("-e", f"trace={call}", "-e", f"inject={call}:{action}:when={number}")
    return run(code, folder, "-o", os.devnull, *options)


def spread(count, most):
    """At most `most` of the numbers 1 .. count, from the first to the last."""
    if count <= most:
        return list(range(1, count + 1))
    return sorted({1 + round(i * (count - 1) / (most - 1)) for i in range(most)})


def emptied(folder):
    """An existing, empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
