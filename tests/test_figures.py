"""The comparison figure shows each image where it belongs, as it is."""

import numpy as np
import pytest
from PIL import Image

from svae.figures import _strip, comparison


@pytest.mark.parametrize("channels", [1, 3])
def test_strip_holds_the_images_unstretched(channels):
    images = np.random.default_rng(0).uniform(-0.5, 0.25, (4, 6, 5, channels)).astype(np.float32)
    strip = _strip(images, columns=5).reshape(6, -1, channels)
    assert strip.shape == (6, 5 * 6 - 1, channels)
    for index, image in enumerate(images):
        np.testing.assert_allclose(strip[:, 6 * index : 6 * index + 5], (image + 1) / 2, atol=1e-6)
    assert np.all(strip[:, 5] == 1) and np.all(strip[:, 24:] == 1)


@pytest.mark.parametrize("columns", [1, 10])
@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (64, 64, 3)])
def test_every_pixel_is_where_it_belongs(tmp_path, shape, columns):
    """Each row's strip, enlarged by a whole number, stands in the image, rows in their order."""
    rng = np.random.default_rng(0)
    names = ["training images", "vanilla", "a_rather_long_name_of_a_variant"]
    rows = {name: rng.uniform(-1, 1, (columns, *shape)) for name in names}
    comparison(rows, "Noise: samples of each variant", tmp_path / "figure.png")
    image = np.asarray(Image.open(tmp_path / "figure.png").convert("RGB")).astype(int)
    strips = [_strip(images, columns) for images in rows.values()]
    scale = round(150 * columns / strips[0].shape[1])
    places = []
    for strip in strips:
        strip = strip if strip.ndim == 3 else strip[..., None].repeat(3, axis=-1)
        large = np.round(255 * strip).astype(int).repeat(scale, 0).repeat(scale, 1)
        left = image.shape[1] - 12 - large.shape[1]
        window = image[:, left : left + large.shape[1]]
        tops = range(len(image) - len(large) + 1)
        near = [top for top in tops if np.abs(window[top, ::7] - large[0, ::7]).max() <= 2]
        (top,) = [t for t in near if np.abs(window[t : t + len(large)] - large).max() <= 2]
        places.append(top)
        label = image[top : top + len(large), :left]
        assert label.min() < 100  # there is one,
        assert label[:, :4].min() > 250 and label[:, -4:].min() > 250  # whole
    assert places == sorted(places)


def test_the_same_arrays_give_the_same_file(tmp_path):
    rows = {"training images": np.random.default_rng(1).uniform(-1, 1, (3, 8, 8, 3))}
    for name in ("a.png", "b.png"):
        comparison(rows, "Noise", tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
