"""J and the ELBO of single images against scipy; those of a run: test_scores_of_a_run.py."""

import numpy as np
import scipy.stats

from svae.model import objectives
from svae.scores import image_terms


def test_elbo_is_a_gaussian_log_density_less_the_kl():
    x, mean = np.random.default_rng(0).uniform(-1, 1, (2, 5, 48))
    kl, variance = np.arange(5.0), 0.3
    sse = np.square(x - mean).sum(axis=1)
    expected = scipy.stats.norm.logpdf(x, mean, np.sqrt(variance)).sum(axis=1) - kl
    np.testing.assert_allclose(image_terms.elbo(sse, kl, variance, 48), expected, rtol=1e-12)


def test_j_over_w_is_the_negative_elbo_at_half_w_up_to_a_constant():
    sse, kl = np.random.default_rng(1).uniform(1, 50, (2, 7))
    j = objectives.weighted(sse, kl, 2.5)
    sums = j / 2.5 + image_terms.elbo(sse, kl, 1.25, 48)
    assert np.ptp(sums) < 1e-12 * abs(sums[0])
