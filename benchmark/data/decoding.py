"""An image file as a person sees it in a viewer: RGB of 8 bits, on white, upright; or a refusal that names the file.

The table of modes is in benchmark/README.md; :data:`VERSION` is part of the identity of data that are decoded.

Pillow decodes. Of a JPEG of 500 x 375 pixels it takes 1.1 ms of a core, simplejpeg 0.75, torchvision 0.85, to the same
bytes: of the 2 ms that a pair of views takes in a loading process, too little for a second decoder, and torchvision's
is to be removed. JPEG's own down-scaling to a half takes 1.0 ms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from itertools import repeat
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmark.runtime.errors import UserError

if TYPE_CHECKING:  # Pillow takes a tenth of a second to import: images in memory do without
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

# Raised whenever a file becomes other pixels. 1: Pillow's convert("RGB"), which clips and drops alpha and orientation.
VERSION = 2

_PLAIN = ("1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "LAB")
_SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N")
_BITS_PER_SAMPLE, _PHOTOMETRIC, _ORIENTATION = 258, 262, 0x0112  # tags of TIFF, the last of EXIF too
_HEADERS_AT_ONCE = 16  # on a network's file system opening a file is waiting


Content = Callable[[], bytes]  # of a file that lies in a table, when it is asked for


def decode(name: str, content: Content | None = None) -> NDArray[np.uint8]:
    """The image in a file, (H, W, 3): in that of this path, or in one of this ``content``.

    Raises :class:`UserError`, naming it, where it is damaged or has no such form.
    """
    import PIL.Image

    try:
        with PIL.Image.open(BytesIO(content()) if content else name) as image:
            _check(image)
            _scale_clear_value(image)
            image.load()
            return _seen(image)
    # By the format and by the fault Pillow raises about anything: OSError, SyntaxError, struct.error, KeyError.
    except Exception as error:
        raise UserError(f"image {name} cannot be read: {_said(error)}") from error


def check_headers(names: Iterable[str], contents: Iterable[Content] | None = None) -> str:
    """Look at the existence, size and header of files, as :func:`decode` takes them: '' where all are well.

    Raises :class:`UserError` naming the first that is not, and telling how many are not.
    """
    with ThreadPoolExecutor(_HEADERS_AT_ONCE) as pool:
        faults = [fault for fault in pool.map(_fault, names, contents or repeat(None)) if fault]
    if faults:
        raise UserError(faults[0] + (f"; so it is with {len(faults) - 1} more" if len(faults) > 1 else ""))
    return ""


def _fault(name: str, content: Content | None) -> str:
    import PIL.Image

    try:
        held = content() if content else b""
        if not (len(held) if content else Path(name).stat().st_size):
            return f"image {name} is empty"
        with PIL.Image.open(BytesIO(held) if content else name) as image:
            _check(image)
    except Exception as error:
        return f"image {name} cannot be read: {getattr(error, 'strerror', None) or _said(error)}"
    return ""


def _said(error: Exception) -> str:
    """Its words, without a name that is none."""
    return str(error).partition(" <_io.")[0] or type(error).__name__


def _check(image: Image) -> None:
    """Raise :class:`UserError` where viewers would not agree on what the image looks like."""
    pages = getattr(image, "n_frames", 1) if image.format == "TIFF" else 1
    if pages > 1:
        raise UserError(f"it holds {pages} pages; save the one that is meant")
    # A PGM of more than 8 bits is scaled to 16 by Pillow, which calls it I.
    if image.mode in _PLAIN or image.mode in _SIXTEEN_BITS or _has_alpha(image) or _is_deep_pgm(image):
        return
    what = {"I": "integers of 32 bits or with a sign", "F": "floating-point numbers"}
    told = what.get(image.mode, f"of Pillow's mode {image.mode}")
    raise UserError(f"its pixels are {told}, without a white of their own; save it with 8 or 16 bits a channel")


def _has_alpha(image: Image) -> bool:
    return image.mode in ("LA", "La", "PA", "RGBA", "RGBa")


def _is_deep_pgm(image: Image) -> bool:
    return image.mode == "I" and image.format == "PPM"


def _scale_clear_value(image: ImageFile) -> None:
    """Of a PNG: the one grey or colour that is clear, from the file's bits to those that Pillow decodes them to."""
    clear = image.info.get("transparency")
    if image.format == "PNG" and clear is not None:
        depth = image.tile[0].args
        if depth in ("L;2", "L;4"):
            image.info["transparency"] = clear * {"L;2": 85, "L;4": 17}[depth]
        elif depth == "RGB;16B":
            image.info["transparency"] = tuple(value >> 8 for value in clear)


def _seen(image: Image) -> NDArray[np.uint8]:
    """A loaded image, turned as its file says, on white."""
    import PIL.Image

    if image.mode in _SIXTEEN_BITS or _is_deep_pgm(image):
        seen = _from_sixteen_bits(image)
    elif _has_alpha(image) or image.has_transparency_data:
        seen = image.convert("RGBA" if image.mode != "La" else "LA").convert("RGBA")
        seen = PIL.Image.alpha_composite(PIL.Image.new("RGBA", seen.size, "white"), seen).convert("RGB")
    else:
        seen = image if image.mode == "RGB" else image.convert("RGB")  # which copies
    with suppress(Exception):  # EXIF may be damaged where the image is whole; a viewer then shows it as stored
        turn = _TURNS.get(image.getexif().get(_ORIENTATION, 1))
        if turn is not None:
            seen = seen.transpose(PIL.Image.Transpose[turn])
    return np.array(seen)


_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}


def _from_sixteen_bits(image: Image) -> Image:
    """Of all that the file's bits can say, 0 to 65535 mostly: never of what this one image holds."""
    import PIL.Image

    tags = getattr(image, "tag_v2", {})
    values = np.asarray(image).astype(np.float64)
    clear = values == image.info.get("transparency", -1)
    values = np.rint(values * (255 / (2 ** max(tags.get(_BITS_PER_SAMPLE, (16,))) - 1)))
    if tags.get(_PHOTOMETRIC) == 0:  # zero is white, which Pillow turns round at 8 bits only
        values = 255 - values
    values[clear] = 255
    return PIL.Image.fromarray(values.astype(np.uint8)).convert("RGB")
