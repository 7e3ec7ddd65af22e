"""An image becomes what a viewer shows, whatever its mode, depth, transparency or orientation, or is refused."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from benchmark.data.decoding import check_headers, decode
from benchmark.runtime.errors import UserError

Pixels = NDArray[np.uint8]
GREY = (np.arange(48, dtype=np.uint8) * 5).reshape(6, 8)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY], axis=-1)
ALPHA = np.where(np.arange(48).reshape(6, 8) % 3 == 0, 0, np.where(np.arange(48).reshape(6, 8) % 3 == 1, 128, 255))
DEEP = np.linspace(0, 65535, 48).round().astype(np.uint16).reshape(6, 8)


def repeated(grey: NDArray) -> Pixels:
    return np.repeat(grey[..., None], 3, axis=-1).astype(np.uint8)


def on_white(colour: NDArray, alpha: NDArray) -> Pixels:
    share = alpha[..., None] / 255
    return np.rint(colour * share + 255 * (1 - share)).astype(np.uint8)


def with_alpha(mode: str) -> Image.Image:
    bands = [GREY] if mode == "LA" else [*COLOUR.transpose(2, 0, 1)]
    return Image.merge(mode, [Image.fromarray(band) for band in (*bands, ALPHA.astype(np.uint8))])


def in_palette() -> Image.Image:
    image = Image.fromarray(GREY // 5, "P")
    image.putpalette([value for shade in range(48) for value in (shade * 5, 250 - shade * 5, 7)])
    return image


PALETTE = np.stack([GREY, 250 - GREY, np.full_like(GREY, 7)], axis=-1)
SEEN: dict[str, tuple[str, Callable[[], Image.Image], Pixels, int]] = {
    # Mode, suffix; the image; what is seen; the largest difference that a change of colour space rounds to.
    "1 png": ("1", lambda: Image.fromarray(GREY > 99), repeated(255 * (GREY > 99)), 0),
    "1 tif": ("1", lambda: Image.fromarray(GREY > 99), repeated(255 * (GREY > 99)), 0),
    "1 bmp": ("1", lambda: Image.fromarray(GREY > 99), repeated(255 * (GREY > 99)), 0),
    "L png": ("L", lambda: Image.fromarray(GREY), repeated(GREY), 0),
    "L pgm": ("L", lambda: Image.fromarray(GREY), repeated(GREY), 0),
    "L jp2": ("L", lambda: Image.fromarray(GREY), repeated(GREY), 0),
    "LA png": ("LA", lambda: with_alpha("LA"), on_white(repeated(GREY), ALPHA), 1),
    "LA tif": ("LA", lambda: with_alpha("LA"), on_white(repeated(GREY), ALPHA), 1),
    "P png": ("P", in_palette, PALETTE, 0),
    "P gif": ("P", in_palette, PALETTE, 0),
    "P bmp": ("P", in_palette, PALETTE, 0),
    "PA tif": ("PA", lambda: in_palette().convert("PA"), PALETTE, 0),
    "RGB png": ("RGB", lambda: Image.fromarray(COLOUR), COLOUR, 0),
    "RGB ppm": ("RGB", lambda: Image.fromarray(COLOUR), COLOUR, 0),
    "RGB tif": ("RGB", lambda: Image.fromarray(COLOUR), COLOUR, 0),
    "RGBX tif": ("RGB", lambda: Image.fromarray(COLOUR).convert("RGBX"), COLOUR, 0),
    "RGBA png": ("RGBA", lambda: with_alpha("RGBA"), on_white(COLOUR, ALPHA), 1),
    "RGBA tif": ("RGBA", lambda: with_alpha("RGBA"), on_white(COLOUR, ALPHA), 1),
    "RGBA jp2": ("RGBA", lambda: with_alpha("RGBA"), on_white(COLOUR, ALPHA), 1),
    "CMYK tif": ("CMYK", lambda: Image.fromarray(COLOUR).convert("CMYK"), COLOUR, 0),
    "YCbCr tif": ("YCbCr", lambda: Image.fromarray(COLOUR).convert("YCbCr"), COLOUR, 3),
    "LAB tif": ("LAB", lambda: Image.fromarray(repeated(GREY)).convert("LAB"), repeated(GREY), 3),
    "I;16 png": ("I;16", lambda: Image.fromarray(DEEP), repeated(np.rint(DEEP / 257)), 0),
    "I;16 tif": ("I;16", lambda: Image.fromarray(DEEP), repeated(np.rint(DEEP / 257)), 0),
    "I;16 jp2": ("I;16", lambda: Image.fromarray(DEEP), repeated(np.rint(DEEP / 257)), 0),
    "I;16B tif": (
        "I;16B",
        lambda: Image.frombytes("I;16B", (8, 6), DEEP.astype(">u2").tobytes()),
        repeated(np.rint(DEEP / 257)),
        0,
    ),
    "I pgm": ("I", lambda: Image.fromarray(DEEP), repeated(np.rint(DEEP / 257)), 0),
}


@pytest.mark.parametrize("kind", SEEN)
def test_every_mode_of_a_file_becomes_what_a_viewer_shows(kind: str, tmp_path: Path) -> None:
    mode, made, expected, rounding = SEEN[kind]
    path = tmp_path / f"image.{kind.split()[1]}"
    made().save(path, **({"irreversible": False} if kind.endswith("jp2") else {}))
    with Image.open(path) as image:
        assert image.mode == mode
    check_headers([str(path)])
    found = decode(str(path))
    assert (found.dtype, found.shape) == (np.uint8, (6, 8, 3))
    assert np.abs(found.astype(int) - expected).max() <= rounding


@pytest.mark.parametrize(
    ("suffix", "image", "said"),
    [
        ("tif", Image.fromarray(DEEP.astype(np.int32)), "integers of 32 bits or with a sign"),
        ("tif", Image.fromarray(DEEP.astype(np.float32)), "floating-point"),
        ("pgm", Image.fromarray(DEEP.astype(np.float32)), "floating-point"),
    ],
)
def test_pixels_without_a_white_are_refused_by_their_header(
    suffix: str, image: Image.Image, said: str, tmp_path: Path
) -> None:
    path = tmp_path / f"raw.{suffix}"
    image.save(path)
    with pytest.raises(UserError, match=f"image {path} cannot be read: its pixels are {said}"):
        decode(str(path))
    with pytest.raises(UserError, match=f"image {path} cannot be read: its pixels are {said}"):
        check_headers([str(path)])


def test_sixteen_bits_are_scaled_alike_in_every_image(tmp_path: Path) -> None:
    """0 to 4095 of 65535 is dark, as in a viewer: neither white nor stretched to what one image holds."""
    Image.fromarray(DEEP // 16).save(tmp_path / "dark.png")
    assert np.array_equal(decode(str(tmp_path / "dark.png")), repeated(np.rint((DEEP // 16) / 257)))


def test_twelve_bits_are_scaled_by_what_twelve_bits_hold(tmp_path: Path) -> None:
    values = [0, 4095, 2048, 16]
    packed = b"".join(((a << 12) | b).to_bytes(3, "big") for a, b in zip(values[::2], values[1::2], strict=True))
    tags = {256: 4, 257: 1, 258: 12, 259: 1, 262: 1, 273: 8 + 2 + 12 * 8 + 4, 278: 1, 279: len(packed)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    (tmp_path / "twelve.tif").write_bytes(
        struct.pack("<2sHI", b"II", 42, 8) + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0) + packed
    )
    assert decode(str(tmp_path / "twelve.tif"))[0, :, 0].tolist() == [0, 255, 128, 1]


def test_a_pgm_is_scaled_by_the_largest_value_that_it_names(tmp_path: Path) -> None:
    (tmp_path / "twelve.pgm").write_bytes(b"P5 3 1 4095\n" + struct.pack(">3H", 0, 4095, 2048))
    assert decode(str(tmp_path / "twelve.pgm"))[0, :, 0].tolist() == [0, 255, 128]


def test_colours_of_sixteen_bits_keep_their_upper_eight(tmp_path: Path) -> None:
    row = struct.pack(">6H", 0, 0x1234, 0xFFFF, 0x8080, 0x00FF, 0x0FFF)
    (tmp_path / "deep.png").write_bytes(png(16, 2, row, 2, b""))
    assert decode(str(tmp_path / "deep.png")).tolist() == [[[0, 0x12, 255], [0x80, 0, 0x0F]]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_where_zero_is_white_it_is_white_at_every_depth(dtype: type, tmp_path: Path) -> None:
    grey = GREY if dtype is np.uint8 else GREY.astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "image.tif")
    content = (tmp_path / "image.tif").read_bytes()
    (tmp_path / "image.tif").write_bytes(content.replace(*(struct.pack("<HHII", 262, 3, 1, zero) for zero in (1, 0))))
    assert np.array_equal(decode(str(tmp_path / "image.tif")), repeated(255 - GREY))


def png(depth: int, colour_type: int, row: bytes, width: int, clear: bytes) -> bytes:
    """A PNG of one row with a clear value, as Pillow cannot write it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    header = struct.pack(">IIBBBBB", width, 1, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    if clear:
        parts.insert(1, (b"tRNS", clear))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, content) for kind, content in parts)


