"""Image and latent sizes compared with a simulation of the networks, layer by layer."""

import pytest

from svae.errors import UserError
from svae.model.geometry import check, doublings, fitting_latent_sizes


def decoder_sides(d, stem, largest=300):
    """The image sides that a decoder reaches, with its count of 5x5 layers of stride 2."""
    side = d + 2 if stem else d  # 3x3 s1 VALID
    side = 2 * side  # 3x3 s2 SAME
    side = side + 2  # 3x3 s1 VALID
    sides, layers = {}, 0
    while side <= largest:
        side, layers = 2 * side, layers + 1  # 5x5 s2 SAME
        sides[side] = layers
    return sides


def encoder_takes(side):
    halved = -(-side // 2)  # 5x5 s2 SAME
    return -(-halved // 2) >= 5  # the same again, before 5x5 s2 VALID


@pytest.mark.parametrize("stem", [False, True])
def test_doublings_equal_those_of_the_layers(stem):
    for d in (1,) if stem else range(1, 40):
        sides = decoder_sides(d, stem)
        for image in range(1, 300):
            expected = sides.get(image) if encoder_takes(image) else None
            assert doublings(image, d, stem) == expected, (image, d)


@pytest.mark.parametrize(
    ("image", "sizes"),
    [
        (32, [1, 3, 7]),
        (64, [1, 3, 7, 15]),
        (24, [2, 5]),
        (128, [1, 3, 7, 15, 31]),
        (33, []),
        (8, []),
    ],
)
def test_fitting_latent_sizes(image, sizes):
    assert fitting_latent_sizes(image) == sizes
    for d in sizes:
        assert check(image, image, d, stem=False) == decoder_sides(d, stem=False)[image]


@pytest.mark.parametrize(("image", "k"), [(32, 2), (64, 3), (128, 4)])
def test_vanilla_fits(image, k):
    assert check(image, image, 1, stem=True) == k


@pytest.mark.parametrize("d", [0, -1])
def test_no_network_from_no_latent(d):
    assert doublings(32, d, stem=False) is None


def test_vanilla_latent_is_of_size_1():
    assert doublings(32, 3, stem=True) is None


@pytest.mark.parametrize(
    ("image", "d", "stem", "words"),
    [
        (32, 5, False, ["latent_size 5", "32x32", "fit: 1, 3, 7;", "vanilla fits"]),
        (64, 4, False, ["latent_size 4", "64x64", "fit: 1, 3, 7, 15;", "vanilla fits"]),
        (24, 1, True, ["vanilla latent (1)", "24x24", "fit: 2, 5;", "vanilla does not fit"]),
        (33, 3, False, ["33x33", "fit: none;", "vanilla does not fit"]),
    ],
)
def test_the_error_lists_sizes_that_fit(image, d, stem, words):
    with pytest.raises(UserError) as caught:
        check(image, image, d, stem)
    for word in words:
        assert word in str(caught.value)


def test_images_must_be_square():
    with pytest.raises(UserError, match=r"square.*32x64"):
        check(32, 64, 3, stem=False)
