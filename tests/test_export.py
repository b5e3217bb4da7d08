"""The folder of an exported run: PNG files, latents, a SavedModel; whole or not at all."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from helpers.builders import make_images
from helpers.refusals import check_one_line
from PIL import Image
from test_training import SHAPE, train

from svae.config.resolve import resolve
from svae.datasets.store import Store
from svae.datasets.store_writer import Writer
from svae.errors import UserError
from svae.sampling.prior import sample
from svae.scores.scored_images import scored_images
from svae.settings.export import ExportSettings
from svae.settings.sampling import SamplingSettings
from svae.use import export as module
from svae.use.export import export
from svae.use.own_images import own_images, recipe_of
from svae.use.trained_model import load

pytestmark = pytest.mark.slow

ATTRIBUTES = {"dataset": "waves", "title": "Waves", "padding": 0, "crop": None, "size": None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with a store, a run and its samples."""
    folder = tmp_path_factory.mktemp("export")
    splits = {
        name: make_images(n, SHAPE, seed=i)
        for i, (name, n) in enumerate({"train": 24, "valid": 6, "test": 130}.items())
    }
    with Writer(folder / "waves.h5") as writer:
        for split, images in splits.items():
            texts = [[f"{kind} {split} {i}" for i in range(len(images))] for kind in ("n", "l")]
            writer.append(split, images, *texts)
        writer.finish(ATTRIBUTES)
    train(folder / "waves.h5", folder / "seed-0")
    sample(folder / "seed-0", folder / "samples.h5", SamplingSettings(n_samples=120))
    return folder


def exported(made, target, samples="samples.h5", **settings):
    files = made / "waves.h5", made / "seed-0", made / samples
    export(*files, target, ExportSettings(**settings))
    return target


def pngs(folder):
    """The images of a folder in the order of their names, with these."""
    paths = sorted(folder.iterdir())
    return np.stack([np.asarray(Image.open(path)) for path in paths]), [p.name for p in paths]


def assert_bytes_of_samples(images, path):
    """The images are the first of a file, as bytes, but for another rounding of x.5."""
    with h5py.File(path) as file:
        x = file["samples"][: len(images), ..., 0].astype(np.float64)
    difference = np.abs(images - np.round(127.5 * (x + 1)))
    assert difference.max() <= 1 and (difference > 0).mean() < 1e-3


def refused(call, *parts):
    check_one_line(lambda _: call(), None, parts)


