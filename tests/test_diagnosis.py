"""Warnings about artificial histories and tiny trainings, and no false alarms."""

from dataclasses import replace

import pytest
from helpers import stores
from helpers.builders import make_images, settings
from helpers.histories import make_record

from svae.errors import UserError
from svae.jobs.files import read_json
from svae.scores.principal_components import fit
from svae.settings.services import Services, TensorBoardSettings
from svae.training import train as training
from svae.training.diagnosis import SATURATED_SHARE, WORSE, warnings_of, warnings_of_run
from svae.training.history import read_history

D = 1000
WEIGHTED = settings(epochs=99)
ELBO = settings(epochs=99, objective="elbo", kl_weight=None, decoder_variance="optimal", beta=3.0)


def history(losses, errors=None, maps=None, objective="weighted"):
    """One record per epoch: validation objective (lower is better), training error, active maps."""
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
        ([400.0, 395.9, 500.0, 500.0], []),  # it was better before
        ([400.0, 300.0, 250.0], []),
    ],
)
def test_a_dead_run_is_flat_from_the_start(losses, expected):
    assert kinds(history(losses)) == expected


@pytest.mark.parametrize("first", [-2000.0, 2.0, 2000.0])
@pytest.mark.parametrize(("gain", "expected"), [(4.9, [DEAD]), (5.1, [])])
def test_under_the_elbo_nats_are_compared(first, gain, expected):
    """1 % of the squared error is 0.005 nats per pixel, wherever the zero of the ELBO is."""
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
def test_noise_of_the_training_error_is_not_learning(errors, expected):
    assert kinds(history([400.0] * 4, errors)) == expected


def test_a_run_that_converges_within_an_epoch_is_not_dead():
    assert kinds(history([400.0] * 9, [330.0] + [300.0] * 8)) == []


def test_a_run_that_learns_under_a_growing_kl_is_not_dead():
    assert kinds(history([400.0, 420.0, 450.0, 430.0], [300.0, 200.0, 150.0, 120.0])) == []


@pytest.mark.parametrize(("warmup", "expected"), [(0.5, [DEAD]), (1.0, [DEAD]), (1.5, [])])
@pytest.mark.parametrize("key", ["learning_rate_warmup_epochs", "kl_warmup_epochs"])
def test_no_run_is_judged_during_a_warm_up(key, warmup, expected):
    what = settings(**{key: warmup})
    assert kinds(history([400.0] * 4), what) == expected


FALLING = [400.0, 300.0, 200.0]


def test_collapse_is_judged_by_the_weights_that_are_used():
    assert kinds(history(FALLING, maps=[3, 1, 0])) == [COLLAPSE]
    assert kinds(history(FALLING, maps=[0, 0, 1])) == []
    assert kinds(history([400.0], maps=[0])) == [COLLAPSE]
    best_second = [400.0, 200.0, 300.0]
    for taking_best in (settings(early_stopping_patience=1), settings(weights="best")):
        assert kinds(history(best_second, maps=[0, 1, 0]), taking_best) == []
        assert kinds(history(best_second, maps=[1, 0, 1]), taking_best) == [COLLAPSE]


def test_both_at_once_and_none_without_records():
    assert kinds(history([400.0] * 3, maps=[0] * 3)) == [COLLAPSE, DEAD]
    assert kinds([]) == []


@pytest.mark.parametrize(
    ("what", "remedies"),
    [
        (WEIGHTED, ["training.kl_weight (now 2)", "training.kl_warmup_epochs"]),
        (ELBO, ["training.beta (now 3)"]),
        (
            settings(objective="elbo", kl_weight=None, decoder_variance=0.5),
            ["training.beta (now 1)", "training.decoder_variance (now 0.5)"],
        ),
    ],
)
def test_warnings_name_remedies_and_stay_the_same(what, remedies):
    records = history([400.0] * 5, maps=[0] * 5, objective=what.objective)
    collapse, dead = warnings_of(records, what, D)
    assert all(remedy in collapse for remedy in remedies)
    assert "training.learning_rate (now 0.001)" in dead
    assert warnings_of(records[:3], what, D) == [collapse, dead]


