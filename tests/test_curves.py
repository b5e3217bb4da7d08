"""The picture of the training curves shows the values in run.json and history.jsonl."""

import json

import pytest
from helpers.histories import make_record

from svae.errors import UserError
from svae.jobs.files import write_json
from svae.report import draw_curves

D = 3072


def make_run(folder, records, objective="weighted", taken=None):
    folder.mkdir()
    (folder / "history.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    run = {
        "dataset": "waves",
        "seed": 3,
        "dimension": D,
        "objective": objective,
        "kl_weight": 2.0,
        "epochs_trained": len(records),
        "weights_of_epoch": taken or len(records),
    }
    write_json(folder / "run.json", run)
    return folder / "run.json"


@pytest.fixture
def drawn(monkeypatch):
    """The arguments that the drawing is called with."""
    calls = []
    monkeypatch.setattr(draw_curves, "training_curves", lambda *arguments: calls.append(arguments))
    monkeypatch.setattr(draw_curves, "save", lambda figure, target: calls.append(target))
    return calls


def test_values_and_their_axes(tmp_path, drawn):
    """Runs may have different lengths; objectives in different units have separate axes."""
    plain = [make_record(epoch) for epoch in range(1, 6)]
    elbo = [make_record(epoch, "elbo", decoder_variance=0.25) for epoch in range(1, 4)]
    paths = [
        make_run(tmp_path / "a", elbo, "elbo", taken=2),
        make_run(tmp_path / "b", plain),
    ]
    draw_curves.draw(["second", "first"], paths, "target.png")
    (panels, chosen, title), target = drawn
    assert (title, target) == ("waves: training of each variant (seed 3)", "target.png")
    assert chosen == {"second": 2}
    labels = ["second", "first (w = 2)"]
    assert list(panels) == [
        draw_curves.WEIGHTED,
        draw_curves.ELBO,
        draw_curves.MSE,
        draw_curves.KL,
        draw_curves.MAPS,
        draw_curves.RATE,
    ]
    assert list(panels[draw_curves.WEIGHTED].curves) == labels[1:]
    assert list(panels[draw_curves.ELBO].curves) == labels[:1]
    for axis in (draw_curves.MSE, draw_curves.KL, draw_curves.MAPS, draw_curves.RATE):
        assert list(panels[axis].curves) == labels
    weighted = panels[draw_curves.WEIGHTED].curves["first (w = 2)"]
    assert weighted["validation"] == [r["valid_objective_sse_plus_w_kl"] for r in plain]
    assert weighted["training"] == pytest.approx(
        [r["train_sse_per_image"] + 2 * r["train_kl_nats_per_image"] for r in plain]
    )
    bound = panels[draw_curves.ELBO].curves["second"]
    assert bound["validation"] == [-r["valid_elbo_nats_per_image"] for r in elbo]
    for label, records in zip(labels, (elbo, plain), strict=True):
        assert panels[draw_curves.MSE].curves[label]["training"] == pytest.approx(
            [r["train_sse_per_image"] / D for r in records]
        )
        for axis, kind, key in (
            (draw_curves.MSE, "validation", "valid_mse_per_pixel"),
            (draw_curves.KL, "training", "train_kl_nats_per_image"),
            (draw_curves.KL, "validation", "valid_kl_nats_per_image"),
            (draw_curves.MAPS, "validation", "valid_active_maps"),
            (draw_curves.RATE, "training", "learning_rate"),
        ):
            assert panels[axis].curves[label][kind] == [r[key] for r in records]


def test_one_objective_has_one_panel(tmp_path, drawn):
    paths = [make_run(tmp_path / name, [make_record(1), make_record(2)]) for name in "ab"]
    draw_curves.draw(["a", "b"], paths, "target.png")
    (panels, chosen, _), _ = drawn
    assert draw_curves.ELBO not in panels and len(panels) == 5
    assert chosen == {}


@pytest.mark.parametrize(("rates", "panel"), [([1, 1, 1], False), ([1, 1, 0.5], True)])
def test_a_constant_learning_rate_has_no_panel(rates, panel, tmp_path, drawn):
    records = [make_record(epoch) | {"learning_rate": rate} for epoch, rate in enumerate(rates, 1)]
    constant = [make_record(epoch) | {"learning_rate": 1} for epoch in (1, 2)]
    paths = [make_run(tmp_path / "a", records), make_run(tmp_path / "b", constant)]
    draw_curves.draw(["a", "b"], paths, "target.png")
    (panels, _, _), _ = drawn
    assert (draw_curves.RATE in panels) == panel


def test_a_run_without_its_history_is_an_error(tmp_path):
    path = make_run(tmp_path / "a", [make_record(1)])
    (tmp_path / "a/history.jsonl").unlink()
    with pytest.raises(UserError, match=r"history\.jsonl cannot be read"):
        draw_curves.draw(["a"], [path], tmp_path / "target.png")
    assert not (tmp_path / "target.png").exists()
