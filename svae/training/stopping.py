"""Requests to stop: Ctrl-C, preemption by a cluster, a closed terminal."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

from svae.errors import Stopped, UserError

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class StopRequest:
    """The first signal that asks the program to stop.

    Later ones have no effect, because Snakemake sends its own signal after a Ctrl-C that has
    already reached its jobs. `at_once`: whether the signal raises `Stopped` immediately, which is
    right while there is nothing to save, or waits for `check`.
    """

    def __init__(self) -> None:
        self.at_once = True
        self._number: int | None = None

    def check(self) -> None:
        """Raise `Stopped` if a signal was received."""
        if self._number is not None:
            name = signal.Signals(self._number).name
            raise Stopped(f"stopped by {name}; run snakemake again to resume", self._number)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._number is None:
            self._number = number
            if self.at_once:
                self.check()


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Handle the signals in this block, except ignored ones, such as SIGHUP under nohup.

    Only the main thread can handle signals; in any other, the request never fires.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    ours = [number for number in SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, request._handle) for number in ours}
    try:
        yield request
    except Exception as error:
        if not isinstance(error, UserError):
            request.check()  # a library converted what the signal raised
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
