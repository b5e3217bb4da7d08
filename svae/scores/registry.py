"""All scores: the modules of svae/scores/measures/, which nothing else lists.

Imported by the Snakefile: no numpy, no TensorFlow.
"""

import functools
import importlib
import pkgutil

from svae.scores import measures
from svae.scores.score import Score

# These stand first everywhere: what decides, then what the paper reports.
FIRST = ("objective", "parzen")


@functools.cache
def scores() -> dict[str, Score]:
    """Every score by its name: `FIRST`, then the others in alphabetical order.

    TypeError for a module that does not declare a score of its own name.
    """
    names = sorted(module.name for module in pkgutil.iter_modules(measures.__path__))
    found = {}
    for name in sorted(names, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST)):
        module = importlib.import_module(f"{measures.__name__}.{name}")
        score = getattr(module, "SCORE", None)
        if not isinstance(score, Score) or score.name != name:
            raise TypeError(f"{module.__file__} must have SCORE = Score(name={name!r}, ...)")
        found[name] = score
    return found