@pytest.mark.parametrize(
    ("depth", "colour_type", "row", "clear", "seen"),
    [
        (1, 0, b"\x40", (0,), [255, 255]),
        (2, 0, b"\x10", (0,), [255, 85]),
        (2, 0, b"\x90", (2,), [255, 85]),
        (4, 0, b"\x5a", (5,), [255, 170]),
        (8, 0, b"\x05\xaa", (5,), [255, 170]),
        (16, 0, b"\x05\x00\xaa\xaa", (0x500,), [255, 170]),
        (8, 2, b"\x05\x05\x05\xaa\xaa\xaa", (5, 5, 5), [255, 170]),
        (16, 2, b"\x05\x00" * 3 + b"\xaa\xaa" * 3, (0x500,) * 3, [255, 170]),
    ],
)
def test_one_clear_grey_or_colour_is_white_at_every_depth(
    depth: int, colour_type: int, row: bytes, clear: tuple[int, ...], seen: list[int], tmp_path: Path
) -> None:
    path = tmp_path / "clear.png"
    path.write_bytes(png(depth, colour_type, row, 2, struct.pack(f">{len(clear)}H", *clear)))
    assert decode(str(path)).tolist() == [[[value] * 3 for value in seen]]


@pytest.mark.parametrize("suffix", ["png", "gif", "webp"])
def test_a_glyph_on_a_clear_ground_is_seen(suffix: str, tmp_path: Path) -> None:
    """Black in every pixel, told apart by its alpha alone."""
    glyph = np.zeros((8, 8, 4), dtype=np.uint8)
    glyph[2:6, 3:5, 3] = 255
    image = Image.fromarray(glyph)
    if suffix == "gif":
        image = Image.fromarray(np.where(glyph[..., 3], 0, 1).astype(np.uint8), "P")
        image.putpalette([0] * 6)
        image.save(tmp_path / "glyph.gif", transparency=1)
    else:
        image.save(tmp_path / f"glyph.{suffix}", lossless=True)
    assert np.array_equal(decode(str(tmp_path / f"glyph.{suffix}")), repeated(255 - glyph[..., 3]))


