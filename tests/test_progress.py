"""One line per epoch, and more within long epochs."""

import logging
from types import SimpleNamespace

import pytest

from svae.training import progress
from svae.training.progress import Progress

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


@pytest.fixture
def clock(monkeypatch):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO)
    return lambda: [record.getMessage() for record in caplog.records]


def take_steps(shown, clock, numbers, seconds):
    for number in numbers:
        clock.now += seconds
        shown.on_train_batch_end(number)


def test_a_short_epoch_has_one_line(clock, lines):
    shown = Progress("tiny", 3, 2, 40, [RECORD])
    shown.on_epoch_begin(0)
    take_steps(shown, clock, range(2), seconds=1)
    shown.on_epoch_end(0)
    (line,) = lines()
    assert line.startswith("tiny: epoch 1/3 ")
    assert "500 images/s" in line and "2.0 min left" in line


def test_a_long_epoch_has_lines_in_between(clock, lines):
    shown = Progress("tiny", 3, 20, 40, [RECORD], seconds=30)
    shown.on_epoch_begin(1)
    take_steps(shown, clock, [0], seconds=100)  # with compilation, which no later step has
    take_steps(shown, clock, range(1, 20), seconds=10)
    assert lines() == [
        f"tiny: epoch 2/3, step {step} of 20  4 images/s  {(40 - step) / 6:.1f} min left"
        for step in (4, 7, 10, 13, 16, 19)
    ]


def test_an_epoch_that_starts_again_or_in_the_middle(clock, lines):
    """After a rollback, and after a checkpoint within an epoch."""
    shown = Progress("tiny", 3, 20, 40, [RECORD], seconds=30)
    for first in (0, 12):
        shown.on_epoch_begin(2)
        take_steps(shown, clock, range(first, first + 5), seconds=10)
    assert [line.partition("  ")[0] for line in lines()] == [
        "tiny: epoch 3/3, step 4 of 20",
        "tiny: epoch 3/3, step 16 of 20",
    ]
    assert lines()[-1].endswith("4 images/s  0.7 min left")