# The end of a run


def ends(losses, **changes):
    """The kinds of warnings at the last epoch of a history with these validation objectives."""
    records = [
        record | {"valid_sse_per_image": loss, "valid_kl_nats_per_image": 0.0}
        for record, loss in zip(history(losses), losses, strict=True)
    ]
    return kinds(records, settings(epochs=len(losses), **changes))


def falling(tail):
    """Validation objectives of 20 epochs: they fall, then two are 200, then the last two follow."""
    return [*range(400, 240, -10), 200.0, 200.0, *tail]


NOT_CONVERGED = "not converged"


@pytest.mark.parametrize(
    ("losses", "expected"),
    [
        (falling([198.0, 197.9]), [NOT_CONVERGED]),
        (falling([198.2, 198.0]), []),  # less than 1 %
        (falling([190.0, 191.0]), []),  # not the best
        ([400.0, 300.0, 250.0, 200.0, 180.0], [NOT_CONVERGED]),
        ([400.0, 300.0, 250.0, 200.0], []),  # too few epochs to judge
    ],
)
def test_a_run_that_still_falls_has_not_converged(losses, expected):
    assert ends(losses) == expected


def test_only_the_last_epoch_is_judged():
    losses = falling([198.0, 197.0])
    records = history(losses)
    assert kinds(records, settings(epochs=len(losses) + 1)) == []  # not over, or early-stopped


def test_under_the_elbo_the_positive_sse_plus_w_kl_is_compared():
    """Negative ELBOs around 0, whose ratios are meaningless."""
    what = settings(epochs=6, **{"objective": "elbo", "kl_weight": None, "decoder_variance": 0.3})
    for sses, expected in [
        ([900, 800, 700, 700, 700, 690], []),
        ([900, 800, 700, 700, 690, 680], [NOT_CONVERGED]),
    ]:
        records = history([6.0, 3.0, 1.0, 0.5, 0.0, -0.5], objective="elbo")
        records = [
            record | {"valid_sse_per_image": sse, "valid_kl_nats_per_image": 0.0}
            for record, sse in zip(records, sses, strict=True)
        ]
        assert kinds(records, what) == expected


@pytest.mark.parametrize(("share", "expected"), [(0.99, []), (1.0, ["saturated pixels"])])
def test_saturated_pixels_during_training(share, expected):
    """In each of the last five epochs, because the first ones may have some."""
    records = history([400.0, 300.0, 250.0, 240.0, 235.0, 230.0])
    for record in records:
        record["valid_saturated_share"] = 1.0
    records[4]["valid_saturated_share"] = share * SATURATED_SHARE
    assert kinds(records) == expected
    assert kinds(records[:4]) == []


# The finished record

LINEAR = {
    "kl_weight": 2.0,
    "active_entries": 16,
    "kl_nats_per_image": 50.0,
    "sse_per_image": 300.0,
    "objective_sse_plus_w_kl": 400.0,
}


def make_run(linear=LINEAR, spikes=(), samples=0.0, **changes):
    """The part of run.json that warnings need; `changes`: to the terms of all splits."""
    terms = {
        "sse_per_image": 300.0,
        "kl_nats_per_image": 50.0,
        "kl_nats_median": 48.0,
        "kl_nats_largest": 99.0,
        "saturated_share": 0.0,
        "active_entries": 16,
        "latent_entries": 36,
        "active_maps": 4,
        "latent_maps": 4,
        **changes,
    }
    splits = dict.fromkeys(("train", "valid", "test"), terms)
    samples = {"n_samples": 1000, "saturated_share": samples}
    return {"dimension": D, "spikes": spikes, **splits, "samples": samples, "linear_vae": linear}


def of_run(run, what=WEIGHTED):
    return warnings_of_run(run, history([400.0, 300.0]), what)


def test_a_healthy_run_has_no_warnings():
    assert of_run(make_run()) == of_run(make_run(linear=None)) == []


