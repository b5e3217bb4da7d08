"""Spikes: which epochs count as one, and what a training does after a provoked one."""

import math
from dataclasses import replace

import numpy as np
import pytest
from helpers.builders import ELBO
from helpers.histories import make_record
from test_training import TINY, make_store, same, train, weights

from svae.errors import UserError
from svae.jobs.files import read_json
from svae.training import loop, spikes
from svae.training.history import read_history
from svae.training.spikes import SETTLED, SPIKE, described, spike_of


def record(step, sse, kl, split="valid", **changes):
    return make_record(
        1,
        **{
            "step": step,
            **{
                f"{name}_{term}": value
                for name in ("train", "valid")
                for term, value in (
                    ("sse_per_image", sse if name == split else 100.0),
                    ("kl_nats_per_image", kl if name == split else 10.0),
                )
            },
            "kl_weight": 2.0,
            **changes,
        },
    )


@pytest.mark.parametrize("split", ["train", "valid"])
@pytest.mark.parametrize(
    ("sse", "kl", "expected"),
    [
        (100.0, 10.0, None),
        (0.99 * SPIKE * 120 - 20, 10.0, None),
        (1.01 * SPIKE * 120 - 20, 10.0, "sse"),
        (100.0, 0.505 * (SPIKE * 120 - 100) / 0.5 * 1.01, "kl"),
        (100.0, 6e19, "kl"),
    ],
)
def test_a_spike_is_far_above_the_best_before(split, sse, kl, expected):
    before = [record(SETTLED, 100.0, 10.0), record(SETTLED + 1, 500.0, 10.0)]
    found = spike_of(before, record(SETTLED + 2, sse, kl, split))
    assert (found and found["term"]) == expected
    if found:
        assert found["split"] == {"train": "training", "valid": "validation"}[split]
        assert found["best_before"] == 120.0
        assert found["objective"] == sse + 2 * kl


def test_epochs_before_the_statistics_settle_are_not_compared():
    late = record(SETTLED + 5, 1000.0, 10.0)
    assert spike_of([], late) is None
    assert spike_of([record(SETTLED - 1, 100.0, 10.0)], late) is None
    assert spike_of([record(SETTLED, 100.0, 10.0)], late) is not None


def test_a_changing_weight_is_not_a_spike():
    """Under the ELBO w falls with the variance: both epochs are judged at the later one's."""
    before = [record(SETTLED, 100.0, 10.0, kl_weight=1.0)]
    assert spike_of(before, record(SETTLED + 1, 90.0, 10.0, kl_weight=40.0)) is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("data") / "waves.h5")


@pytest.fixture
def tiny(monkeypatch):
    monkeypatch.setattr(spikes, "SETTLED", 0)
    return replace(TINY, epochs=4, kl_warmup_epochs=0.0)


def provoke(monkeypatch, epoch, factor, times=1):
    """At the end of this epoch's steps, multiply the encoder's last layer, this many times."""
    left, steps = [times], loop.Loop._steps

    def disturbed(self, step, batches, number):
        if factor is math.nan and number == epoch and left[0]:
            self.model.encoder.outputs.kernel.assign(self.model.encoder.outputs.kernel * factor)
            left[0] -= 1
        steps(self, step, batches, number)
        if number == epoch and left[0]:
            self.model.encoder.outputs.kernel.assign(self.model.encoder.outputs.kernel * factor)
            left[0] -= 1

    monkeypatch.setattr(loop.Loop, "_steps", disturbed)


