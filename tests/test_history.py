"""A history is read as it was written, and its objectives are those that a training reports."""

import json

import numpy as np
import pytest
from helpers.builders import ELBO, make_images, make_model
from helpers.histories import make_record
from scipy.stats import norm

from svae.errors import UserError
from svae.training.history import best_epoch, objectives, read_history
from svae.training.terms import Evaluator


def test_reading(tmp_path):
    records = [make_record(1), make_record(2)]
    path = tmp_path / "history.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    assert read_history(tmp_path) == records


@pytest.mark.parametrize("content", [None, '{"epoch": 1}\n{"epo'])
def test_a_history_that_cannot_be_read(tmp_path, content):
    if content:
        (tmp_path / "history.jsonl").write_text(content)
    with pytest.raises(UserError, match=r"history\.jsonl cannot be read .*delete run\.json"):
        read_history(tmp_path)


CHANGES = {
    "weighted": {"kl_weight": 3.0, "kl_warmup_epochs": 9.0},
    "elbo": {**ELBO, "decoder_variance": 0.25, "beta": 4.0, "kl_warmup_epochs": 9.0},
}


@pytest.mark.parametrize("objective", CHANGES)
def test_training_and_validation_have_one_objective(objective):
    """On the same images both are the trained objective without warm-up."""
    model = make_model(**CHANGES[objective])
    record, terms = _record(model)
    found = objectives(record, model.dimension)
    assert found["train"] == pytest.approx(found["valid"], rel=1e-6)
    if objective == "elbo":
        error = np.sqrt(terms["sse_per_image"] / model.dimension)
        loss = -model.dimension * norm.logpdf(error, 0, 0.5) + 4.0 * terms["kl_nats_per_image"]
        assert found["train"] == pytest.approx(loss)
        minimised = model.objective(
            terms["sse_per_image"], terms["kl_nats_per_image"], model.log_variance
        )
        assert found["train"] == pytest.approx(float(minimised), rel=1e-5)


def _record(model):
    """The line of a history that an epoch on one set of images would leave, and its terms."""
    evaluator = Evaluator(model)
    terms = evaluator(make_images(5))
    record = {
        "train_sse_per_image": terms["sse_per_image"],
        "train_kl_nats_per_image": terms["kl_nats_per_image"],
        "kl_weight": model.equivalent_weight(),
        "decoder_variance": model.decoder_variance(),
        **{f"valid_{name}": value for name, value in terms.items()},
        **{f"valid_{name}": value for name, value in evaluator.objective(terms).items()},
    }
    return record, terms


def test_the_best_epoch_is_that_of_the_trained_objective():
    """With beta = 4 an epoch with a higher ELBO may be worse: it pays for its KL only once."""
    variance = 0.25
    shared = {"decoder_variance": variance, "kl_weight": 2 * variance * 4.0}
    first = make_record(1, "elbo", **shared)
    first |= {"valid_elbo_nats_per_image": -100.0, "valid_kl_nats_per_image": 10.0}
    second = {**first, "valid_elbo_nats_per_image": -95.0, "valid_kl_nats_per_image": 15.0}
    assert best_epoch([first, second], dimension=3072) == 1
    at_unit_beta = [{**record, "kl_weight": 2 * variance} for record in (first, second)]
    assert best_epoch(at_unit_beta, dimension=3072) == 2
