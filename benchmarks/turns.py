"""Processes that take turns, so that changes in the machine's speed affect them equally.

Each waits while another works. Only the standard library is used, because a process may run in
another interpreter (see Script).
"""

import multiprocessing
import subprocess
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

BATCH = 100  # images


def peak_mb() -> float:
    """Return the peak memory of this process in MB."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) * 1024 / 1e6


class Worker:
    """A process of `target`(connection, *arguments) that works on request and reports its speed."""

    def __init__(self, target: Callable[..., None], *arguments: Any):
        context = multiprocessing.get_context("spawn")
        self.connection, other = context.Pipe()
        self.process = context.Process(target=target, args=(other, *arguments), daemon=True)
        self.process.start()
        other.close()
        self.connection.recv()  # ready

    def turn(self) -> Any:
        """Start a turn; return images per second, or whatever else the process sends."""
        self.connection.send("go")
        return self.connection.recv()

    def end(self) -> float:
        """End the process; return the growth of its memory since it was ready, in MB."""
        self.connection.send("end")
        growth = self.connection.recv()
        self.process.join()
        return growth


class Script(Worker):
    """The same for a command, whose last argument is the descriptor of the connection."""

    def __init__(self, *command: Any):
        self.connection, other = multiprocessing.Pipe()
        descriptor = other.fileno()
        arguments = [str(argument) for argument in (*command, descriptor)]
        self.process = subprocess.Popen(arguments, pass_fds=[descriptor])
        self.process.join = self.process.wait
        other.close()
        self.connection.recv()  # ready


class Ended(Exception):
    pass


class Turns:
    """The worker's side: called after every batch, it waits at the end of a turn."""

    def __init__(self, connection: Connection, warm_up: int, batches: int):
        self.connection, self.left, self.batches = connection, warm_up, batches
        self.start: float | None = None
        self.memory = peak_mb()

    def __call__(self) -> None:
        self.left -= 1
        if self.left:
            return
        seconds = 0.0 if self.start is None else time.perf_counter() - self.start
        self.connection.send(self.batches * BATCH / seconds if seconds else "ready")
        if self.connection.recv() == "end":
            self.connection.send(peak_mb() - self.memory)
            raise Ended
        self.left, self.start = self.batches, time.perf_counter()
