"""Which image sizes the networks reach from which latent sizes (no TensorFlow).

A spatial latent of d x d is doubled, grown by two and then doubled k times: (2d + 2) 2^k. The
vanilla stem takes 1 to 3 first, and 3 goes on as a spatial latent does: 8 2^k.
"""

from svae.errors import UserError

STEM_SIZE = 3
SMALLEST_IMAGE = 18  # below it the encoder's third convolution (5x5, VALID) has nothing to see


def doublings(image_size: int, latent_size: int, stem: bool) -> int | None:
    """The k >= 1 with image_size = (2d + 2) 2^k, or None; d is 3 behind the vanilla stem.

    `image_size` and `latent_size` in pixels of a side; `stem` for the vanilla posterior, which has
    latent_size 1.
    """
    if image_size < SMALLEST_IMAGE or latent_size < 1 or (stem and latent_size != 1):
        return None
    side, k = 2 * (STEM_SIZE if stem else latent_size) + 2, 0
    while side < image_size:
        side, k = 2 * side, k + 1
    return k if side == image_size and k >= 1 else None


def fitting_latent_sizes(image_size: int) -> list[int]:
    """All d that a spatial latent can have for square images of this side."""
    return [d for d in range(1, image_size) if doublings(image_size, d, stem=False) is not None]


def check(height: int, width: int, latent_size: int, stem: bool) -> int:
    """The number of doublings; UserError with the latent sizes that fit if there is none."""
    if height != width:
        raise UserError(f"the networks need square images, these are {height}x{width}")
    k = doublings(height, latent_size, stem)
    if k is not None:
        return k
    fitting = ", ".join(map(str, fitting_latent_sizes(height))) or "none"
    vanilla = "fits" if doublings(height, 1, stem=True) is not None else "does not fit"
    asked = "the vanilla latent (1)" if stem else f"latent_size {latent_size}"
    raise UserError(
        f"no network leads from {asked} to {height}x{width} images; "
        f"spatial latent sizes that fit: {fitting}; vanilla {vanilla}"
    )