@pytest.mark.parametrize(("times", "fires"), [(WORSE - 1e-6, False), (WORSE + 1e-6, True)])
def test_worse_than_pca(times, fires):
    run = make_run(sse_per_image=400 * times - 100)
    found = of_run(run)
    assert [text.split(":")[0] for text in found] == ["reconstructs worse than PCA"] * fires
    if fires:
        assert (
            "is 408 at w = 2, while a linear VAE" in found[0]
            and "training, reaches 400." in found[0]
        )
        assert "raise training.epochs (now 99), or set training.learning_rate_sche" in found[0]
        assert "compare with posterior vanilla at the same w" in found[0]
        vector, _ = of_run(run, settings(posterior="vanilla", learning_rate_schedule="cosine"))
        assert "schedule" not in vector and "compare" not in vector
    assert of_run({**run, "linear_vae": None}) == []


def test_worse_than_pca_because_of_few_images():
    (found,) = of_run(make_run(kl_nats_per_image=1e6, kl_nats_largest=3e8))
    assert "Few images dominate the KL (mean 1e+06 nats, median 48, largest 3e+08)" in found
    assert "training.learning_rate" in found and "training.epochs" not in found


@pytest.mark.parametrize(
    ("posterior", "maps", "entries", "linear", "fires"),
    [
        ("low_rank", 4, 8, 16, False),
        ("low_rank", 4, 7, 16, True),
        ("low_rank", 2, 18, 20, False),  # 5 degrees of freedom per map
        ("low_rank", 2, 18, 21, True),
        ("naive", 1, 9, 18, False),  # 9
        ("full_covariance", 1, 9, 19, True),
        ("mvn", 1, 9, 19, True),
        ("vanilla", 8, 8, 16, False),
        ("vanilla", 7, 7, 16, True),
        ("vanilla", 1, 1, 7, False),  # half of few entries gives no warning
        ("vanilla", 1, 1, 8, True),
        ("vanilla", 0, 0, 16, False),  # a posterior collapse, which has its own warning
    ],
)
def test_few_active_entries(posterior, maps, entries, linear, fires):
    run = make_run(LINEAR | {"active_entries": linear}, active_maps=maps, active_entries=entries)
    found = of_run(run, settings(posterior=posterior, initialization="data"))
    assert [text.split(":")[0] for text in found] == ["few active entries"] * fires


@pytest.mark.parametrize(("rank", "freedom"), [(1, 5), (2, 8), (3, 9)])
def test_degrees_of_freedom_of_a_mean_of_rank_r(rank, freedom):
    linear = LINEAR | {"active_entries": 2 * freedom + 1}
    (found,) = of_run(make_run(linear, active_maps=1, active_entries=9), settings(rank=rank))
    assert f"in 1 of 4 maps of {freedom} degrees of freedom" in found


def test_few_active_entries_name_the_remaining_remedies():
    run = make_run(active_entries=1, active_maps=1)
    (found,) = of_run(run)
    assert "1 of 36 entries, in 1 of 4 maps of 5 degrees of freedom" in found
    assert "a linear VAE at the same w has 16" in found
    assert "set model.low_rank_start ones, or set model.initialization data, or raise" in found
    (found,) = of_run(run, settings(initialization="data", low_rank_start="ones"))
    assert "low_rank_start" not in found and "initialization" not in found
    assert "training.epochs" in found and "training.kl_weight (now 2)" in found
    assert "warmup" not in found


@pytest.mark.parametrize("where", ["saturated_share", "samples"])
@pytest.mark.parametrize(("share", "fires"), [(0.99, False), (1.0, True)])
def test_saturated_pixels(where, share, fires):
    found = of_run(make_run(**{where: share * SATURATED_SHARE}))
    assert [text.split(":")[0] for text in found] == ["saturated pixels"] * fires
    if fires:
        shown = "1e-05 in samples"
        if where == "saturated_share":
            splits = ("validation", "test")
            shown = ", ".join(f"1e-05 in reconstructions of {split} images" for split in splits)
        assert f"(share of pixels: {shown})" in found[0]
        assert "training.saturation_penalty (now 0)" in found[0]
        assert "model.initialization data" in found[0]


