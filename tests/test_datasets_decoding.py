import io
import pickle
import re
import struct
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from svae.datasets.formats.decoding import MOST_PIXELS, BrokenImage, Recipe, prepare

GREY, COLOUR = Recipe(None, None, 1), Recipe(None, None, 3)
ALL_FORMATS = ("JPEG", "PNG", "WEBP")


def smooth(height, width, channels, seed=0):
    """uint8 (height, width, channels): waves, which JPEG hardly changes."""
    y, x = np.mgrid[:height, :width][..., None]
    phase = np.random.default_rng(seed).uniform(0, 6, channels)
    values = np.sin(y / 9 + phase) * np.cos(x / 11 - phase)
    return (127.5 + 100 * values).round().astype(np.uint8)


def noise(height, width, channels, seed=0):
    """uint8 (height, width, channels)."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(pixels, file_format, mode=None, **options):
    """The bytes of a file; JPEG as close to lossless as possible, WebP lossless."""
    quality = {
        "JPEG": {"quality": 100, "subsampling": 0},
        "WEBP": {"lossless": True, "exact": True},
        "PNG": {},
        "MPO": {"quality": 100, "subsampling": 0},
    }[file_format]
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    image = Image.fromarray(pixels)
    if mode:
        image = Image.frombytes(mode, image.size, pixels.tobytes())
    buffer = io.BytesIO()
    image.save(buffer, file_format, **(quality | options))
    return buffer.getvalue()


# Another encoder of PNG, for the kinds that Pillow cannot write.
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
# First row, step, first column, step of each pass of an interlaced file.
ADAM7 = (
    (0, 8, 0, 8),
    (0, 8, 4, 8),
    (4, 8, 0, 4),
    (0, 4, 2, 4),
    (2, 4, 0, 2),
    (0, 2, 1, 2),
    (1, 2, 0, 1),
)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ihdr(width, height, depth=8, colour=2, interlaced=False):
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced))


def scanlines(samples, depth):
    """Rows of `depth` bits per sample, each after the number of its filter (0, none)."""
    if 0 in samples.shape:
        return b""
    rows = samples.reshape(len(samples), -1)
    if depth == 16:
        packed = rows.astype(">u2").view(np.uint8)
    else:
        bits = np.unpackbits(rows.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        packed = np.packbits(bits.reshape(len(rows), -1), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def png(samples, depth, colour, before=b"", after=b"", interlaced=False):
    """A PNG file of samples (height, width, channels), with more chunks before and after IDAT."""
    height, width, _ = samples.shape
    passes = ADAM7 if interlaced else ((0, 1, 0, 1),)
    lines = b"".join(scanlines(samples[y::dy, x::dx], depth) for y, dy, x, dx in passes)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            ihdr(width, height, depth, colour, interlaced),
            before,
            chunk(b"IDAT", zlib.compress(lines)),
            after,
            chunk(b"IEND", b""),
        ]
    )


def over_white(pixels, alpha):
    """Composite pixels on white; both arguments on [0, 1]."""
    return pixels * alpha + 1 - alpha


def luminance(pixels):
    return pixels @ [0.299, 0.587, 0.114]


OPAQUE_KINDS = [
    (0, 1),
    (0, 2),
    (0, 4),
    (0, 8),
    (0, 16),
    (2, 8),
    (2, 16),
    (3, 1),
    (3, 2),
    (3, 4),
    (3, 8),
]
ALPHA_KINDS = [(4, 8), (4, 16), (6, 8), (6, 16)]
KINDS = [(*kind, False) for kind in OPAQUE_KINDS + ALPHA_KINDS]
KINDS += [(*kind, True) for kind in OPAQUE_KINDS]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("interlaced", [False, True], ids=["plain", "interlaced"])
@pytest.mark.parametrize("odd_key", [0, 1])
@pytest.mark.parametrize(("colour", "depth", "transparent"), KINDS)
def test_every_kind_of_png(colour, depth, transparent, odd_key, interlaced, channels):
    rng = np.random.default_rng(depth + colour)
    most = (1 << depth) - 1
    samples = rng.integers(0, most + 1, (21, 18, CHANNELS[colour]))
    before = b""
    if colour == 3:
        table = rng.integers(0, 256, (most + 1, 3))
        before += chunk(b"PLTE", table.astype(np.uint8).tobytes())
        pixels, alpha = table[samples[..., 0]] / 255, np.ones((21, 18, 1))
        if transparent:
            alphas = rng.integers(0, 256, most + 1)
            alphas[-1] = 255  # a short tRNS chunk leaves the last colours opaque
            before += chunk(b"tRNS", alphas[:-1].astype(np.uint8).tobytes())
            alpha = alphas[samples] / 255
    else:
        shown = {4: 1, 6: 3}.get(colour, CHANNELS[colour])
        pixels = samples[..., :shown] / most
        alpha = samples[..., shown:] / most if shown < CHANNELS[colour] else np.ones((21, 18, 1))
        if transparent:
            # Two pixels that share all bits with the key but one, the lowest and the highest.
            key = rng.integers(most + 1, size=CHANNELS[colour]) & ~1 | odd_key
            samples[0, :3] = key, key ^ 1, key ^ 1 << (depth - 1)
            pixels = samples / most
            before += chunk(b"tRNS", key.astype(">u2").tobytes())
            alpha = (samples != key).any(axis=-1, keepdims=True).astype(float)
    expected = over_white(np.broadcast_to(pixels, (21, 18, 3)), alpha)
    if channels == 1:
        expected = luminance(expected)[..., None]

    made = prepare(
        png(samples, depth, colour, before, b"", interlaced), Recipe(None, None, channels)
    )

    assert made.shape == (21, 18, channels)
    assert made.dtype == np.uint8
    # Rounded once; twice for the luminance of a transparent image; 16 bits of colour lose
    # the lower byte.
    seen_through = colour == 6 or (colour == 3 and transparent)
    tolerance = 0.51 + 0.5 * (channels == 1 and seen_through) + 1.5 * (depth == 16 and colour != 0)
    assert np.abs(made - 255 * expected).max() <= tolerance


def test_16_bit_grey_is_scaled_and_rounded():
    values = np.arange(1 << 16).reshape(256, 256, 1)
    made = prepare(png(values, 16, 0), GREY)
    np.testing.assert_array_equal(made, np.floor(values / 257 + 0.5))


def test_one_transparent_index_in_a_palette():
    table = noise(4, 3, 1)[..., 0]
    samples = noise(9, 8, 1) & 3
    before = chunk(b"PLTE", table.tobytes()) + chunk(b"tRNS", b"\xff\xff\x00")
    expected = table[samples[..., 0]]
    expected[samples[..., 0] == 2] = 255
    np.testing.assert_array_equal(prepare(png(samples, 2, 3, before), COLOUR), expected)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("lossless", [True, False])
def test_webp_with_alpha(lossless, channels):
    pixels = smooth(40, 30, 4)
    content = encoded(pixels, "WEBP", lossless=lossless, quality=100)
    expected = 255 * over_white(pixels[..., :3] / 255, pixels[..., 3:] / 255)
    expected = expected if channels == 3 else luminance(expected)[..., None]
    made = prepare(content, Recipe(None, None, channels))
    assert np.abs(made - expected).max() <= (1.001 if lossless else 12)


@pytest.mark.parametrize(("made", "channels"), [(1, 1), (1, 3), (3, 1), (3, 3)])
@pytest.mark.parametrize("file_format", [None, *ALL_FORMATS])
def test_grey_and_colour(file_format, channels, made):
    pixels = smooth(40, 32, channels)
    content = pixels if file_format is None else encoded(pixels, file_format)
    expected = pixels.astype(float)
    if (channels, made) == (3, 1):
        expected = luminance(expected)[..., None]
    tolerance = 5 if file_format == "JPEG" else 0.501
    result = prepare(content, Recipe(None, None, made))
    assert result.shape == (40, 32, made)
    assert np.abs(result - expected).max() <= tolerance
    if made == 3 and channels == 1:
        assert (result == result[..., :1]).all()


def cmyk_to_rgb(inks):
    inks = inks / 255
    return 255 * (1 - inks[..., :3]) * (1 - inks[..., 3:])


def test_cmyk_jpeg():
    inks = smooth(48, 40, 4)
    content = encoded(inks, "JPEG", "CMYK")
    assert b"Adobe" in content
    assert np.abs(prepare(content, COLOUR) - cmyk_to_rgb(inks)).max() <= 4
    grey = luminance(cmyk_to_rgb(inks))[..., None]
    assert np.abs(prepare(content, GREY) - grey).max() <= 4


def test_ycck_jpeg():
    """Adobe's YCCK contains JFIF's YCbCr of the inks C, M and Y, and the inverted K."""
    inks = smooth(48, 40, 4).astype(float)
    c, m, y = inks[..., 0], inks[..., 1], inks[..., 2]
    luma = 0.299 * c + 0.587 * m + 0.114 * y
    stored = [luma, 128 + (y - luma) / 1.772, 128 + (c - luma) / 1.402, 255 - inks[..., 3]]
    # Pillow writes CMYK inverted and untransformed: invert first, then say "transformed" (2).
    given = 255 - np.stack(stored, axis=-1).round().astype(np.uint8)
    content = bytearray(encoded(given, "JPEG", "CMYK"))
    content[content.index(b"Adobe") + 11] = 2
    assert np.abs(prepare(bytes(content), COLOUR) - cmyk_to_rgb(inks)).max() <= 5


# EXIF's orientations: the operation of a viewer on the pixels of the file.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


def exif(orientation, order=">"):
    """A TIFF directory of one entry: tag 0x112, SHORT, one value."""
    magic = {">": b"MM\0*", "<": b"II*\0"}[order]
    return magic + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("file_format", ALL_FORMATS)
def test_exif_orientation(file_format, orientation, order):
    pixels = smooth(48, 33, 3)
    plain = prepare(encoded(pixels, file_format), COLOUR)
    assert np.abs(plain.astype(int) - pixels).max() <= (5 if file_format == "JPEG" else 0)
    content = encoded(pixels, file_format, exif=b"Exif\0\0" + exif(orientation, order))
    expected = TURNS[orientation](plain)
    np.testing.assert_array_equal(prepare(content, COLOUR), expected)

    # The centre of the turned picture is one pixel off the file's for an odd difference.
    height, width, _ = expected.shape
    top, left = (height - 20) // 2, (width - 20) // 2
    np.testing.assert_array_equal(
        prepare(content, Recipe(20, None, 3)), expected[top : top + 20, left : left + 20]
    )


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("late", [False, True], ids=["before IDAT", "after IDAT"])
@pytest.mark.parametrize(("colour", "depth"), [(0, 1), (0, 16), (2, 16), (3, 8), (4, 8)])
def test_orientation_of_other_modes(colour, depth, late, orientation):
    samples = np.random.default_rng(3).integers(0, 1 << depth, (12, 7, CHANNELS[colour]))
    more = {
        0: chunk(b"tRNS", samples[1, 2].astype(">u2").tobytes()),
        2: chunk(b"tRNS", samples[1, 2].astype(">u2").tobytes()),
        3: chunk(b"PLTE", noise(256, 3, 1).tobytes()),
        4: b"",
    }[colour]
    turn = chunk(b"eXIf", exif(orientation))
    plain = prepare(png(samples, depth, colour, more), COLOUR)
    content = png(samples, depth, colour, more + (b"" if late else turn), turn if late else b"")
    np.testing.assert_array_equal(prepare(content, COLOUR), TURNS[orientation](plain))


DAMAGED_EXIF = {
    "empty": b"",
    "text": b"not EXIF at all",
    "no directory": b"MM\0*" + struct.pack(">I", 8),
    "a directory elsewhere": b"MM\0*" + struct.pack(">I", 1 << 31),
    "many entries": b"MM\0*" + struct.pack(">IH", 8, 65535),
    "a long value": b"MM\0*" + struct.pack(">IHHHII", 8, 1, 0x112, 2, 0xFFFFFFFF, 0xFFFFFFF0),
    "no such orientation": exif(9),
    "a rational one": b"MM\0*" + struct.pack(">IHHHIIIII", 8, 1, 0x112, 5, 1, 26, 0, 6, 0),
    "cut short": exif(6)[:-8],
}


@pytest.mark.parametrize("file_format", ALL_FORMATS)
@pytest.mark.parametrize("damaged", DAMAGED_EXIF.values(), ids=DAMAGED_EXIF)
def test_damaged_exif_does_not_stop_a_good_image(file_format, damaged, recwarn):
    pixels = smooth(32, 24, 3)
    content = encoded(pixels, file_format, exif=b"Exif\0\0" + damaged)
    made = prepare(content, COLOUR)
    np.testing.assert_array_equal(made, prepare(encoded(pixels, file_format), COLOUR))
    assert not recwarn


def test_random_exif_does_not_stop_a_good_image():
    rng = np.random.default_rng(0)
    pixels = smooth(16, 16, 3)
    plain = prepare(encoded(pixels, "JPEG"), COLOUR)
    turned = [turn(plain).tobytes() for turn in TURNS.values()]
    good = b"Exif\0\0" + exif(6) + rng.bytes(40)
    for _ in range(300):
        damaged = bytearray(good)
        for place in rng.integers(6, len(good), 3):
            damaged[place] = rng.integers(256)
        made = prepare(encoded(pixels, "JPEG", exif=bytes(damaged)), COLOUR)
        assert made.tobytes() in turned


def test_the_first_picture_of_a_phones_mpo():
    first, second = smooth(32, 24, 3), smooth(32, 24, 3, seed=1)
    more = [Image.fromarray(second)]
    content = encoded(first, "MPO", save_all=True, append_images=more)
    assert b"MPF\0" in content
    assert np.abs(prepare(content, COLOUR).astype(int) - first).max() <= 5


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
@pytest.mark.parametrize("channels", [3, 4])
def test_the_first_frame_of_an_animation(file_format, channels):
    frames = [noise(32, 24, channels, seed) for seed in range(3)]
    more = [Image.fromarray(frame) for frame in frames[1:]]
    content = encoded(frames[0], file_format, save_all=True, append_images=more, duration=50)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == 3
    alone = encoded(frames[0], file_format)
    np.testing.assert_array_equal(prepare(content, COLOUR), prepare(alone, COLOUR))


def test_an_array_that_needs_no_change_is_not_copied():
    grey, colour = noise(5, 7, 1), noise(5, 7, 3)
    assert prepare(grey, GREY) is grey
    assert prepare(colour, COLOUR) is colour


def lanczos(image, side):
    """Antialiased Lanczos-3 resizing written out in numpy: (s, s, c) to (side, side, c)."""
    factor = len(image) / side
    stretch = max(factor, 1)
    centres = (np.arange(side) + 0.5) * factor
    x = (np.arange(len(image)) + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(x) < 3, np.sinc(x) * np.sinc(x / 3), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.clip(np.einsum("ow,hwc->hoc", weights, image), 0, 255).round()
    return np.clip(np.einsum("oh,hwc->owc", weights, rows), 0, 255)


@pytest.mark.parametrize("file_format", [None, "PNG", "WEBP"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("height", "width", "crop", "size"),
    [
        (218, 178, 148, 64),
        (218, 178, 147, None),
        (30, 41, "square", None),
        (41, 30, "square", 12),
        (20, 20, "square", None),
        (20, 20, None, 8),
        (20, 20, None, 45),  # enlarged
        (20, 21, 20, 20),
        (21, 20, 1, 3),
        (20, 20, 20, None),
    ],
)
def test_crop_and_size(height, width, crop, size, channels, file_format):
    pixels = noise(height, width, channels)
    side = min(height, width) if crop == "square" else crop or height
    top, left = (height - side) // 2, (width - side) // 2
    expected = pixels[top : top + side, left : left + side]
    content = pixels if file_format is None else encoded(pixels, file_format)
    made = prepare(content, Recipe(crop, size, channels))
    assert made.dtype == np.uint8
    if size is None:
        np.testing.assert_array_equal(made, expected)
    else:
        assert made.shape == (size, size, channels)
        # Pillow rounds in fixed point after each of the two directions.
        assert np.abs(made - lanczos(expected, size)).max() < 2


@pytest.mark.parametrize("colour_key", [False, True])
def test_crop_of_a_transparent_picture(colour_key):
    samples = np.random.default_rng(5).integers(0, 4, (14, 11, 3)) * 257 * 85
    samples[7, 5] = samples[0, 0] = 0x1234
    before = chunk(b"tRNS", struct.pack(">HHH", 0x1234, 0x1234, 0x1234)) if colour_key else b""
    whole = prepare(png(samples, 16, 2, before), COLOUR)
    made = prepare(png(samples, 16, 2, before), Recipe(6, None, 3))
    np.testing.assert_array_equal(made, whole[4:10, 2:8])
    assert (whole[7, 5] == (255 if colour_key else 0x12)).all()


@pytest.mark.parametrize("crop", [0, -1, 21, 24, 25])
@pytest.mark.parametrize("file_format", [None, *ALL_FORMATS])
def test_a_crop_that_does_not_fit(file_format, crop):
    pixels = smooth(24, 20, 3)
    content = pixels if file_format is None else encoded(pixels, file_format)
    with pytest.raises(BrokenImage, match=rf"crop {crop} does not fit into 24x20 .* 1 to 20"):
        prepare(content, Recipe(crop, None, 3))


@pytest.mark.parametrize("file_format", [None, *ALL_FORMATS])
def test_a_picture_that_resizing_would_distort(file_format):
    pixels = smooth(24, 20, 3)
    content = pixels if file_format is None else encoded(pixels, file_format)
    with pytest.raises(BrokenImage, match=r"would distort.* 24x20 .*conversion\.crop.*most 20"):
        prepare(content, Recipe(None, 24, 3))


def jpeg_header(width, height):
    """A file without pixels: start, frame, scan."""
    frame = struct.pack(">BHHB", 8, height, width, 1) + b"\x01\x11\x00"
    scan = b"\x01\x01\x00\x00\x3f\x00"
    return b"\xff\xd8" + b"".join(
        marker + struct.pack(">H", len(data) + 2) + data
        for marker, data in [(b"\xff\xc0", frame), (b"\xff\xda", scan)]
    )


def png_header(width, height):
    return b"\x89PNG\r\n\x1a\n" + ihdr(width, height, 8, 0) + chunk(b"IDAT", b"")


def webp_header(width, height):
    """The extended format, with up to 2**24 pixels per side; a lossless frame follows."""
    canvas = bytes(4) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    frame = b"\x2f" + struct.pack("<I", min(width, 16384) - 1 | min(height, 16384) - 1 << 14)
    parts = b"WEBPVP8X" + struct.pack("<I", 10) + canvas
    parts += b"VP8L" + struct.pack("<I", 6) + frame + b"\0"
    return b"RIFF" + struct.pack("<I", len(parts)) + parts


@pytest.mark.parametrize(
    ("header", "width", "height"),
    [
        (png_header, 40_000, 25_000),
        (png_header, 1 << 31, 1 << 31),
        (png_header, 9_473, 9_446),
        (jpeg_header, 40_000, 25_000),
        (jpeg_header, 65_000, 65_000),
        (jpeg_header, 9_473, 9_446),
        (webp_header, 40_000, 25_000),
        (webp_header, 16_384, 16_384),
        (webp_header, 9_473, 9_446),
    ],
)
@pytest.mark.parametrize("more", [b"", bytes(1000)])
def test_a_header_with_too_many_pixels(header, width, height, more, recwarn):
    assert width * height > MOST_PIXELS
    # Decoding would give another message, because there are no pixels.
    with pytest.raises(BrokenImage, match=r"declares more than 89,478,485 pixels"):
        prepare(header(width, height) + more, COLOUR)
    assert not recwarn


@pytest.mark.parametrize("header", [png_header, jpeg_header])
def test_the_largest_allowed_size_is_accepted(header):
    width, height = (9_472, 9_446)
    assert width * height <= MOST_PIXELS < (width + 1) * height
    with pytest.raises(BrokenImage, match="cannot be decoded"):
        prepare(header(width, height), COLOUR)


def saved(pixels, file_format, mode=None, **options):
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, file_format, **options)
    return buffer.getvalue()


def samples_of_each_format():
    pixels = smooth(32, 24, 3)
    turned = b"Exif\0\0" + exif(6)
    grey16 = np.random.default_rng(0).integers(0, 1 << 16, (9, 8, 1))
    key = chunk(b"tRNS", bytes(6))
    palette = chunk(b"PLTE", noise(16, 3, 1).tobytes()) + chunk(b"tRNS", noise(9, 1, 1).tobytes())
    return {
        "jpeg": encoded(pixels, "JPEG", exif=turned),
        "progressive jpeg": encoded(pixels, "JPEG", progressive=True),
        "cmyk jpeg": encoded(smooth(32, 24, 4), "JPEG", "CMYK"),
        "mpo": encoded(pixels, "MPO", save_all=True, append_images=[Image.fromarray(pixels)]),
        "png": encoded(pixels, "PNG", exif=turned),
        "16-bit png": png(grey16, 16, 0, chunk(b"tRNS", bytes(2))),
        "interlaced png": png(smooth(32, 24, 3), 8, 2, key, interlaced=True),
        "keyed 16-bit png": png(smooth(12, 9, 3).astype(int) * 257, 16, 2, key),
        "palette png": png(noise(12, 9, 1) & 15, 4, 3, palette),
        "apng": encoded(pixels, "PNG", save_all=True, append_images=[Image.fromarray(~pixels)]),
        "webp": encoded(pixels, "WEBP", lossless=False, exif=turned),
        "lossless webp": encoded(smooth(32, 24, 4), "WEBP"),
        "animated webp": encoded(
            pixels, "WEBP", save_all=True, append_images=[Image.fromarray(~pixels)], duration=9
        ),
        "tiff": saved(pixels, "TIFF"),
        "packed tiff": saved(pixels, "TIFF", compression="tiff_lzw"),
        "bmp": saved(pixels, "BMP"),
        "gif": saved(pixels[..., 0], "GIF", transparency=5),
        "ppm": saved(pixels, "PPM"),
        "avif": saved(pixels, "AVIF"),
    }


FILES = samples_of_each_format()


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_broken_or_complete(name, recwarn):
    content = FILES[name]
    whole = prepare(content, COLOUR)
    outcomes = {"broken": 0, "whole": 0}
    for length in range(0, len(content), max(1, len(content) // 300)):
        try:
            made = prepare(content[:length], COLOUR)
        except BrokenImage:
            outcomes["broken"] += 1
        else:
            np.testing.assert_array_equal(made, whole)
            outcomes["whole"] += 1
    assert outcomes["broken"] > 100
    assert not recwarn


@pytest.mark.parametrize("recipe", [COLOUR, Recipe("square", 8, 1)])
@pytest.mark.parametrize("name", FILES)
def test_flipped_bytes_break_a_file_or_change_its_pixels(name, recipe, recwarn):
    rng = np.random.default_rng(1)
    content = FILES[name]
    for count in rng.integers(1, 4, 150):
        damaged = bytearray(content)
        # Half of them in the headers.
        reach = len(content) if rng.random() < 0.5 else 100
        for place in rng.integers(0, reach, count):
            damaged[place] = rng.integers(256)
        try:
            made = prepare(bytes(damaged), recipe)
        except BrokenImage as error:
            assert str(error)
        else:
            assert made.dtype == np.uint8
            assert made.ndim == 3
            assert made.shape[-1] == recipe.channels
            assert recipe.size is None or made.shape == (8, 8, 1)
            if "png" in name:  # the one format with checksums
                np.testing.assert_array_equal(made, prepare(content, recipe))
    assert not recwarn


def with_new_checksums(content):
    """A damaged PNG with valid checksums of the chunks, so that their content is read."""
    place, parts = 8, [content[:8]]
    while place + 8 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        parts.append(chunk(content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    return b"".join(parts)


@pytest.mark.parametrize("name", [name for name in FILES if "png" in name])
def test_damage_with_valid_checksums(name, recwarn):
    rng = np.random.default_rng(2)
    content = FILES[name]
    assert with_new_checksums(content) == content
    ends = [match.end() for match in re.finditer(rb"IHDR|PLTE|tRNS|acTL|fcTL|eXIf|IDAT", content)]
    for _ in range(200):
        damaged = bytearray(content)
        damaged[rng.choice(ends) + rng.integers(13)] = rng.integers(256)
        if np.prod(struct.unpack(">II", damaged[16:24])) > 1e6:
            continue  # takes long, and the largest are tested above
        try:
            made = prepare(with_new_checksums(bytes(damaged)), COLOUR)
        except BrokenImage as error:
            assert str(error)
        else:
            assert made.dtype == np.uint8
            assert made.shape[-1] == 3
    assert not recwarn


def text(keyword, value):
    return chunk(b"tEXt", keyword + b"\0" + value)


XMP = b'<rdf:Description tiff:Orientation="6"/>'
PROFILE = b"\nexif\n%8d\n%s\n" % (len(exif(6)), exif(6).hex().encode())


@pytest.mark.parametrize(
    ("metadata", "orientation"),
    [
        (text(b"Raw profile type exif", PROFILE), 6),  # as written by ImageMagick
        (text(b"Raw profile type exif", b"not hexadecimal"), 1),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP), 6),
        (chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + chunk(b"eXIf", exif(8)), 8),
        (text(b"xmp", XMP), 1),
    ],
)
def test_orientation_in_the_texts_of_a_png(metadata, orientation):
    pixels = noise(7, 5, 3)
    np.testing.assert_array_equal(
        prepare(png(pixels, 8, 2, metadata), COLOUR), TURNS[orientation](pixels)
    )


@pytest.mark.parametrize(
    "keyword",
    [b"transparency", b"bbox", b"interlace", b"icc_profile", b"exif", b"xmp", b"duration",
     b"disposal", b"blend", b"default_image", b"loop", b"gamma", b"background"],
)  # fmt: skip
@pytest.mark.parametrize("value", [b"", b"1", b"no such thing"])
@pytest.mark.parametrize(("colour", "depth"), [(0, 1), (0, 8), (0, 16), (2, 8), (2, 16), (3, 4)])
def test_texts_named_like_pillows_own_entries(colour, depth, value, keyword, recwarn):
    samples = np.random.default_rng(4).integers(0, 1 << depth, (6, 5, CHANNELS[colour]))
    palette = chunk(b"PLTE", noise(16, 3, 1).tobytes()) if colour == 3 else b""
    for recipe in (GREY, COLOUR):
        try:
            made = prepare(png(samples, depth, colour, palette + text(keyword, value)), recipe)
        except BrokenImage as error:
            assert str(error)
        else:
            assert made.shape == (6, 5, recipe.channels)
    assert not recwarn


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.png", FILES["png"])
    return buffer.getvalue()


def in_format(file_format):
    buffer = io.BytesIO()
    Image.fromarray(smooth(16, 16, 3)).save(buffer, file_format)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        *map(in_format, ("EPS", "ICO", "TGA", "PDF", "SGI", "PCX")),
        zipped(),
        b"",
        b"\xff",
        b"\xff\xd8\xff",
        b"\x89PNG\r\n\x1a\n",
        b"just text",
        b"<html>not found</html>",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    ],
    ids=lambda content: repr(content[:10]),
)
def test_files_of_other_formats(content):
    with pytest.raises(BrokenImage, match=r"not a JPEG, PNG, .* or AVIF file") as caught:
        prepare(content, COLOUR)
    assert " at 0x" not in str(caught.value)  # the same message in every run


def floats(pixels):
    return pixels.astype(np.float32) / 255


WHOLE = noise(20, 14, 3)
GREY16 = (WHOLE[..., 0].astype(np.uint16) << 8) + 255 - WHOLE[..., 0]
EXACT = {
    "TIFF": (saved(WHOLE, "TIFF"), WHOLE),
    "TIFF packed by LZW": (saved(WHOLE, "TIFF", compression="tiff_lzw"), WHOLE),
    "TIFF packed by deflate": (saved(WHOLE, "TIFF", compression="tiff_deflate"), WHOLE),
    "TIFF of several pages": (
        saved(WHOLE, "TIFF", save_all=True, append_images=[Image.fromarray(~WHOLE)]),
        WHOLE,
    ),
    "turned TIFF": (saved(WHOLE, "TIFF", exif=exif(6)), np.rot90(WHOLE, -1)),
    "grey TIFF of 16 bits": (saved(GREY16, "TIFF"), np.round(GREY16[..., None] / 257)),
    "TIFF of 1 bit": (
        saved((WHOLE[..., 0] > 127) * np.uint8(255), "TIFF", "1"),
        (WHOLE[..., :1] > 127) * 255,
    ),
    "BMP": (saved(WHOLE, "BMP"), WHOLE),
    "GIF": (saved(WHOLE[..., 0], "GIF"), WHOLE[..., :1]),
    "GIF with a transparent value": (
        saved(WHOLE[..., 0], "GIF", transparency=int(WHOLE[3, 4, 0])),
        np.where(WHOLE[..., :1] == WHOLE[3, 4, 0], 255, WHOLE[..., :1]),
    ),
    "animated GIF": (
        saved(WHOLE[..., 0], "GIF", save_all=True, append_images=[Image.fromarray(~WHOLE[..., 0])]),
        WHOLE[..., :1],
    ),
    "PPM": (saved(WHOLE, "PPM"), WHOLE),
    "plain PGM": (b"P2 2 1 255\n7 250\n", np.array([[[7], [250]]])),
    "PGM of 16 bits": (saved(GREY16, "PPM"), np.round(GREY16[..., None] / 257)),
}


@pytest.mark.parametrize("kind", EXACT)
def test_more_lossless_formats(kind):
    content, expected = EXACT[kind]
    np.testing.assert_array_equal(prepare(content, COLOUR) + np.zeros(3), expected + np.zeros(3))


def test_avif_upright_and_on_white():
    pixels, alpha = smooth(32, 24, 3), np.full((32, 24, 1), 255, np.uint8)
    alpha[:, 12:] = 0
    content = saved(np.dstack([pixels, alpha]), "AVIF", quality=100, exif=exif(6))
    expected = np.rot90(np.where(alpha, pixels, 255), -1)
    difference = np.abs(prepare(content, COLOUR).astype(int) - expected)
    assert np.median(difference) <= 2


@pytest.mark.parametrize(
    ("content", "problem"),
    {
        "floats": (saved(floats(WHOLE[..., 0]), "TIFF"), "kind F with 32 bits"),
        "LAB": (saved(WHOLE, "TIFF", "LAB"), "kind LAB"),
        "32 bits": (saved(WHOLE[..., 0].astype(np.int32), "TIFF"), "kind I with 32 bits"),
        "signed": (saved(WHOLE[..., 0], "TIFF", tiffinfo={339: 2}), "kind L with 8 bits"),
        "HEIC": (b"\0\0\0\x18ftypheic" + bytes(99), "HEIC file.* mogrify -format jpg"),
    }.values(),
)
def test_files_that_are_not_read_for_a_reason(content, problem):
    with pytest.raises(BrokenImage, match=problem):
        prepare(content, COLOUR)


@pytest.mark.parametrize(
    "content",
    [
        b"P5 40000 25000 255\n",
        b"GIF89a" + struct.pack("<HH", 40_000, 25_000) + saved(WHOLE[..., 0], "GIF")[10:],
        saved(WHOLE, "BMP")[:18] + struct.pack("<ii", 40_000, 25_000) + saved(WHOLE, "BMP")[26:],
        saved(WHOLE, "TIFF", tiffinfo={65_000: 40_000, 65_001: 25_000})
        .replace(struct.pack("<H", 65_000), struct.pack("<H", 322))
        .replace(struct.pack("<H", 65_001), struct.pack("<H", 323)),
    ],
    ids=["PGM", "GIF", "BMP", "tile of a TIFF"],
)
def test_more_headers_with_too_many_pixels(content):
    with pytest.raises(BrokenImage, match=r"declares more than 89,478,485 pixels"):
        prepare(content, COLOUR)


BOMB = zlib.compress(bytes(64 << 20), 9)


@pytest.mark.parametrize(
    "bomb",
    [
        chunk(b"zTXt", b"Comment\0\0" + BOMB),
        chunk(b"iTXt", b"Comment\0\x01\0\0\0" + BOMB),
        chunk(b"iCCP", b"profile\0\0" + BOMB),
        b"".join(chunk(b"zTXt", b"%d\0\0" % i + zlib.compress(bytes(1 << 20))) for i in range(99)),
    ],
    ids=["zTXt", "iTXt", "iCCP", "many zTXt"],
)
@pytest.mark.parametrize("late", [False, True])
def test_compressed_metadata_does_not_explode(bomb, late):
    pixels = smooth(8, 8, 3)
    content = png(pixels, 8, 2, b"" if late else bomb, bomb if late else b"")
    tracemalloc.start()
    try:
        made = prepare(content, COLOUR)
    except BrokenImage as error:
        assert re.search("too (large|much)", str(error), re.IGNORECASE)
    else:
        np.testing.assert_array_equal(made, pixels)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < (90 << 20 if bomb.count(b"zTXt") > 1 else 8 << 20)


def test_pixels_that_unpack_to_more_than_the_header_says():
    header = b"\x89PNG\r\n\x1a\n" + ihdr(4, 2, 8, 0)
    content = header + chunk(b"IDAT", BOMB) + chunk(b"IEND", b"")
    made = prepare(content, GREY)
    np.testing.assert_array_equal(made, np.zeros((2, 4, 1)))


def test_a_broken_image_survives_pickling():
    with pytest.raises(BrokenImage) as caught:
        prepare(FILES["jpeg"][:200], COLOUR)
    copy = pickle.loads(pickle.dumps(caught.value))
    assert isinstance(copy, BrokenImage)
    assert str(copy) == str(caught.value)


@pytest.mark.parametrize("name", FILES)
def test_the_same_bytes_give_the_same_pixels(name):
    recipe = Recipe("square", 7, 3)
    first = prepare(FILES[name], recipe)
    prepare(noise(9, 9, 3), recipe)
    np.testing.assert_array_equal(prepare(FILES[name], recipe), first)
