"""How sigma is chosen, and the score by it, against slow references."""

import dataclasses

import h5py
import numpy as np
import pytest
import scipy.stats
from helpers.densities import brute_force, replaced

from svae.errors import UserError
from svae.pixels import bits_per_dim, scale
from svae.scores.parzen_window import (
    ParzenResult,
    at_edge,
    choose_sigma,
    refine_sigma,
    score,
    sigma_grid,
)

SIGMAS = sigma_grid()


def test_sigma_grid_is_that_of_the_field():
    assert SIGMAS[[0, 4, 9]] == pytest.approx([0.1, 0.27825594, 1.0])
    assert sigma_grid(-2, 1, 4) == pytest.approx([0.01, 0.1, 1, 10])


def test_bits_per_dim_of_the_uniform_density():
    """Uniform on the range of 0 .. 255: log2(255) bits for each byte, whatever the dimension."""
    for dimension in (1, 3072):
        uniform = dimension * np.log(1 / 2)
        assert bits_per_dim(uniform, dimension) == pytest.approx(np.log2(255))


@pytest.mark.parametrize(
    "means, sigmas, chosen",
    [
        ([1, 3, 2], [0.1, 0.2, 0.3], (0.2, False)),
        ([-9, -3, -1], [0.1, 0.2, 0.3], (0.3, True)),
        ([4, 3, 2], [0.1, 0.2, 0.3], (0.1, True)),
        ([4, 3, 2], [0.2, 0.1, 0.3], (0.2, False)),
        ([5], [0.2], (0.2, True)),
    ],
)
def test_choose_sigma(means, sigmas, chosen):
    sigma = choose_sigma(means, sigmas)
    assert (sigma, at_edge(sigma, sigmas)) == chosen


class TestRefineSigma:
    """On the curve of samples at one distance a from all images: -D ln sigma - a^2 / (2 sigma^2),
    whose maximum is sigma = a / sqrt(D)."""

    @staticmethod
    def curve(best, dimension, calls=None):
        def means(sigmas):
            if calls is not None:
                calls.append(len(sigmas))
            return -dimension * (np.log(sigmas) + 0.5 * (best / np.asarray(sigmas)) ** 2)

        return means

    @pytest.mark.parametrize("dimension", [784, 3072, 12288])
    @pytest.mark.parametrize("offset", [-0.12, -0.05, 0.0, 0.001, 0.1, 0.115])
    def test_the_gain_over_the_grid_is_d_delta_squared(self, dimension, offset):
        """The figures of docs/scores.md."""
        means, calls = self.curve(SIGMAS[5] * np.exp(offset), dimension), []
        grid = choose_sigma(means(SIGMAS), SIGMAS)
        counting = self.curve(SIGMAS[5] * np.exp(offset), dimension, calls)
        refined, height = refine_sigma(counting, SIGMAS, means(SIGMAS))
        assert height == pytest.approx(means(refined), abs=0.2)  # nats: the cubic term
        assert grid == SIGMAS[5] and len(calls) == 1
        gain, lost = (means(refined) - means(sigma) for sigma in (grid, grid * np.exp(offset)))
        assert abs(lost) < 0.01  # nats: the search is as good as exact
        # -D (ln s + exp(-2 ln s) / 2) around its maximum: the next term is 2/3 D delta^3
        delta = abs(offset)
        assert -0.01 < gain < dimension * delta**2 * (1 + delta) + 0.01
        assert gain > dimension * delta**2 * (1 - delta) - 0.01

    def test_three_equal_means_have_no_vertex(self):
        zero = refine_sigma(lambda sigmas: np.zeros(len(sigmas)), SIGMAS, [0] * 10)
        assert zero == (SIGMAS[0], 0)

        def flat_top(sigmas):
            return -np.maximum(np.abs(np.log(sigmas / SIGMAS[5])) - 0.05, 0)

        found, height = refine_sigma(flat_top, SIGMAS, [*range(6), *range(4, 0, -1)])
        assert height == pytest.approx(0, abs=1e-3)
        assert abs(np.log(found / SIGMAS[5])) < 0.08


