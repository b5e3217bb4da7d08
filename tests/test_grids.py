"""Every picture of every variant stands in its row of the grids."""

import h5py
import numpy as np
import pytest
from pictures import decoded, enlarged, noise, places

from svae.grids import draw

SHAPE = (16, 16, 3)
ROWS, STEPS, COUNT = 2, 4, 5


def content(seed):
    def images(*counts, stream):
        found = noise(int(np.prod(counts)), SHAPE, 10 * seed + stream)
        return found.reshape(*counts, *SHAPE)

    return {
        "originals": noise(COUNT, SHAPE, 999),
        "interpolated": noise(2 * ROWS, SHAPE, 999).reshape(ROWS, 2, *SHAPE),
        "reconstructions": images(COUNT, stream=1),
        "interpolations": images(ROWS, STEPS, stream=2),
        "samples": images(12, stream=3),
        "neighbours": images(3, stream=4),
    }


@pytest.mark.parametrize("names", [["one"], ["vanilla", "a_variant_of_a_long_long_name"]])
def test_grids(tmp_path, names):
    runs = [content(index + 1) for index in range(len(names))]
    paths = []
    for name, run in zip(names, runs, strict=True):
        paths.append(tmp_path / f"{name}.h5")
        with h5py.File(paths[-1], "w") as file:
            for key, images in run.items():
                file[key] = images
            file["neighbour_distances"] = np.arange(3.0)
            file.attrs["title"] = "Noise"
    targets = [tmp_path / f"{name}.png" for name in ("r", "i", "n")]
    samples = [tmp_path / f"samples_{name}.png" for name in names]
    draw(names, paths, *targets, samples)

    def rows_of(path, rows):
        """Top of each row of images, which stand beside each other in it."""
        picture = decoded(path)
        scale = 9
        tops = []
        for row in rows:
            found = [place for image in row for place in places(picture, enlarged(image, scale))]
            assert len({top for top, _ in found}) == 1
            lefts = [left for _, left in found]
            assert np.all(np.diff(lefts) == scale * (SHAPE[1] + 1))
            tops.append(found[0][0])
        return tops

    tops = rows_of(targets[0], [runs[0]["originals"], *(run["reconstructions"] for run in runs)])
    assert tops == sorted(tops)
    tops = rows_of(targets[1], [steps for run in runs for steps in run["interpolations"]])
    assert tops == sorted(tops)
    pairs = [row for run in runs for row in (run["samples"][:3], run["neighbours"])]
    tops = rows_of(targets[2], pairs)
    assert tops == sorted(tops)
    for path, run in zip(samples, runs, strict=True):
        first, second = rows_of(path, [run["samples"][:8], run["samples"][8:]])
        assert first < second
    ends = decoded(targets[1])
    for left, right in runs[0]["interpolated"]:
        for image in (left, right):
            assert len(places(ends, enlarged(image, 9))) == len(names)
