"""The time that jobs ask for is enough for what was measured, and for a slower processor."""

import pytest
from test_memory import COLOURS, DIGITS, FACES, config

from svae.config import runtime

DAY = 24 * 60


def training(of, store):
    return runtime.of_training(of, of.variants["mvn"], store)


def epochs(dataset, number):
    return config(dataset, training={"epochs": number})


# Minutes that were measured on one thread.
@pytest.mark.parametrize(
    ("of", "config", "measured"),
    [
        (runtime.of_scores, COLOURS, 127 / 60),
        (runtime.of_scores, FACES, 293 / 60),  # the sanity rows
        (runtime.of_spectrum, COLOURS, 11 / 60),
        (runtime.of_samples, FACES, 7 / 60),
        (runtime.of_conversion, COLOURS, 3 / 60),
    ],
)
def test_a_job_may_take_several_times_what_was_measured(of, config, measured):
    asked = of(config)
    assert asked == int(asked)
    assert 10 + 2 * measured <= asked <= 20 + 10 * measured


# Bytes of the store, whose number of images is otherwise unknown.
@pytest.mark.parametrize(
    ("config", "stored", "least", "most"),
    [
        (epochs("cifar10", 10), None, 10 + 2 * 468 / 60, DAY),  # measured: 468 s
        (epochs("mnist_5k", 1), None, 10, 11),
        (epochs("cifar10", 10_000), None, DAY, DAY + 60),
        (epochs("images", 10), None, DAY, DAY + 60),
        (epochs("images", 10), 10 * 12288, 10, 11),
        (epochs("images", 10), 20_000 * 12288, 60, DAY),
        (epochs("mnist_5k", 10_000), 100_000_000_000, 3000, 4500),  # 1.5 epochs, at least
    ],
)
def test_a_training_asks_for_all_epochs_or_a_day(tmp_path, config, stored, least, most):
    store = tmp_path / "store.h5"
    if stored is not None:
        with store.open("wb") as file:
            file.truncate(stored)
    assert least <= training(config, store) <= most


@pytest.mark.parametrize(
    ("of", "larger"),
    [
        (runtime.of_conversion, config("lsun")),
        (runtime.of_samples, config("mnist_5k", sampling={"n_samples": 1_000_000})),
        (runtime.of_scores, config("mnist_5k", sampling={"n_samples": 1_000_000})),
        (runtime.of_scores, FACES),
    ],
)
def test_a_larger_job_asks_for_more(of, larger):
    assert of(larger) > of(DIGITS)