def write_pictures(folder):
    """Three images of the user in two folders, one of them of another size and in colour."""
    pictures = make_images(3, (32, 32, 1), seed=9)[..., 0]
    for name, image in (
        ("cats/Zoë <b>.png", Image.fromarray(pictures[0])),
        ("cats/old/2.png", Image.fromarray(pictures[1])),
        ("3.png", Image.fromarray(pictures[2]).resize((80, 64)).convert("RGB")),
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        image.save(folder / name)
    return pictures


def test_the_exported_images_are_those_of_samples_and_store(made, tmp_path):
    target = exported(made, tmp_path / "out")
    images, names = pngs(target / "samples")
    assert names == [f"{number:03d}.png" for number in range(120)]
    assert_bytes_of_samples(images, made / "samples.h5")
    images, _ = pngs(target / "test")
    with Store(made / "waves.h5") as store:
        np.testing.assert_array_equal(images, scored_images(store, "test", 120)[..., 0])
        with h5py.File(target / "latents.h5") as file:
            rows = file["test/numbers"][:]
            np.testing.assert_array_equal(images, store.images("test")[rows][..., 0])
            posterior = load(made / "seed-0").encode(images[..., None])
            np.testing.assert_allclose(file["test/mean"], posterior.mean, atol=1e-5)
            np.testing.assert_allclose(file["test/variance"], posterior.variance, rtol=1e-4)
            np.testing.assert_allclose(file["test/kl"], posterior.kl(), rtol=1e-3, atol=1e-5)
            for key, kind in (("names", "n"), ("labels", "l")):
                assert list(file["test"][key].asstr()) == [f"{kind} test {row}" for row in rows]
            assert set(file) == {"test"}
    record = json.loads((target / "export.json").read_text())
    assert record["variant"] == "tiny" and record["images"] == {"test": 120}
    assert record["samples"] == {"prior": "z ~ N(0, I)", "batch_norm": "moving"}
    assert (target / "saved_model/1/saved_model.pb").exists()
    assert {path.name for path in target.iterdir()} == {
        *("samples", "test", "latents.h5", "saved_model", "export.json")
    }
    assert list(tmp_path.iterdir()) == [target]


def test_latents_of_the_users_images(made, tmp_path):
    pictures = write_pictures(tmp_path / "own")
    target = exported(made, tmp_path / "out", n_images=5, images=str(tmp_path / "own"))
    assert len(pngs(target / "samples")[0]) == len(pngs(target / "test")[0]) == 5
    with h5py.File(target / "latents.h5") as file:
        group = file["images"]
        names, labels = group["names"].asstr()[:], group["labels"].asstr()[:]
        assert list(names) == ["3.png", "cats/Zoë <b>.png", "cats/old/2.png"]
        assert list(labels) == ["", "cats", "old"]
        expected = load(made / "seed-0").encode(pictures[:2, ..., None])
        np.testing.assert_allclose(group["mean"][1:], expected.mean, atol=1e-5)
        assert group["mean"].shape == (3, 3, 3, 4) and len(file["test/mean"]) == 5


def test_the_users_images_are_prepared_like_the_data_set(made, tmp_path):
    write_pictures(tmp_path)
    with Store(made / "waves.h5") as store:
        recipe = recipe_of(store)
        (block,) = own_images(tmp_path, recipe, store.shape)
    square = Image.open(tmp_path / "3.png").crop((8, 0, 72, 64)).convert("L")
    expected = np.asarray(square.resize((32, 32), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(block.images[0, ..., 0], expected)
    refused(
        lambda: list(own_images(tmp_path, replace(recipe, crop=None, size=None), store.shape)),
        "image 3.png cannot be used: 64x80 pixels after its preparation, but the model takes 32x32",
    )


def test_unusable_images_of_the_user_are_refused(made, tmp_path):
    def attempt():
        exported(made, tmp_path / "out", images=str(tmp_path / "own"))

    refused(attempt, "there is no such folder or archive")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/notes.txt").write_text("no image")
    refused(attempt, "contains no image", ".png")
    (tmp_path / "own/broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    refused(attempt, "image broken.png cannot be used")
    (tmp_path / "own/worse.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(UserError, match=r"2 images .* below.*\n  broken\.png, worse\.jpg: not"):
        attempt()
    assert [path.name for path in tmp_path.iterdir()] == ["own"]


def test_more_images_than_there_are_are_refused(made, tmp_path):
    refused(
        lambda: exported(made, tmp_path / "out", n_images=125),
        "export.n_images is 125, but there are 120 samples",
    )
    sample(made / "seed-0", made / "more.h5", SamplingSettings(n_samples=140))
    refused(
        lambda: exported(made, tmp_path / "out", samples="more.h5", n_images=131),
        "export.n_images is 131, but there are 130 test images",
    )


def test_samples_of_another_run_are_refused(made, tmp_path):
    train(made / "waves.h5", tmp_path / "other", seed=1)
    sample(tmp_path / "other", made / "other.h5", SamplingSettings(n_samples=120))
    refused(lambda: exported(made, tmp_path / "out", samples="other.h5"), "from another run")


def test_a_stopped_export_leaves_nothing(made, tmp_path, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(module, "write_json", fail)
    with pytest.raises(RuntimeError, match="broken"):
        exported(made, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_section_of_the_configuration(tmp_path):
    raw = {"dataset": "mnist_5k", "variants": {"a": {"posterior": "mvn"}}}
    assert resolve(raw, tmp_path).export == ExportSettings()
    own = {"n_images": 50, "images": "pictures"}
    check_one_line(
        lambda section: resolve({**raw, "export": section}, tmp_path),
        own,
        ["export.images is 'pictures', but there is no such folder or archive"],
    )
    (tmp_path / "pictures").mkdir()
    assert resolve({**raw, "export": own}, tmp_path).export == ExportSettings(**own)
    check_one_line(
        lambda section: resolve({**raw, "export": section}, tmp_path),
        {"n_images": 0},
        ["export.n_images is 0"],
    )