@pytest.mark.slow
@pytest.mark.parametrize("factor", [20.0, math.nan], ids=["objective", "not finite"])
@pytest.mark.parametrize("objective", ["weighted", "elbo"])
def test_rollback_returns_to_the_previous_epoch_with_a_lower_rate(
    data,
    tiny,
    tmp_path,
    monkeypatch,
    caplog,
    factor,
    objective,
):
    changes = {**ELBO, "decoder_variance": "optimal"} if objective == "elbo" else {}
    what = replace(tiny, on_spike="rollback", **changes)
    provoke(monkeypatch, epoch=2, factor=factor)
    found = train(data, tmp_path / "run", what)
    (spike,) = found["spikes"]
    assert spike["epoch"] == 3 and spike["rolled_back"] and spike["rate_factor"] == 0.5
    assert 7 <= spike["step"] <= 9
    assert described(spike) in caplog.text
    lines = read_history(tmp_path / "run")
    assert [line["epoch"] for line in lines] == [1, 2, 3, 4]
    rates = [line["learning_rate"] / what.learning_rate for line in lines]
    assert rates == pytest.approx([1, 1, 0.5, 0.5])
    if factor == 20.0:
        assert spike["split"] == "validation" and spike["objective"] > 1.5 * spike["best_before"]
        assert spike["kl_nats_largest"] > spike["kl_nats_median"]
        assert 0 <= spike["kl_largest_image"] < 6 and 0 <= spike["kl_largest_map"] < 4
        for fact in ("epoch 3", "step", "image", "map", "median"):
            assert fact in described(spike)
    assert all(line["valid_sse_per_image"] < 1e4 for line in lines)


@pytest.mark.slow
def test_a_stop_after_a_rollback_loses_nothing_of_it(data, tiny, tmp_path, monkeypatch):
    what = replace(tiny, on_spike="rollback")
    with monkeypatch.context() as patch:
        provoke(patch, epoch=1, factor=20.0)
        whole = train(data, tmp_path / "whole", what)

    class Cut(Exception):
        pass

    def cut(self, spike):
        rolled_back(self, spike)
        raise Cut

    with monkeypatch.context() as patch:
        provoke(patch, epoch=1, factor=20.0)
        rolled_back = loop.Loop._roll_back
        patch.setattr(loop.Loop, "_roll_back", cut)
        with pytest.raises(Cut):
            train(data, tmp_path / "parts", what)
    parts = train(data, tmp_path / "parts", what)
    assert parts["spikes"] == whole["spikes"]
    assert same(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@pytest.mark.slow
def test_a_spike_in_the_first_epoch_returns_to_the_start(data, tiny, tmp_path, monkeypatch):
    provoke(monkeypatch, epoch=0, factor=math.nan)
    found = train(data, tmp_path / "run", replace(tiny, on_spike="rollback"))
    assert [spike["epoch"] for spike in found["spikes"]] == [1]
    assert len(read_history(tmp_path / "run")) == 4


@pytest.mark.slow
def test_one_rollback_too_many_ends_with_the_error(data, tiny, tmp_path, monkeypatch):
    provoke(monkeypatch, epoch=1, factor=math.nan, times=100)
    with pytest.raises(UserError, match=r"not finite .*training.learning_rate"):
        train(data, tmp_path / "run", replace(tiny, on_spike="rollback"))
    assert not (tmp_path / "run/run.json").exists()
    assert np.isfinite(read_history(tmp_path / "run")[0]["valid_sse_per_image"])


@pytest.mark.slow
def test_stop_names_epoch_step_term_map_image_and_checkpoint(data, tiny, tmp_path, monkeypatch):
    provoke(monkeypatch, epoch=2, factor=20.0)
    with pytest.raises(
        UserError,
        match=r"spike in epoch 3: .*KL; .*step [789]; .*\(image \d+, most of it in map \d\).*"
        r"checkpoint is .*step-000000006.npz.*training.learning_rate",
    ):
        train(data, tmp_path / "run", replace(tiny, on_spike="stop"))
    assert len(read_history(tmp_path / "run")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("taken", ["last", "best"])
def test_an_ignored_spike_is_recorded_and_the_best_weights_can_be_used(
    data,
    tiny,
    tmp_path,
    monkeypatch,
    caplog,
    taken,
):
    provoke(monkeypatch, epoch=3, factor=20.0)
    found = train(data, tmp_path / "run", replace(tiny, on_spike="ignore", weights=taken))
    (spike,) = found["spikes"]
    assert spike["epoch"] == 4 and not spike["rolled_back"]
    assert "warning: spike in epoch 4" in caplog.text
    assert found["best_epoch"] < 4
    assert found["weights_of_epoch"] == (4 if taken == "last" else found["best_epoch"])
    objective = read_json(tmp_path / "run/run.json")["valid"]["objective_sse_plus_w_kl"]
    assert (objective > 100 * spike["best_before"]) == (taken == "last")
