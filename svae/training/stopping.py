"""Being asked to stop: Ctrl-C, a cluster's preemption, a terminal that is closed."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from svae.errors import Stopped

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """The first signal that asks to stop; those behind it change nothing, since Snakemake sends its
    own after a Ctrl-C that has reached its jobs already.

    `at_once`: whether it raises `Stopped` wherever the program is, as is right while there is
    nothing to save, or waits for `check`.
    """

    def __init__(self) -> None:
        self.at_once = True
        self._number: int | None = None

    def check(self) -> None:
        """Raise `Stopped` if a signal came."""
        if self._number is not None:
            name = signal.Signals(self._number).name
            raise Stopped(f"stopped by {name}; to go on, run snakemake again", self._number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number = number
            if self.at_once:
                self.check()


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Take the signals for this block, but for those that are ignored, as SIGHUP is under nohup.

    Only a program's main thread can.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request._handle) for number in ours}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
