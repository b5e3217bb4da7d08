"""Checks of what users give to a trained model; each error says what to give instead."""

import operator
from typing import Any, TypeAlias

import h5py
import numpy as np

from svae.errors import UserError

Images: TypeAlias = np.ndarray | h5py.Dataset
"""uint8 (n, height, width, channel); read slice by slice."""

_BLOCK = 1000  # images


def checked_images(images: Any, shape: tuple[int, int, int], name: str = "images") -> Images:
    """Return `images` as an array, or as the open h5 data set that it is.

    `shape`: (height, width, channel) of the model's images. UserError unless they are one or more
    uint8 images of this shape, with values that use the range of a byte.
    """
    if not isinstance(images, h5py.Dataset):
        images = _as_array(images, name)
    if images.dtype != np.uint8:
        raise UserError(
            f"{name}: pixels must be uint8, from 0 to 255, but these are {images.dtype}"
            f"{_range(images)}; {_conversion(images)}"
        )
    wanted = ", ".join(map(str, shape))
    if images.ndim != 4 or images.shape[1:] != shape:
        raise UserError(
            f"{name}: the shape must be (n, {wanted}), which is (n, height, width, channel), but "
            f"is {tuple(images.shape)}; {_reshaping(images.shape, shape, name)}"
        )
    if not len(images):
        raise UserError(f"{name}: there are none; give at least one image")
    blocks = (images[start : start + _BLOCK] for start in range(0, len(images), _BLOCK))
    if _largest(blocks) == 1:
        raise UserError(
            f"{name}: all pixels are 0 or 1, but bytes range from 0 to 255; if 1 is white, "
            f"multiply by 255"
        )
    return images


def checked_latents(z: Any, shape: tuple[int, int, int], count: int | None = None) -> np.ndarray:
    """Return latents as float32 (n, d, d, N); `shape`: (d, d, N); `count`: n, if only one fits.

    UserError unless they are one or more latents of this shape, of finite real numbers.
    """
    z = _as_array(z, "z")
    if z.dtype.kind not in "fiu":
        raise UserError(f"z must be an array of real numbers, but it is of type {z.dtype}")
    if z.ndim != 4 or z.shape[1:] != shape or not len(z) or count not in (None, len(z)):
        wanted = ", ".join(map(str, ("n" if count is None else count, *shape)))
        raise UserError(
            f"z: the shape must be ({wanted}), which is (latents, d, d, maps)"
            f"{', with n at least 1' if count is None else ''}, but is {z.shape}"
        )
    with np.errstate(over="ignore"):  # becomes infinite, which is refused
        z = z.astype(np.float32)
    finite = np.isfinite(z).all(axis=(1, 2, 3))
    if not finite.all():
        raise UserError(
            f"z: latent {int(np.argmin(finite))} has entries that are NaN, infinite or too large "
            f"for float32; latents of this model are close to a standard normal distribution"
        )
    return z


def checked_whole(value: Any, name: str, least: int, most: int | None = None) -> int:
    """Return a whole number from `least` to `most`; UserError if it is not one."""
    bounds = f"at least {least}" if most is None else f"from {least} to {most}"
    try:
        number = operator.index(value)
    except TypeError:
        number = None
    if number is None or isinstance(value, bool) or number < least or (most or number) < number:
        raise UserError(f"{name} must be a whole number, {bounds}, not {value!r:.60}")
    return number


def checked_seed(value: Any) -> int:
    """Return a seed of svae.streams; UserError if it is not one."""
    return checked_whole(value, "seed", 0, 2**32 - 1)


def _as_array(values: Any, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:
        raise UserError(f"{name} cannot be read as one array of numbers ({error})") from None


def _largest(blocks: Any) -> int:
    """The largest pixel, or any pixel above 1."""
    largest = 0
    for block in blocks:
        largest = max(largest, int(block.max()))
        if largest > 1:
            break
    return largest


def _range(images: Images) -> str:
    """The range of the first pixels, for a message."""
    first = images[:_BLOCK] if images.ndim else np.empty(0)
    if not first.size or first.dtype.kind not in "fiu":
        return ""
    return f" from {first.min():.3g} to {first.max():.3g}"


def _conversion(images: Images) -> str:
    """How to make bytes of these values, as far as their range shows it."""
    first = images[:_BLOCK] if images.ndim else np.empty(0)
    if first.dtype.kind == "f" and first.size and np.isfinite(first).all():
        if first.min() >= 0 and first.max() <= 1:
            return "if 1 is white, give np.rint(255 * images).astype(np.uint8)"
        if first.min() >= -1 and first.max() <= 1:
            return (
                "if -1 is black and 1 is white, give np.rint(127.5 * (images + 1)).astype(np.uint8)"
            )
    return "if 255 is white, give np.rint(images).astype(np.uint8)"


def _reshaping(given: tuple[int, ...], shape: tuple[int, int, int], name: str) -> str:
    """What to do about images of another shape."""
    height, width, channels = shape
    if given == shape or (channels == 1 and given == shape[:2]):
        return f"for a single image, give {name}[None{', ..., None' * (len(given) == 2)}]"
    if channels == 1 and given[1:] == (height, width):
        return f"give {name}[..., None]"
    if given[1:] == (channels, height, width):
        return f"the channel must be the last axis: give {name}.transpose(0, 2, 3, 1)"
    return "crop and resize the images as those of the training were, see docs/data.md"
