"""Learning rates compared with Keras' own schedule and with explicit values."""

import keras
import pytest

from svae.training.schedules import LearningRate, warmup


def test_warm_up_rises_linearly_to_one():
    assert [float(warmup(step, 4)) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    assert [float(warmup(step, 0)) for step in range(2)] == [1, 1]


@pytest.mark.parametrize("warmup_steps", [0, 3])
def test_constant(warmup_steps):
    rate = LearningRate(0.2, "constant", warmup_steps, 10)
    expected = [0.2 * min(1, (step + 1) / max(warmup_steps, 1)) for step in range(12)]
    assert [float(rate(step)) for step in range(12)] == pytest.approx(expected)


def test_cosine_equals_keras():
    ours, theirs = (
        LearningRate(0.2, "cosine", 0, 10),
        keras.optimizers.schedules.CosineDecay(0.2, 10),
    )
    assert [float(ours(step)) for step in range(14)] == pytest.approx(
        [float(theirs(step)) for step in range(14)], abs=1e-8
    )


def test_cosine_after_a_warm_up():
    rate = LearningRate(1.0, "cosine", 4, 8)
    found = [float(rate(step)) for step in range(9)]
    behind = [0.5 + 2**-0.5 / 2, 0.5, 0.5 - 2**-0.5 / 2, 0]
    assert found == pytest.approx([0.25, 0.5, 0.75, 1, 1, *behind], abs=1e-6)
