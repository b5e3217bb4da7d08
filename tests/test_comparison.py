"""The comparison figure shows the first samples of every run, with labels and caption."""

import h5py
import numpy as np
import pytest
from helpers import stores
from helpers.pictures import decoded, enlarged, noise, places

from svae.datasets.store import Store
from svae.errors import UserError
from svae.figures.grids import APART, GAP
from svae.jobs.files import write_json
from svae.report.draw_comparison import caption, draw, variant_rows, weight_and_rate

SHAPE = (16, 16, 3)
SCALE = 9  # of five columns of such images
ATTRIBUTES = {"dataset": "noise", "title": "Noise", "padding": 0, "split_rule": "none"}
VARIANTS = ["vanilla", "low_rank"]


def run_of(variant, seed, **changes):
    record = {
        "variant": variant,
        "seed": seed,
        "objective": "weighted",
        "kl_weight": 12288 / 576,
        "test": {"kl_nats_per_image": 9.83},
        "epochs_trained": 40,
        "weights_of_epoch": 40,
        "steps": 2520,
        "weights_sha256": f"{variant} {seed}",
    }
    return record | changes


def make(folder, seeds, columns, official=None, training_images=True):
    """Write a store and runs, and draw them; return training images, and samples by run."""
    splits = {"train": noise(9, SHAPE, 1), "valid": noise(3, SHAPE, 2), "test": noise(4, SHAPE, 3)}
    attributes = ATTRIBUTES | {"source_matches_official": official}
    checksum = stores.write(folder / "store.h5", splits, attributes)["checksum"]
    levels, records, samples = {}, [], []
    for index, (variant, seed) in enumerate((v, s) for v in VARIANTS for s in seeds):
        record = run_of(variant, seed)
        records.append(folder / f"{variant}-{seed}.json")
        samples.append(folder / f"{variant}-{seed}.h5")
        write_json(records[-1], record)
        levels[variant, seed] = noise(7, SHAPE, 10 + index)
        with h5py.File(samples[-1], "w") as file:
            file["samples"] = (levels[variant, seed] / 127.5 - 1).astype(np.float32)
            file.attrs["weights_sha256"] = record["weights_sha256"]
            file.attrs["dataset_checksum"] = checksum
    target = folder / "figure.png"
    draw(folder / "store.h5", VARIANTS, records, samples, columns, training_images, target)
    return splits["train"], levels


@pytest.mark.parametrize("seeds", [[0], [3, 1]], ids=str)
def test_the_figure(tmp_path, seeds):
    """The first training images, then the first samples, unchanged; rows of a variant are close,
    variants apart."""
    columns = 5
    training, levels = make(tmp_path, seeds, columns)
    picture = decoded(tmp_path / "figure.png")
    tops = []
    for row in (training, *levels.values()):
        found = [places(picture, enlarged(image, SCALE)) for image in row]
        assert [len(each) for each in found] == [1] * columns + [0] * (len(row) - columns)
        first = found[0][0]
        assert [each[0] for each in found[:columns]] == [
            (first[0], first[1] + SCALE * (SHAPE[1] + 1) * column) for column in range(columns)
        ]
        tops.append(first[0])
    gaps = [gap - SCALE * SHAPE[0] for gap in np.diff(tops)]
    assert gaps == ([APART, GAP] if len(seeds) == 1 else [APART, 5, APART, 5])


def test_the_figure_without_training_images(tmp_path):
    """Training images that may not be published appear nowhere in the figure."""
    columns = 3
    training, levels = make(tmp_path, [0], columns, training_images=False)
    picture = decoded(tmp_path / "figure.png")
    assert not any(places(picture, enlarged(image, SCALE)) for image in training)
    for row in levels.values():
        assert all(places(picture, enlarged(image, SCALE)) for image in row[:columns])


def test_samples_of_another_run_are_refused(tmp_path):
    make(tmp_path, [0], 2)
    record, samples = tmp_path / "vanilla-0.json", tmp_path / "vanilla-0.h5"
    for place, differs in ((record, "weights_sha256"), (tmp_path / "store.h5", "checksum")):
        if place == record:
            write_json(record, run_of("vanilla", 0, weights_sha256="other"))
        else:
            write_json(record, run_of("vanilla", 0))
            splits = {split: noise(3, SHAPE, 8) for split in ("train", "valid", "test")}
            stores.write(tmp_path / "store.h5", splits, ATTRIBUTES)
        with pytest.raises(UserError, match=f"another run .*{differs} differs"):
            draw(
                tmp_path / "store.h5", ["vanilla"], [record], [samples], 2, True, tmp_path / "x.png"
            )


