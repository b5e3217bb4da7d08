"""One image made ready for a store: decoded, turned upright, cropped, made opaque and resized.

Image files come from anywhere, so that whatever a decoder stumbles over becomes a BrokenImage.
"""

import io
import warnings
from dataclasses import dataclass

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from svae.datasets.readers import BrokenImage

# An image whose header promises more is refused before memory is set aside for its pixels. It is
# where Pillow begins to warn of decompression bombs: 256 MiB at 3 bytes a pixel, twice what a
# camera of 40 megapixels makes.
MOST_PIXELS = 89_478_485

_FORMATS = ("JPEG", "PNG", "WEBP")
# Where Pillow finds an orientation. Most images have none of these, and are spared the search.
_ORIENTED_BY = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
# What undoes each orientation of EXIF 2.32, section 4.6.4 A; 1 is upright.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# round(v / 257) for every 16-bit v: Pillow's own conversion clips at 255 instead.
_EIGHT_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)


@dataclass(frozen=True)
class Recipe:
    """What every image of a store is made into.

    Attributes:
        crop: side in pixels of the centred square to cut out, "square" for the largest one, or
            None to keep all.
        size: side in pixels that the square image is then resized to, or None.
        channels: 1 (grey) or 3 (red, green, blue).
    """

    crop: int | str | None
    size: int | None
    channels: int


def prepare(content: np.ndarray | bytes, recipe: Recipe) -> np.ndarray:
    """Make one image ready for a store.

    A file is turned upright as its EXIF data says (ignored where they are damaged), and shown over
    white where it is transparent; of an animation the first frame is taken; 16-bit samples are
    scaled to 8 bits; colour profiles are ignored. Colour becomes grey by the luminance of ITU-R
    BT.601, grey becomes colour by three equal channels. Resizing uses Pillow's antialiased Lanczos
    filter. The same content gives the same pixels every time.

    Args:
        content: uint8 (height, width, 1 or 3), or the bytes of a JPEG, PNG or WebP file.
        recipe: crop, size and channels to make.

    Returns:
        uint8 (height, width, channels), which may be read-only; `content` itself if it is an
        array to which nothing has to be done.

    Raises:
        BrokenImage: no JPEG, PNG or WebP file, one that is damaged or promises more than
            MOST_PIXELS, a crop that does not fit, or a size for an image that is not square.
    """
    if isinstance(content, bytes):
        image = _decode(content, recipe)
    elif (recipe.crop, recipe.size, recipe.channels) == (None, None, content.shape[2]):
        return content
    else:
        pixels = content[..., 0] if content.shape[2] == 1 else content
        image = _crop(Image.fromarray(pixels), recipe)
    mode = "L" if recipe.channels == 1 else "RGB"
    if image.mode != mode:
        image = image.convert(mode)
    if recipe.size is not None:
        image = image.resize((recipe.size, recipe.size), Image.Resampling.LANCZOS)
    return np.asarray(image).reshape(image.height, image.width, recipe.channels)


def _decode(content: bytes, recipe: Recipe) -> Image.Image:
    """A file's picture upright, cropped and opaque, in mode L, P, RGB or CMYK."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of what is refused below, and of metadata that nothing here reads.
            warnings.simplefilter("ignore")
            return _opaque(_crop(_load(content), recipe), content, recipe)
    except BrokenImage:
        raise
    except UnidentifiedImageError as error:
        raise BrokenImage("no JPEG, PNG or WebP file, or one with a damaged header") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(_TOO_LARGE) from error
    except Exception as error:  # hostile bytes reach nearly every `raise` of Pillow and of zlib
        problem = str(error) or type(error).__name__
        raise BrokenImage(f"damaged, and cannot be decoded ({problem})") from error


_TOO_LARGE = f"its header promises more than {MOST_PIXELS:,} pixels, the most that are decoded"


def _load(content: bytes, rawmode: str | None = None) -> Image.Image:
    """A file's picture upright; `rawmode` is Pillow's name for another layout of the samples."""
    image = Image.open(io.BytesIO(content), formats=_FORMATS)
    if image.width * image.height > MOST_PIXELS:
        raise BrokenImage(_TOO_LARGE)
    if image.format == "PNG":
        image.verify()  # `load` overlooks a wrong checksum of the pixels, and a missing end
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    if rawmode is not None:
        image.tile = [(*image.tile[0][:3], rawmode)]
    image.load()
    if _ORIENTED_BY.isdisjoint(image.info):
        return image
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # the picture is good, and EXIF's parser fails in as many ways as a decoder
        return image
    return image if turn is None else image.transpose(turn)


def _crop(image: Image.Image, recipe: Recipe) -> Image.Image:
    """The centred square of `recipe`; BrokenImage if it does not fit, or `size` would distort."""
    height, width = image.height, image.width
    if recipe.crop is not None:
        side = min(height, width) if recipe.crop == "square" else recipe.crop
        if not 1 <= side <= min(height, width):
            raise BrokenImage(
                f"conversion.crop {side} does not fit into {height}x{width} pixels; give 1 to "
                f'{min(height, width)}, or "square"'
            )
        top, left = (height - side) // 2, (width - side) // 2
        return image.crop((left, top, left + side, top + side))
    if recipe.size is not None and height != width:
        raise BrokenImage(
            f"conversion.size {recipe.size} would distort it, as its {height}x{width} pixels are "
            f'not square; give conversion.crop too: "square", or at most {min(height, width)}'
        )
    return image


def _opaque(image: Image.Image, content: bytes, recipe: Recipe) -> Image.Image:
    """The picture over white, in mode L, P, RGB or CMYK."""
    key = image.info.get("transparency")
    if image.mode in ("LA", "RGBA") or (image.mode == "P" and key is not None):
        if image.mode != "RGBA":
            image = image.convert("RGBA")
        white = Image.new("RGB", image.size, "white")
        white.paste(image, mask=image)
        return white
    if image.mode == "1":
        image = image.convert("L")
    if key is None and not image.mode.startswith("I"):
        return image
    samples = np.asarray(image)
    if samples.dtype != np.uint8:
        image = Image.fromarray(_EIGHT_BITS[samples])
    if key is not None:
        hidden = _equal(samples, key, content, recipe)
        image.paste("white", mask=Image.fromarray(hidden))
        image.info.pop("transparency", None)  # `convert` would look for it
    return image


def _equal(
    samples: np.ndarray, key: int | tuple[int, ...], content: bytes, recipe: Recipe
) -> np.ndarray:
    """Where a PNG without alpha has the one colour that its tRNS chunk makes transparent.

    Args:
        samples: what Pillow decodes, (height, width) or (height, width, 3).
        key: the colour as the chunk has it: in the depth of the file.
    """
    depth = content[24]  # IHDR is the first chunk of every PNG
    if depth == 16 and samples.dtype == np.uint8:
        # Pillow keeps the upper byte of each sample. Read as little-endian, the lower one is kept.
        lower = np.asarray(_crop(_load(content, "RGB;16L"), recipe))
        samples = samples.astype(np.uint16) << 8 | lower
    elif depth < 8:
        key *= 255 // ((1 << depth) - 1)  # as Pillow scales the samples, but not the key
    same = samples == np.array(key)
    return same if samples.ndim == 2 else same.all(axis=-1)