@pytest.fixture
def splits():
    """Samples near zero; validation images like them; test images ten times as wide."""
    rng = np.random.default_rng(6)
    samples = rng.normal(0, 0.1, (60, 3, 2, 1))
    valid = rng.normal(0, 0.1, (45, 3, 2, 1))
    test = rng.normal(0, 1.0, (210, 3, 2, 1))
    return samples, valid, test


def scored(splits, protocol="disjoint", sigmas=SIGMAS, n_valid=20, n_test=50, refine=False):
    return score(*splits, sigmas, protocol, n_valid, n_test, refine=refine)


def same(a: ParzenResult, b: ParzenResult):
    a, b = dataclasses.asdict(a), dataclasses.asdict(b)
    arrays = ("per_image", "grid_per_image")
    return all(np.array_equal(a.pop(name), b.pop(name)) for name in arrays) and a == b


class TestScore:
    def test_fields(self, splits):
        samples, _, test = splits
        result = scored(splits)
        assert result.protocol == "disjoint"
        assert (result.n_samples, result.n_valid, result.n_test) == (60, 20, 50)
        assert result.dimension == 6
        assert result.sigma_grid == tuple(SIGMAS)
        per_image = brute_force(test[:50], samples, [result.sigma])[0]
        assert result.per_image.dtype == np.float64
        np.testing.assert_allclose(result.per_image, per_image, atol=1e-9, rtol=0)
        assert result.log_likelihood == pytest.approx(per_image.mean())
        assert result.standard_error == pytest.approx(scipy.stats.sem(per_image))
        assert result.bits_per_dim == bits_per_dim(result.log_likelihood, 6)

    def test_disjoint_chooses_on_the_validation_images(self, splits):
        samples, valid, test = splits
        result = scored(splits)
        means = brute_force(valid[:20], samples, SIGMAS).mean(axis=1)
        np.testing.assert_allclose(result.validation_log_likelihood, means, atol=1e-9, rtol=0)
        assert result.sigma == SIGMAS[means.argmax()]
        on_test = SIGMAS[brute_force(test[:50], samples, SIGMAS).mean(axis=1).argmax()]
        assert on_test > 3 * result.sigma

    def test_disjoint_sigma_does_not_depend_on_test_images(self, splits):
        samples, valid, test = splits
        result = scored(splits)
        for other in (test[::-1], test * 0.1, test + 5):
            changed = scored((samples, valid, other))
            assert changed.sigma == result.sigma
            assert changed.validation_log_likelihood == result.validation_log_likelihood
            assert changed.log_likelihood != result.log_likelihood

    def test_paper_scores_the_kth_sigma_on_the_kth_block_of_test_images(self, splits):
        samples, _, test = splits
        result = scored(splits, "paper")
        means, position = [], 0
        for sigma in SIGMAS:
            batch = test[position : position + 20]
            position += 20
            means.append(brute_force(batch, samples, [sigma]).mean())
        np.testing.assert_allclose(result.validation_log_likelihood, means, atol=1e-9, rtol=0)
        assert result.sigma == SIGMAS[np.argmax(means)]
        final = brute_force(test[:50], samples, [result.sigma])
        assert result.log_likelihood == pytest.approx(final.mean())
        assert result.sigma != scored(splits).sigma

    def test_paper_does_not_use_the_validation_split(self, splits):
        samples, valid, test = splits
        assert same(scored(splits, "paper"), scored((samples, valid[:0], test), "paper"))

    @pytest.mark.parametrize("protocol, used", [("disjoint", 50), ("paper", 200)])
    def test_only_the_first_images_count(self, splits, protocol, used):
        samples, valid, test = splits
        cut = scored((samples, valid[:20], test[:used]), protocol)
        assert same(scored(splits, protocol), cut)

    def test_paper_may_score_more_images_than_the_blocks_hold(self, splits):
        result = scored(splits, "paper", n_valid=2, n_test=210)
        assert result.per_image.shape == (210,)

    @pytest.mark.parametrize("protocol", ["disjoint", "paper"])
    def test_h5_datasets(self, splits, protocol, tmp_path):
        with h5py.File(tmp_path / "all.h5", "w") as file:
            stored = [file.create_dataset(str(i), data=array) for i, array in enumerate(splits)]
            assert same(scored(stored, protocol), scored(splits, protocol))

    @pytest.mark.parametrize(
        "sigmas, edge",
        [([0.01, 0.1, 1.0], False), ([0.01, 0.1], True), ([0.1, 1.0], True), ([0.1], True)],
    )
    def test_sigma_at_grid_edge(self, splits, sigmas, edge):
        result = scored(splits, sigmas=sigmas)
        assert result.sigma == 0.1
        assert result.sigma_at_grid_edge is edge

    @pytest.mark.parametrize("protocol", ["disjoint", "paper"])
    def test_the_grid_by_itself_is_not_refined(self, splits, protocol):
        result = scored(splits, protocol)
        assert result.refined is False and result.grid_sigma == result.sigma
        assert result.grid_log_likelihood == result.log_likelihood
        assert result.grid_standard_error == result.standard_error
        np.testing.assert_array_equal(result.grid_per_image, result.per_image)

    @pytest.mark.parametrize("order", [1, -1])
    def test_refine_finds_the_best_between_the_neighbours(self, splits, order):
        samples, valid, test = splits
        sigmas = np.logspace(-2, 0, 11)
        plain = scored(splits, sigmas=sigmas)
        result = scored(splits, sigmas=sigmas[::order], refine=True)
        place = list(sigmas).index(plain.sigma)
        dense = np.geomspace(sigmas[place - 1], sigmas[place + 1], 801)
        means = brute_force(valid[:20], samples, dense).mean(axis=1)
        assert result.sigma == pytest.approx(dense[means.argmax()], rel=3e-3)
        assert result.refined and result.grid_sigma == plain.sigma != result.sigma
        at_sigma = brute_force(valid[:20], samples, [result.sigma]).mean()
        assert result.validation_log_likelihood_at_sigma == pytest.approx(at_sigma, abs=1e-3)
        highest = max(plain.validation_log_likelihood)
        assert plain.validation_log_likelihood_at_sigma == pytest.approx(highest)
        expected = plain.validation_log_likelihood[::order]
        assert result.validation_log_likelihood == pytest.approx(expected, abs=1e-9)
        by_both = brute_force(test[:50], samples, [result.sigma, plain.sigma])
        np.testing.assert_allclose(result.per_image, by_both[0], atol=1e-9)
        np.testing.assert_allclose(result.grid_per_image, by_both[1], atol=1e-9)
        assert result.grid_log_likelihood == pytest.approx(plain.log_likelihood, abs=1e-9)
        assert result.grid_standard_error == pytest.approx(plain.standard_error, abs=1e-9)

    @pytest.mark.parametrize(
        "sigmas, low, high",
        [([0.01, 0.1], 0.01, 0.1), ([0.2, 0.4, 0.8], 0.2, 0.4), ([0.01, 0.03, 0.05], 0.03, 0.05)],
    )
    def test_refine_stays_inside_the_grid(self, splits, sigmas, low, high):
        result = scored(splits, sigmas=sigmas, refine=True)
        assert low <= result.sigma <= high
        assert result.sigma_at_grid_edge is (result.sigma in (min(sigmas), max(sigmas)))

    def test_an_edge_of_the_grid_that_the_search_leaves_is_none(self, splits):
        plain, result = (scored(splits, sigmas=[0.01, 0.1], refine=on) for on in (False, True))
        assert plain.sigma == 0.1 and plain.sigma_at_grid_edge
        assert 0.05 < result.sigma < 0.1 and not result.sigma_at_grid_edge

    def test_nothing_to_refine_in_a_grid_of_one(self, splits):
        result = scored(splits, sigmas=[0.1], refine=True)
        assert result.sigma == result.grid_sigma == 0.1 and result.sigma_at_grid_edge

    def test_refine_never_scores_worse_on_the_validation_images(self, splits):
        samples, valid, _ = splits
        for sigmas in (SIGMAS, [0.03, 0.3, 3.0]):
            result = scored(splits, sigmas=sigmas, refine=True)
            found = brute_force(valid[:20], samples, [result.sigma]).mean()
            assert found >= max(result.validation_log_likelihood) - 1e-9

    @pytest.mark.parametrize("noise", [0.11, 0.13, 0.15, 0.17])
    def test_refined_exceeds_the_grid_by_at_most_d_delta_squared(self, noise):
        """Images of 768 pixels around samples that are far apart; the bound is for validation and
        test images alike, within their difference."""
        rng = np.random.default_rng(3)
        samples = rng.uniform(-1, 1, (40, 16, 16, 3))
        valid, test = (
            samples[rng.integers(40, size=n)] + rng.normal(0, noise, (n, 16, 16, 3))
            for n in (60, 100)
        )
        result = scored((samples, valid, test), n_valid=60, n_test=100, refine=True)
        delta = np.log(result.sigma / result.grid_sigma)
        assert 0.005 < abs(delta) < 0.13
        on_valid = brute_force(valid, samples, [result.sigma, result.grid_sigma]).mean(axis=1)
        for gain in (
            on_valid[0] - on_valid[1],
            result.log_likelihood - result.grid_log_likelihood,
        ):
            assert 0 < gain < 768 * delta**2 * 1.25

    def test_paper_refuses_to_refine(self, splits):
        with pytest.raises(UserError, match=r"parzen\.refine"):
            scored(splits, "paper", refine=True)

    def test_bytes_score_as_their_scaled_floats(self, splits):
        rng = np.random.default_rng(9)
        valid, test = (rng.integers(0, 256, (n, 3, 2, 1), np.uint8) for n in (20, 50))
        bytes_, floats = (
            scored((splits[0], *images)) for images in ((valid, test), (scale(valid), scale(test)))
        )
        assert same(bytes_, floats)

    @pytest.mark.parametrize(
        "protocol, n_valid, n_test, words",
        [
            ("disjoint", 46, 50, ["parzen.n_valid", "`valid`", "46", "45", "at most 45,"]),
            ("disjoint", 20, 211, ["parzen.n_test", "`test`", "211", "210", "at most 210,"]),
            ("paper", 20, 211, ["parzen.n_test", "`test`", "211", "at most 210,"]),
            ("paper", 22, 50, ["parzen.n_valid", "`test`", "10 blocks of 22", "at most 21,"]),
            ("disjoint", 0, 50, ["parzen.n_valid", "at least 1"]),
            ("disjoint", 20, 1, ["parzen.n_test", "at least 2"]),
            ("papers", 20, 50, ["parzen.protocol", "papers", "disjoint", "paper"]),
        ],
    )
    def test_refuses_settings(self, splits, protocol, n_valid, n_test, words):
        with pytest.raises(UserError) as error:
            scored(splits, protocol, n_valid=n_valid, n_test=n_test)
        assert all(word in str(error.value) for word in words), error.value

    @pytest.mark.parametrize("protocol", ["disjoint", "paper"])
    @pytest.mark.parametrize(
        "spoil, words",
        [
            (lambda samples: samples[:0], ["there are none"]),
            (lambda samples: samples[:, :2], ["(2, 2, 1)", "(3, 2, 1)"]),
            (lambda samples: samples.reshape(-1, 6), ["(6,)", "(3, 2, 1)"]),
            (np.uint8, ["uint8", "127.5"]),
            (lambda samples: replaced(samples, 59, np.nan), ["number 59", "NaN"]),
            (lambda samples: replaced(samples, 3, -np.inf), ["number 3", "infinite"]),
        ],
        ids=["none", "shape", "flat", "bytes", "nan", "inf"],
    )
    def test_refuses_samples(self, splits, protocol, spoil, words):
        samples, valid, test = splits
        with pytest.raises(UserError) as error:
            scored((spoil(samples), valid, test), protocol)
        message = str(error.value)
        assert message.startswith("samples") and all(word in message for word in words), message

    @pytest.mark.parametrize("row", [0, 7])
    def test_refuses_images_that_are_not_finite(self, splits, row):
        samples, valid, test = splits
        with pytest.raises(UserError, match=f"images: number {row}"):
            scored((samples, valid, replaced(test, row, np.nan)))
