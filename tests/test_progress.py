"""A bar for who has the terminal alone, a plain line an epoch for everybody."""

import contextlib
import io
import logging
import os
import pty
import subprocess
import sys

import pytest

from svae.training.progress import Progress, Terminal

RECORD = {
    "train_sse_per_image": 10.0,
    "train_kl_nats_per_image": 2.0,
    "valid_sse_per_image": 11.0,
    "valid_kl_nats_per_image": 2.5,
    "valid_active_maps": 3,
    "valid_latent_maps": 4,
    "images_per_second": 500.0,
    "seconds": 60.0,
}
HOLDER = """
import sys
from pathlib import Path
from svae.training.progress import Terminal
held = Terminal(Path(sys.argv[1]))
if held:
    print("held", flush=True)
    sys.stdin.read()
"""


class Console:
    def __init__(self, free):
        self._free = free

    def free(self):
        return self._free


def run_epoch(terminal):
    progress = Progress("tiny", 3, 2, 40, [RECORD], terminal)
    progress.on_epoch_begin(0)
    bar = progress.bar
    shown = []
    for batch in range(2):
        progress.on_train_batch_end(batch)
        shown.append(bar and bar.n)
    progress.on_epoch_end(0)
    assert progress.bar is None
    return shown


@pytest.mark.parametrize(("free", "expected"), [(True, [40, 80]), (False, [None, None])])
def test_bar_and_line(caplog, free, expected):
    caplog.set_level(logging.INFO)
    assert run_epoch(Console(free)) == expected
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("tiny: epoch 1/3 ")
    assert "500 images/s" in line and "2.0 min left" in line


def test_the_terminal_is_free_for_one_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with contextlib.closing(Terminal(tmp_path)) as mine:
        assert not mine.free()  # standard error is no terminal
        _, side = pty.openpty()
        with os.fdopen(side, "w") as console:
            monkeypatch.setattr(sys, "stderr", console)
            assert mine.free()
            command = [sys.executable, "-c", HOLDER, str(tmp_path)]
            with subprocess.Popen(command, stdin=-1, stdout=-1, text=True) as other:
                assert other.stdout.readline() == "held\n"
                assert not mine.free()
                other.kill()
            assert mine.free()