def test_the_rows_of_a_variant():
    """The name and the numbers next to one seed; with several, the name next to the first."""
    images = noise(2, SHAPE)
    (row,) = variant_rows("mvn", [(run_of("mvn", 4), images)])
    assert (row.label, row.details) == ("mvn", ["w = 21.3, rate 9.8 nats"])
    other = run_of("mvn", 7, test={"kl_nats_per_image": 30.0})
    rows = variant_rows("mvn", [(run_of("mvn", 4), images), (other, images[::-1])])
    assert [row.label for row in rows] == ["mvn", ""]
    assert rows[0].details == ["seed 4", "w = 21.3, rate 9.8 nats"]
    assert rows[1].details == ["seed 7", "w = 21.3, rate 30.0 nats"]
    assert np.array_equal(rows[1].images, images[::-1])


@pytest.mark.parametrize(
    ("w", "shown"),
    [(192.0, "192"), (5 + 1 / 3, "5.33"), (12.25, "12.2"), (3072, "3,072"), (0.0357, "0.0357")],
)
def test_weight(w, shown):
    assert weight_and_rate(run_of("a", 0, kl_weight=w)) == f"w = {shown}, rate 9.8 nats"


COUNTS = {"train": 6317, "valid": 790, "test": 790}
FACES = {"title": "Faces", "counts": COUNTS, "source_matches_official": True}
WHAT = (
    "Top row: the first 10 of 6,317 training images of Faces. "
    "Below: the first 10 samples of each variant in the order drawn; none was chosen. "
)
RATE = "and the rate, the mean KL over 790 test images."
WEIGHT = "Next to each row: w, the KL weight in the objective SSE + w KL"


def caption_of(runs, attributes=FACES, images=10, samples=10):
    return caption(attributes, images, samples, runs).replace("\xa0", " ")


def test_caption():
    runs = [run_of(variant, 0) for variant in VARIANTS]
    expected = f"{WHAT}Trained with seed 0 for 40 epochs (2,520 steps). {WEIGHT}, {RATE}"
    assert caption_of(runs) == expected
    unknown = FACES | {"source_matches_official": None}
    assert caption_of(runs, unknown) == expected
    own = FACES | {"source_matches_official": False}
    assert caption_of(runs, own) == f"{expected} The source files are not the official ones."
    none = caption_of(runs, images=0)
    assert none.startswith("The first 10 samples of each variant in the order drawn; none was ")
    assert (
        "Trained with seed 0 for 40 epochs (2,520 steps), on 6,317 training images of Faces."
        in none
    )
    assert "Top row" not in none and "Below" not in none
    one = caption_of(runs, images=1, samples=1)
    assert "the first of 6,317 training images" in one and "the first sample of each variant" in one


def test_caption_with_a_fitted_prior():
    runs = [run_of("vanilla", 0)]
    plain, fitted = (caption(FACES, 10, 10, runs, prior) for prior in (None, "z from a mixture"))
    assert "Latents" not in plain
    assert fitted == plain.replace(WHAT, f"{WHAT}Latents of the samples: z from a mixture. ")
    assert fitted != plain


def test_caption_of_several_seeds():
    runs = [run_of(variant, seed) for variant in VARIANTS for seed in (0, 2)]
    text = caption_of(runs)
    assert "samples of each variant and seed in the order drawn" in text
    assert "Trained with seeds 0, 2 for 40 epochs (2,520 steps). " in text


def test_caption_of_trainings_of_different_length():
    short = {"epochs_trained": 1, "weights_of_epoch": 1, "steps": 1}
    stopped = {"epochs_trained": 30, "weights_of_epoch": 21, "steps": 1890}
    runs = [
        *(run_of("vanilla", 0), run_of("vanilla", 1)),
        *(run_of("naive", 0, **short), run_of("naive", 1, **short)),
        *(run_of("mvn", 0, **stopped), run_of("mvn", 1)),
    ]
    assert (
        "Trained with seeds 0, 1: vanilla, mvn (seed 1) for 40 epochs (2,520 steps); "
        "naive for 1 epoch (1 step); "
        "mvn (seed 0) for 30 epochs (1,890 steps), weights of epoch 21. "
    ) in caption_of(runs)


def test_caption_under_the_elbo():
    runs = [run_of("vanilla", 0), run_of("mvn", 0, objective="elbo")]
    assert f"{WEIGHT} or its equivalent under the ELBO, {RATE}" in caption_of(runs)


def test_the_caption_needs_only_the_attributes_of_a_store(tmp_path):
    make(tmp_path, [0], 3)
    with Store(tmp_path / "store.h5") as store:
        text = caption_of([run_of("mvn", 0)], store.attributes)
    assert "of 9 training images of Noise" in text and "over 4 test images" in text
