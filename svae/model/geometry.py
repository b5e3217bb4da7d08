"""Image sizes that the networks can make from a latent size (no TensorFlow).

A spatial latent of d x d is doubled, enlarged by two and then doubled k times: (2d + 2) 2^k. The
vanilla stem first enlarges 1 to 3, which continues like a spatial latent: 8 2^k.
"""

from svae.errors import UserError

STEM_SIZE = 3
SMALLEST_IMAGE = 18  # smaller inputs are too small for the encoder's third convolution (5x5, VALID)


def doublings(image_size: int, latent_size: int, stem: bool) -> int | None:
    """Return the k >= 1 with image_size = (2d + 2) 2^k, or None; d is 3 after the vanilla stem.

    `image_size` and `latent_size`: side in pixels; `stem`: for the vanilla posterior, whose
    latent_size is 1.
    """
    if image_size < SMALLEST_IMAGE or latent_size < 1 or (stem and latent_size != 1):
        return None
    side, k = 2 * (STEM_SIZE if stem else latent_size) + 2, 0
    while side < image_size:
        side, k = 2 * side, k + 1
    return k if side == image_size and k >= 1 else None


def fitting_latent_sizes(image_size: int) -> list[int]:
    """Return all sizes d of a spatial latent for square images of this side."""
    return [d for d in range(1, image_size) if doublings(image_size, d, stem=False) is not None]


def check(height: int, width: int, latent_size: int, stem: bool) -> int:
    """Return the number of doublings; if there is none, a UserError lists fitting latent sizes."""
    if height != width:
        raise UserError(f"the networks need square images, but these are {height}x{width}")
    k = doublings(height, latent_size, stem)
    if k is not None:
        return k
    fitting = ", ".join(map(str, fitting_latent_sizes(height))) or "none"
    vanilla = "fits" if doublings(height, 1, stem=True) is not None else "does not fit"
    asked = "the vanilla latent (1)" if stem else f"latent_size {latent_size}"
    raise UserError(
        f"no network makes {height}x{width} images from {asked}; "
        f"spatial latent sizes that fit: {fitting}; vanilla {vanilla}"
    )