def test_a_palette_with_alpha_of_its_own_is_on_white(tmp_path: Path) -> None:
    in_palette().save(tmp_path / "image.png", transparency=bytes([0, 128] + [255] * 46))
    alpha = np.full(48, 255)
    alpha[:2] = 0, 128
    assert np.abs(decode(str(tmp_path / "image.png")) - on_white(PALETTE, alpha.reshape(6, 8)).astype(int)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
def test_a_photograph_is_turned_once_as_its_file_says(suffix: str, orientation: int, tmp_path: Path) -> None:
    stored = Image.fromarray(np.kron(COLOUR, np.ones((8, 8, 1), dtype=np.uint8)))
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if suffix == "webp" else {"quality": 100} if suffix == "jpg" else {}
    stored.save(tmp_path / f"photo.{suffix}", exif=exif, **lossless)
    stored.getexif()[0x0112] = orientation
    expected = np.asarray(ImageOps.exif_transpose(stored))
    found = decode(str(tmp_path / f"photo.{suffix}"))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).mean() < 4


def test_damaged_exif_leaves_a_whole_image_as_it_is_stored(tmp_path: Path) -> None:
    Image.fromarray(COLOUR).save(tmp_path / "photo.png", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert np.array_equal(decode(str(tmp_path / "photo.png")), COLOUR)


def test_of_an_animation_the_first_frame_and_of_pages_none(tmp_path: Path) -> None:
    frames = [Image.fromarray(COLOUR), Image.fromarray(COLOUR[::-1].copy())]
    frames[0].save(tmp_path / "moves.png", save_all=True, append_images=frames[1:])
    assert np.array_equal(decode(str(tmp_path / "moves.png")), COLOUR)
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=r"pages\.tif cannot be read: it holds 2 pages"):
        decode(str(tmp_path / "pages.tif"))


def test_headers_tell_of_the_first_file_at_fault_and_how_many_there_are(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("whole.png", "empty.png", "text.png", "gone.png")]
    Image.fromarray(COLOUR).save(paths[0])
    paths[1].touch()
    paths[2].write_text("not an image")
    paths[3].symlink_to(tmp_path / "nowhere.png")
    check_headers(map(str, paths[:1]))
    for first, said in (
        (1, f"image {paths[1]} is empty; so it is with 2 more"),
        (2, f"image {paths[2]} cannot be read: cannot identify image file '{paths[2]}'; so it is with 1 more"),
        (3, f"image {paths[3]} cannot be read: No such file or directory"),
    ):
        with pytest.raises(UserError) as caught:
            check_headers(map(str, paths[first:]))
        assert str(caught.value) == said
