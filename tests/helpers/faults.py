"""Faults of disks, made on purpose: flipped bits, cut files, failing calls, kills."""

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from svae.errors import UserError

# What a disk may fail, by the calls of the system that writers make. A network file system may
# report only when a file is closed that a write to it failed.
FAULTS = {
    "ENOSPC": ("write", "pwrite64", "ftruncate", "fsync", "rename", "mkdir"),
    "EIO": ("write", "pwrite64", "ftruncate", "fsync", "rename", "close"),
    "EPERM": ("fchmod", "chmod", "fchmodat"),
}
# All that changes what lies in a folder.
CHANGES = (
    *("openat", "write", "writev", "pwrite64", "ftruncate", "copy_file_range", "sendfile"),
    *("rename", "renameat", "renameat2", "mkdir", "mkdirat", "rmdir", "unlink", "unlinkat"),
    *("link", "linkat", "symlink", "symlinkat"),
)
TEMPORARY = re.compile(r"(^|/)\.[a-z0-9_]{8}-")  # as tempfile names files


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


# Started with imports and a program; runs it in a fork for each folder that it reads, which stops
# itself until strace has it, and ends as any Python program does.
_SERVER = """
import os, signal, sys
imports, code = sys.argv[1:]
exec(imports)
print("ready", flush=True)
while folder := sys.stdin.readline().rstrip():
    child = os.fork()
    if not child:
        os.chdir(folder)
        output = os.open("stderr", os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2), os.close(output)
        os.kill(os.getpid(), signal.SIGSTOP)
        exec(code, {"__name__": "__main__"})
        break
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Program:
    """A Python program that runs often, from where its imports are done; a context manager."""

    def __init__(self, imports, code):
        self._server = subprocess.Popen(
            [sys.executable, "-c", _SERVER, imports, code],
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self._server.stdout.readline() == "ready\n"

    def run(self, folder, *strace, stopped=None):
        """(exit code, what it printed) in `folder`, under strace with these options. `stopped` is
        called whenever a signal has stopped the program, which then continues."""
        self._server.stdin.write(f"{folder}\n")
        self._server.stdin.flush()
        self._child = child = int(self._server.stdout.readline())
        _wait_for(child, "State", "T")
        tracer = None
        if strace:
            # With -o, even if it is this, every line begins with the number of the process.
            output = ["-o", "/dev/stderr"] if stopped else []
            tracer = subprocess.Popen(
                ["strace", "-f", "-qq", *output, *strace, "-p", str(child)],
                stderr=subprocess.PIPE if stopped else None,
                text=True,
            )
            _wait_for(child, "TracerPid", str(tracer.pid))
        os.kill(child, signal.SIGCONT)
        if stopped:
            for line in tracer.stderr:
                if "--- stopped by SIGSTOP ---" in line:
                    # Every thread has such a line; the first one continues the program.
                    thread = int(line.split()[0])
                    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                        if _state(thread) in "tT":
                            stopped()
                            os.kill(thread, signal.SIGCONT)
            tracer.stderr.close()
        code = int(self._server.stdout.readline())
        if tracer:
            tracer.wait()
        return code, (folder / "stderr").read_text(errors="replace")

    def points(self, folder, calls):
        """The system calls of these names that it makes in its first thread: (name, number among
        those of this name, name of the file in `folder` that they concern or None). Of `close`,
        only those of files that are written: hidden ones, and TensorBoard's."""
        trace = folder / "trace"
        self.run(folder, "-y", "-o", str(trace), "-e", f"trace={','.join(calls)}")
        counts, found = Counter(), []
        for call, arguments in re.findall(
            rf"^{self._child} +(\w+)\((.*)", trace.read_text(), re.MULTILINE
        ):
            counts[call] += 1
            file = re.match(rf"\d+<{re.escape(str(folder))}/([^>]+)>", arguments)
            if call != "close" or (file and re.search(r"(^|/)\.|tfevents", file[1])):
                found.append((call, counts[call], file and file[1]))
        return found

    def fault(self, folder, call, error, number):
        """Run it; the call of this number fails."""
        options = ("-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={number}")
        return self.run(folder, "-o", os.devnull, *options)

    def states(self, folder):
        """What a kill may leave in `folder`/out: how often its operations change that, and each
        content that these leave, as `tree` has it. What temporary files contain makes no other
        state: nothing reads them."""
        changes, before, states = -1, None, {}

        def look():
            nonlocal changes, before
            now = tree(folder / "out")
            if now != before:
                changes, before = changes + 1, now
                key = {
                    TEMPORARY.sub(r"\1.-", name): None if TEMPORARY.search(name) else content
                    for name, content in now.items()
                }
                states.setdefault(frozenset(key.items()), now)

        calls = ",".join(CHANGES)
        code, printed = self.run(
            folder, "-e", f"trace={calls}", "-e", f"inject={calls}:signal=STOP", stopped=look
        )
        assert code == 0, printed
        return changes, list(states.values())

    def after_a_power_cut(self, folder, out):
        """(The names of the files in `out`, those of them that a power cut after its end may lose),
        as its system calls say."""
        trace = folder / "trace"
        calls = "write,pwrite64,writev,ftruncate,fsync,fdatasync,rename,renameat,renameat2"
        self.run(folder, "-y", "-o", str(trace), "-e", f"trace={calls}")
        # Files: `flushed`; `named`, so that their folder was flushed later; `renamed` since, to a
        # name that is on the disk once the folder that is the value is flushed; `kept`.
        flushed, named, renamed, kept = set(), set(), {}, set()
        for line in trace.read_text().splitlines():
            found = re.match(r"\d+ +(\w+)\((.*)", line)
            if not found:
                continue
            call, arguments = found.groups()
            if call.startswith("rename"):
                source, target = (folder / name for name in re.findall(r'"([^"]*)"', arguments))
                kept.discard(target)
                if source in flushed:
                    flushed.add(target)
                    renamed[target] = target.parent
                for path in named:  # of a folder, those in it
                    if source in path.parents:
                        renamed[target / path.relative_to(source)] = target.parent
            elif handle := re.match(r"\d+<([^>]*)>", arguments):
                path = Path(handle[1])
                if call in ("fsync", "fdatasync"):
                    flushed.add(path)
                    named |= {each for each in flushed if each.parent == path}
                    kept |= {target for target, parent in renamed.items() if parent == path}
                else:
                    flushed.discard(path)
                    named.discard(path)
        names = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
        names = [name for name in names if not Path(name).name.startswith(".")]
        return names, [name for name in names if out / name not in kept]

    def __enter__(self):
        return self

    def __exit__(self, kind, *exception):
        if kind:  # perhaps while it is stopped
            os.killpg(self._server.pid, signal.SIGKILL)
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def _wait_for(process, key, start):
    status = Path(f"/proc/{process}/status")
    while not re.search(rf"^{key}:\s+{start}", status.read_text(), re.MULTILINE):
        time.sleep(0.001)


def _state(process):
    status = Path(f"/proc/{process}/status").read_text()
    return re.search(r"^State:\s+(\w)", status, re.MULTILINE)[1]


def spread(items, most):
    """At most `most` of them, evenly from the first to the last."""
    if len(items) <= most:
        return list(items)
    return [items[round(i * (len(items) - 1) / max(1, most - 1))] for i in range(most)]


def tree(folder):
    """The content of everything in a folder by its name; None for folders."""
    while True:
        with contextlib.suppress(FileNotFoundError):  # of a thread that is not stopped yet
            return {
                path.relative_to(folder).as_posix(): None if path.is_dir() else path.read_bytes()
                for path in sorted(folder.rglob("*"))
            }


def restored(folder, content):
    """A folder with the content that `tree` gave."""
    emptied(folder)
    for name, data in content.items():
        (folder / name).mkdir() if data is None else (folder / name).write_bytes(data)


def emptied(folder):
    """An existing, empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
