"""Preparation of one image for a store: decode, turn upright, crop, make opaque and resize.

Image files are untrusted, so every failure of a decoder becomes a BrokenImage.
"""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from svae.datasets.readers import BrokenImage

# An image whose header declares more is refused before memory is allocated for its pixels. This is
# where Pillow starts to warn about decompression bombs: 256 MiB at 3 bytes per pixel, twice the
# size of a picture from a 40-megapixel camera.
MOST_PIXELS = 89_478_485
# Of pictures with more, which take up to 1.4 GB, one at a time is prepared. Those of most cameras
# have less, and occupy all workers.
LARGE = 25_000_000

# Those that Pillow itself decodes, without the help of another program.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF")
NAMES = "JPEG, PNG, WebP, TIFF, BMP, GIF, PNM or AVIF"
HEIC_SUFFIXES = (".heic", ".heif")
# How to make a file of another format readable.
CONVERT_HEIC = "convert HEIC files with ImageMagick: mogrify -format jpg *.heic"
_HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_PNG = b"\x89PNG"
# Where Pillow looks for an orientation. Most images have none of these and skip the search.
_ORIENTED_BY = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
# The inverse of each orientation in EXIF 2.32, section 4.6.4 A; 1 is upright.
_UPRIGHT: dict[Any, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# round(v / 257) for every 16-bit v; Pillow's own conversion clips at 255 instead.
_EIGHT_BITS = ((np.arange(1 << 16) + 128) // 257).astype(np.uint8)


@dataclass(frozen=True)
class Recipe:
    """How every image of a store is prepared.

    Attributes:
        crop: side in pixels of the centre crop, "square" for the largest one, or None for no crop.
        size: side in pixels to which the square image is then resized, or None.
        channels: 1 (grey) or 3 (red, green, blue).
    """

    crop: int | Literal["square"] | None
    size: int | None
    channels: int


Alone = Callable[[], contextlib.AbstractContextManager]


def prepare(
    content: np.ndarray | bytes, recipe: Recipe, alone: Alone = contextlib.nullcontext
) -> np.ndarray:
    """Prepare one image for a store.

    A file is turned upright by its EXIF orientation (ignored if damaged), and transparent pixels
    are composited on white; only the first frame or page of a file is used; 16-bit samples are
    scaled to 8 bits; colour profiles are ignored. Colour becomes grey by the luminance of ITU-R
    BT.601, grey becomes colour by three equal channels. Resizing uses Pillow's antialiased Lanczos
    filter. The same content always gives the same pixels.

    Args:
        content: uint8 (height, width, 1 or 3), or the bytes of a file of one of FORMATS.
        recipe: crop, size and channels of the result.
        alone: entered for a picture of more than LARGE pixels, which takes much memory.

    Returns:
        uint8 (height, width, channels), possibly read-only; `content` itself if it is an array
        that needs no change.

    Raises:
        BrokenImage: if the content is not a file of these formats, is damaged or declares more
            than MOST_PIXELS, if its samples have no known scale (as floats of a TIFF file), if the
            crop does not fit, or if a size is set for an image that is not square.
    """
    with contextlib.ExitStack() as stack:
        return _prepared(content, recipe, lambda: stack.enter_context(alone()))


def _prepared(
    content: np.ndarray | bytes, recipe: Recipe, large: Callable[[], object]
) -> np.ndarray:
    if isinstance(content, bytes):
        image = _decode(content, recipe, large)
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


def _decode(content: bytes, recipe: Recipe, large: Callable[[], object]) -> Image.Image:
    """A file's picture upright, cropped and opaque, in mode L, P, RGB, YCbCr or CMYK; `large` is
    called before the pixels of a large one are decoded."""
    try:
        with warnings.catch_warnings():
            # Pillow warns about what is refused below, and about metadata that is not read here.
            warnings.simplefilter("ignore")
            return _opaque(_crop(_load(content, large), recipe), content, recipe)
    except BrokenImage:
        raise
    except UnidentifiedImageError as error:
        if content[4:8] == b"ftyp" and content[8:12] in _HEIC_BRANDS:
            raise BrokenImage(f"a HEIC file, which is not read; {CONVERT_HEIC}") from error
        raise BrokenImage(f"not a {NAMES} file, or its header is damaged") from error
    except Image.DecompressionBombError as error:
        raise BrokenImage(_TOO_LARGE) from error
    except Exception as error:  # hostile bytes reach nearly every `raise` of Pillow and of zlib
        problem = str(error) or type(error).__name__
        raise BrokenImage(f"damaged, it cannot be decoded ({problem})") from error


_TOO_LARGE = f"its header declares more than {MOST_PIXELS:,} pixels, the largest size accepted"


def _load(
    content: bytes, large: Callable[[], object] = lambda: None, rawmode: str | None = None
) -> Image.Image:
    """A file's picture, upright; `rawmode` is Pillow's name for another layout of the samples."""
    image = Image.open(io.BytesIO(content), formats=FORMATS)
    if image.width * image.height > MOST_PIXELS:
        raise BrokenImage(_TOO_LARGE)
    if image.width * image.height > LARGE:
        large()
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        _check_tiff(image)
    if image.format == "PNG":
        image.verify()  # `load` ignores a wrong checksum of the pixels, and a missing end
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    if rawmode is not None:
        # Pillow takes a plain tuple, too.
        image.tile = [(*image.tile[0][:3], rawmode)]  # type: ignore[list-item]
    image.load()
    if _ORIENTED_BY.isdisjoint(image.info):
        return image
    try:
        turn = _UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # the picture itself is fine, and the EXIF parser can raise anything
        return image
    return image if turn is None else image.transpose(turn)


def _check_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    """BrokenImage for samples without a known scale, and for tiles that would take much memory."""
    tags, names = image.tag_v2, TiffImagePlugin
    bits = tags.get(names.BITSPERSAMPLE, (1,))
    unsigned = set(tags.get(names.SAMPLEFORMAT, (1,))) == {1}
    inverted = tags.get(names.PHOTOMETRIC_INTERPRETATION, 0) == 0 and bits[0] > 8
    if not unsigned or inverted or max(bits) not in (1, 2, 4, 8, 16) or image.mode == "LAB":
        raise BrokenImage(
            f"a TIFF file of kind {image.mode} with {max(bits)} bits per sample, which is not "
            "read; save it as grey or RGB with 8 or 16 bits"
        )
    if tags.get(names.TILEWIDTH, 1) * tags.get(names.TILELENGTH, 1) > MOST_PIXELS:
        raise BrokenImage(_TOO_LARGE)


def _crop(image: Image.Image, recipe: Recipe) -> Image.Image:
    """The centred square of `recipe`; BrokenImage if it does not fit, or `size` would distort."""
    height, width = image.height, image.width
    if recipe.crop is not None:
        side = min(height, width) if recipe.crop == "square" else recipe.crop
        if not 1 <= side <= min(height, width):
            raise BrokenImage(
                f"conversion.crop {side} does not fit into {height}x{width} pixels; use 1 to "
                f'{min(height, width)}, or "square"'
            )
        top, left = (height - side) // 2, (width - side) // 2
        return image.crop((left, top, left + side, top + side))
    if recipe.size is not None and height != width:
        raise BrokenImage(
            f"conversion.size {recipe.size} would distort it, because its {height}x{width} pixels "
            f'are not square; set conversion.crop, too: "square", or at most {min(height, width)}'
        )
    return image


def _opaque(image: Image.Image, content: bytes, recipe: Recipe) -> Image.Image:
    """The picture composited on white, in mode L, P, RGB, YCbCr or CMYK."""
    key = image.info.get("transparency")
    if image.mode == "La":
        image = image.convert("LA")
    # Without a palette, Pillow's own conversion compares the key of a PNG with scaled samples.
    keyed = key is not None and (image.mode == "P" or not content.startswith(_PNG))
    if image.mode in ("LA", "RGBA", "PA") or keyed:
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
        image.info.pop("transparency", None)  # `convert` would use it
    return image


def _equal(
    samples: np.ndarray, key: int | tuple[int, ...], content: bytes, recipe: Recipe
) -> np.ndarray:
    """Mask of the pixels with the one colour that a PNG's tRNS chunk makes transparent.

    Args:
        samples: as decoded by Pillow, (height, width) or (height, width, 3).
        key: the colour in the chunk, with the bit depth of the file.
    """
    depth = content[24]  # IHDR is the first chunk of every PNG
    if depth == 16 and samples.dtype == np.uint8:
        # Pillow keeps the upper byte of each sample; read as little-endian, it keeps the lower one.
        lower = np.asarray(_crop(_load(content, rawmode="RGB;16L"), recipe))
        samples = samples.astype(np.uint16) << 8 | lower
    elif depth < 8:
        key *= 255 // ((1 << depth) - 1)  # as Pillow scales the samples, but not the key
    same = samples == np.array(key)
    return same if samples.ndim == 2 else same.all(axis=-1)