SPIKE = {
    "split": "training",
    "objective": 4000.0,
    "best_before": 400.0,
    "term": "kl",
    "epoch": 7,
    "step": 170,
    "largest_loss": 9000.0,
    "kl_nats_median": 9.0,
    "kl_nats_largest": 99.0,
    "kl_largest_image": 3,
    "kl_largest_map": 2,
}
LOST = {"epoch": 8, "step": 190, "split": None, "rolled_back": True, "rate_factor": 0.25}


def test_every_spike_has_a_warning():
    spikes = [{**SPIKE, "rolled_back": True, "rate_factor": 0.5}, LOST]
    first, second = of_run(make_run(spikes=spikes))
    assert first.startswith("spike in epoch 7: SSE + w KL of the training images was 4000, 10")
    assert "back to the end of the previous epoch and continued with 0.5 times" in first
    assert second.startswith("spike in epoch 8: the loss was not finite at step 190.")
    (ignored,) = of_run(make_run(spikes=[{**SPIKE, "rolled_back": False}]))
    assert "training.on_spike is ignore" in ignored and "training.on_spike to rollback" in ignored


def test_a_warning_about_saturation_is_given_once():
    records = history([400.0, 300.0])
    records[-1]["valid_saturated_share"] = 1.0
    assert len(warnings_of_run(make_run(saturated_share=1.0), records, WEIGHTED)) == 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    shape = (32, 32, 1)
    splits = {"train": 300, "valid": 50, "test": 10}
    images = {name: make_images(n, shape, seed=i) for i, (name, n) in enumerate(splits.items())}
    path = tmp_path_factory.mktemp("data") / "waves.h5"
    stores.write(path, images, {"dataset": "waves", "title": "Waves", "padding": 0})
    return path


@pytest.mark.slow
def test_a_healthy_training(data, tmp_path):
    what = settings(epochs=3, batch_size=4, initialization="data", saturation_penalty=1.0)
    train(data, tmp_path, what)
    assert kinds(read_history(tmp_path / "run"), what, 1024) == []


@pytest.mark.slow
def test_a_training_that_collapses(data, tmp_path):
    what = settings(epochs=10, batch_size=4, kl_weight=1e4, dropout=0.0)
    train(data, tmp_path, what)
    assert COLLAPSE in kinds(read_history(tmp_path / "run"), what, 1024)


@pytest.mark.slow
def test_a_real_training_records_the_linear_vae(data, tmp_path, caplog):
    """One step of training is worse than PCA, and warns in its record and in its log."""
    spectrum = tmp_path / "spectrum.npz"
    fit(data).save(spectrum)
    train(data, tmp_path, settings(batch_size=300), spectrum=spectrum)
    run = read_json(tmp_path / "run" / "run.json")
    linear = run["linear_vae"]
    assert linear["kl_weight"] == 2.0
    expected = linear["sse_per_image"] + 2 * linear["kl_nats_per_image"]
    assert linear["objective_sse_plus_w_kl"] == pytest.approx(expected)
    (warning,) = [text for text in run["warnings"] if "worse than PCA" in text]
    assert f"warning: {warning}" in caplog.text


@pytest.mark.slow
def test_a_spectrum_of_other_images_is_refused_before_the_training(data, tmp_path):
    spectrum = tmp_path / "spectrum.npz"
    replace(fit(data), dataset_checksum="another").save(spectrum)
    with pytest.raises(UserError, match=r"spectrum\.npz belongs to other images"):
        train(data, tmp_path, settings(), spectrum=spectrum)
    assert not (tmp_path / "run" / "history.jsonl").exists()


def train(data, tmp_path, what, **keywords):
    training.train(
        data,
        tmp_path / "run",
        what,
        Services(tensorboard=TensorBoardSettings(picture_epochs=0)),
        variant="tiny",
        seed=0,
        code="c0de",
        device="running on the CPU with 1 thread",
        aside_folder=tmp_path / "aside",
        **keywords,
    )
