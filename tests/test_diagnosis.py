"""Warnings, of made-up histories and of tiny trainings, and no false alarms."""

import pytest
import stores
from builders import make_images, settings
from histories import make_record

from svae import training
from svae.diagnosis import warnings_of
from svae.history import read_history
from svae.settings.services import Services

D = 1000
WEIGHTED = settings(epochs=9)
ELBO = settings(epochs=9, objective="elbo", kl_weight=None, decoder_variance="optimal", beta=3.0)


def history(losses, errors=None, maps=None, objective="weighted"):
    """A record an epoch: validation objective (smaller is better), training error, active maps."""
    errors, maps = errors or [300.0] * len(losses), maps or [3] * len(losses)
    key, sign = "valid_objective_sse_plus_w_kl", 1
    if objective == "elbo":
        key, sign = "valid_elbo_nats_per_image", -1
    found = []
    for epoch, (loss, error, active) in enumerate(zip(losses, errors, maps, strict=True), 1):
        record = make_record(epoch, objective, decoder_variance=0.3 if sign < 0 else None)
        changes = {key: sign * loss, "train_sse_per_image": error, "valid_active_maps": active}
        found.append(record | changes)
    return found


def kinds(records, what=WEIGHTED, dimension=D):
    return [warning.split(":")[0] for warning in warnings_of(records, what, dimension)]


COLLAPSE, DEAD = "posterior collapse", "dead run"


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        ([400.0], []),
        ([400.0, 400.0], []),
        ([400.0, 400.0, 400.0], [DEAD]),
        ([400.0, 450.0, 396.1, 500.0], [DEAD]),
        ([400.0, 395.9, 500.0, 500.0], []),  # it once was better
        ([400.0, 300.0, 250.0], []),
    ],
)
def test_a_dead_run_is_flat_from_the_start(losses, expected):
    assert kinds(history(losses)) == expected


@pytest.mark.parametrize("first", [-2000.0, 2.0, 2000.0])
@pytest.mark.parametrize(("gain", "expected"), [(4.9, [DEAD]), (5.1, [])])
def test_of_the_elbo_nats_are_compared(first, gain, expected):
    """1 % of the squared error is worth 0.005 nats a pixel, wherever the ELBO's zero lies."""
    records = history([first, first + 50, first - gain], objective="elbo")
    assert kinds(records, ELBO) == expected


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([748.0, 740.0, 722.0, 748.0], [DEAD]),  # noise
        ([748.0, 748.0, 720.0, 700.0], []),
        ([748.0, 739.0, 739.0, 739.0], []),
    ],
)
def test_noise_of_the_training_error_is_no_learning(errors, expected):
    assert kinds(history([400.0] * 4, errors)) == expected


def test_what_converges_within_an_epoch_is_not_dead():
    assert kinds(history([400.0] * 9, [330.0] + [300.0] * 8)) == []


def test_what_learns_under_a_growing_kl_is_not_dead():
    assert kinds(history([400.0, 420.0, 450.0, 430.0], [300.0, 200.0, 150.0, 120.0])) == []


@pytest.mark.parametrize(("warmup", "expected"), [(0.5, [DEAD]), (1.0, [DEAD]), (1.5, [])])
@pytest.mark.parametrize("key", ["learning_rate_warmup_epochs", "kl_warmup_epochs"])
def test_a_warm_up_is_waited_for(key, warmup, expected):
    what = settings(**{key: warmup})
    assert kinds(history([400.0] * 4), what) == expected


FALLING = [400.0, 300.0, 200.0]


def test_collapse_is_that_of_the_weights_that_are_taken():
    assert kinds(history(FALLING, maps=[3, 1, 0])) == [COLLAPSE]
    assert kinds(history(FALLING, maps=[0, 0, 1])) == []
    assert kinds(history([400.0], maps=[0])) == [COLLAPSE]
    patient = settings(early_stopping_patience=1)
    best_second = [400.0, 200.0, 300.0]
    assert kinds(history(best_second, maps=[0, 1, 0]), patient) == []
    assert kinds(history(best_second, maps=[1, 0, 1]), patient) == [COLLAPSE]


def test_both_at_once_and_nothing_of_nothing():
    assert kinds(history([400.0] * 3, maps=[0] * 3)) == [COLLAPSE, DEAD]
    assert kinds([]) == []


@pytest.mark.parametrize(
    ("what", "remedies"),
    [
        (WEIGHTED, ["training.kl_weight (it is 2)", "training.kl_warmup_epochs"]),
        (ELBO, ["training.beta (it is 3)"]),
        (
            settings(objective="elbo", kl_weight=None, decoder_variance=0.5),
            ["training.beta (it is 1)", "training.decoder_variance (it is 0.5)"],
        ),
    ],
)
def test_warnings_name_what_to_try_and_stay_the_same(what, remedies):
    records = history([400.0] * 5, maps=[0] * 5, objective=what.objective)
    collapse, dead = warnings_of(records, what, D)
    assert all(remedy in collapse for remedy in remedies)
    assert "training.learning_rate (it is 0.001)" in dead
    assert warnings_of(records[:3], what, D) == [collapse, dead]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    shape = (32, 32, 1)
    splits = {"train": 300, "valid": 50, "test": 10}
    images = {name: make_images(n, shape, seed=i) for i, (name, n) in enumerate(splits.items())}
    path = tmp_path_factory.mktemp("data") / "waves.h5"
    stores.write(path, images, {"dataset": "waves", "title": "Waves", "padding": 0})
    return path


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"kl_weight": 1e4, "epochs": 10, "dropout": 0.0}, [COLLAPSE]),
    ],
    ids=["healthy", "collapsed"],
)
def test_real_trainings(data, tmp_path, changes, expected):
    what = settings(**{"epochs": 3, "batch_size": 4, **changes})
    training.train(
        data,
        tmp_path / "run",
        what,
        Services(checkpoint_minutes=10, picture_epochs=0),
        variant="tiny",
        seed=0,
        code="c0de",
        device="running on the CPU with 1 thread",
        lock_folder=tmp_path,
        aside_folder=tmp_path / "aside",
    )
    assert kinds(read_history(tmp_path / "run"), what, 1024) == expected
