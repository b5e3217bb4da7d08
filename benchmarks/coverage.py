"""What the intervals of svae.report.intervals hold, by simulation.

For 2, 3 and 5 seeds, 2 to 12 variants, equal and unequal spreads over seeds, with and without an
image error: how often the nominal 95 % interval of a comparison holds the true difference (mean
over the comparisons, and that of the worst one), how often any difference of 0 is called
established (nominal: at most 5 %), and half the width, median and mean, of the interval that
decides at Holm's first level. Every variant is compared with the first. Lengths are in standard
deviations of one run of the quietest variant. Writes docs/coverage.csv.
"""

import argparse
import csv
import time
from pathlib import Path

import numpy as np

from svae.report.intervals import ALPHA, half_width, holm, p_values, standard_errors

SPREADS = {
    "equal": lambda n: np.ones(n),
    "last twice": lambda n: np.r_[np.ones(n - 1), 2.0],
    "first twice": lambda n: np.r_[2.0, np.ones(n - 1)],
    "1 to 2": lambda n: np.geomspace(1.0, 2.0, n),
    "2 to 1": lambda n: np.geomspace(2.0, 1.0, n),
    "last three times": lambda n: np.r_[np.ones(n - 1), 3.0],
    "first three times": lambda n: np.r_[3.0, np.ones(n - 1)],
}
IMAGE_ERRORS = (0.0, 0.5, 1.5)  # of a difference, standard error
N_IMAGES = 10_000
BEYOND = {"spreads": np.r_[5.0, np.ones(11)], "n_seeds": 2}  # more than is held; only printed


def simulate(
    spreads: np.ndarray, n_seeds: int, image_error: float, rounds: int, rng: np.random.Generator
) -> dict[str, float]:
    """Of `rounds` studies without any true difference; spreads: (n_variants,), one per variant."""
    n = len(spreads)
    pairs = np.stack([np.arange(1, n), np.zeros(n - 1, int)], axis=1)
    means = spreads[:, None] * rng.standard_normal((rounds, n, n_seeds))
    # Each variant has an error over images, common to its seeds: half of a difference's variance.
    means += image_error / np.sqrt(2) * rng.standard_normal((rounds, n, 1))
    variance = image_error**2 * rng.chisquare(N_IMAGES - 1, (rounds, n - 1)) / (N_IMAGES - 1)
    difference = (means[:, pairs[:, 0]] - means[:, pairs[:, 1]]).mean(axis=-1)
    errors = standard_errors(means, pairs, variance, N_IMAGES)
    p = p_values(difference, errors)
    adjusted, _ = holm(p, n - 1)
    held = (p > ALPHA).mean(axis=0)
    half = half_width(errors, ALPHA / (n - 1))
    return {
        "coverage": held.mean(),
        "lowest_coverage": held.min(),
        "familywise_error": (adjusted <= ALPHA).any(axis=-1).mean(),
        "half_width": np.median(half),
        "mean_half_width": half.mean(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20_000, help="studies per line")
    parser.add_argument("--target", type=Path, default=Path("docs/coverage.csv"))
    options = parser.parse_args()
    start = time.perf_counter()
    rng = np.random.default_rng(1)
    rows = []
    for n_seeds in (2, 3, 5):
        for n_variants in (2, 3, 5, 8, 12):
            for name, spreads in SPREADS.items():
                for image_error in IMAGE_ERRORS:
                    found = simulate(spreads(n_variants), n_seeds, image_error, options.rounds, rng)
                    rows.append(
                        {
                            "seeds": n_seeds,
                            "variants": n_variants,
                            "spreads": name,
                            "image_error": image_error,
                            **{key: f"{value:.3f}" for key, value in found.items()},
                        }
                    )
    with options.target.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for name in SPREADS:
        chosen = [row for row in rows if row["spreads"] == name]
        coverage = [float(row["coverage"]) for row in chosen]
        print(
            f"{name}: coverage {min(coverage):.3f} to {max(coverage):.3f}, of a single comparison "
            f"at least {min(float(row['lowest_coverage']) for row in chosen):.3f}; familywise "
            f"error at most {max(float(row['familywise_error']) for row in chosen):.3f}"
        )
    found = simulate(BEYOND["spreads"], BEYOND["n_seeds"], 0.0, options.rounds, rng)
    print(
        f"beyond: {BEYOND['n_seeds']} seeds, {len(BEYOND['spreads'])} variants, first "
        f"{BEYOND['spreads'][0]:g} times: coverage {found['coverage']:.3f}, familywise error "
        f"{found['familywise_error']:.3f}"
    )
    print(f"{len(rows)} lines in {time.perf_counter() - start:.0f} s: {options.target}")


if __name__ == "__main__":
    main()
