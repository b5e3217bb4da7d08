"""A history is read as it was written, and its objectives are those that a training reports."""

import json

import numpy as np
import pytest
from helpers.builders import ELBO, make_images, make_model
from helpers.histories import make_record
from scipy.stats import norm

from svae.errors import UserError
from svae.training.history import objectives, read_history
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
    """On the same images both are that of the evaluator: no warm-up, no beta."""
    model = make_model(**CHANGES[objective])
    evaluator = Evaluator(model)
    terms = evaluator(make_images(5))
    record = {
        "train_sse_per_image": terms["sse_per_image"],
        "train_kl_nats_per_image": terms["kl_nats_per_image"],
        "kl_weight": model.equivalent_weight(),
        "decoder_variance": model.decoder_variance(),
        **{f"valid_{name}": value for name, value in evaluator.objective(terms).items()},
    }
    found = objectives(record, model.dimension)
    assert found["train"] == pytest.approx(found["valid"], rel=1e-6)
    if objective == "elbo":
        error = np.sqrt(terms["sse_per_image"] / model.dimension)
        loss = -model.dimension * norm.logpdf(error, 0, 0.5) + terms["kl_nats_per_image"]
        assert found["train"] == pytest.approx(loss)
