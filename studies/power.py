"""The smallest difference that docs/study.md can find with 80 % power, under "Power".

    python studies/power.py

In standard deviations of a difference over seeds, at 5 % by Holm over four contrasts, that is at
1.25 % for the first. The variance is pooled over six variants, after a common effect of each seed,
or that of one pair.
"""

import math

from scipy import integrate, optimize, stats

LEVEL, POWER, VARIANTS = 0.05 / 4, 0.8, 6


def power(difference: float, seeds: int, freedom: int) -> float:
    """The power of a two-sided t-test of a mean over seeds."""
    critical, mean = stats.t.ppf(1 - LEVEL / 2, freedom), difference * math.sqrt(seeds)

    def density(estimate: float) -> float:
        bound = critical * estimate
        found = stats.norm.sf(bound - mean) + stats.norm.cdf(-bound - mean)
        return found * stats.chi.pdf(estimate * math.sqrt(freedom), freedom) * math.sqrt(freedom)

    return integrate.quad(density, 0, math.inf)[0]


def main() -> None:
    for seeds in (3, 5):
        for name, freedom in (
            ("pooled", (VARIANTS - 1) * (seeds - 1)),
            ("paired", seeds - 1),
        ):
            found = optimize.brentq(lambda d, s=seeds, f=freedom: power(d, s, f) - POWER, 0.1, 30)
            print(f"{seeds} seeds, {name}: {found:.1f}")


if __name__ == "__main__":
    main()
