"""Pictures that libvips does not know, by Pillow: PPM, TGA, PCX, ICO, JPEG 2000, uncommon BMPs; read into memory."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hriusr.data.image_io import raise_pillows_limit
from hriusr.errors import DataError
from hriusr.pictures.deep_values import read_deep
from hriusr.pictures.vips import load_vips

_FORMATS = ("BMP", "DIB", "PPM", "TGA", "PCX", "ICO", "JPEG2000", "SGI")  # nothing that starts another program
_CONVERTED_TO = {"1": "L", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB", "YCbCr": "RGB", "HSV": "RGB"}
_INTERPRETATIONS = {1: "b-w", 2: "b-w", 3: "srgb", 4: "srgb"}
_MM_PER_INCH = 25.4


def open_with_pillow(path: Path, check_size: Callable[[int, int], None]) -> tuple[Any, tuple[str, ...]]:
    """Return a picture as a pyvips.Image, upright, with its resolution and colour profile, and what is left out.

    Args:
        path: the file.
        check_size: called with height and width before anything is decoded.

    Raises:
        DataError: no picture, damaged or of a kind that cannot be upscaled.
    """
    with _opened(path) as image:
        check_size(image.height, image.width)
        resolution, profile = image.info.get("dpi"), image.info.get("icc_profile")
        deep, note = read_deep(path, image)
        is_cmyk = image.mode == "CMYK"
        pixels_HWC = _pixels(ImageOps.exif_transpose(image)) if deep is None else _with_channels(deep)  # has no EXIF
    vips = load_vips()
    picture = vips.Image.new_from_array(pixels_HWC)
    interpretation = "cmyk" if is_cmyk else _INTERPRETATIONS.get(picture.bands, "multiband")
    if picture.format == "ushort":
        interpretation = {"b-w": "grey16", "srgb": "rgb16"}.get(interpretation, interpretation)
    settings = (
        {} if resolution is None else dict(zip(("xres", "yres"), (r / _MM_PER_INCH for r in resolution), strict=True))
    )
    picture = picture.copy(interpretation=interpretation, **settings)
    if profile:
        picture.set_type(vips.GValue.blob_type, "icc-profile-data", profile)
    return picture, (note,) if note else ()


def size_by_pillow(path: Path) -> tuple[int, int]:
    """Return (height, width) as the header says it, before any turning.

    Raises:
        DataError: no picture, or damaged there.
    """
    with _opened(path) as image:
        return image.height, image.width


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Give a picture of which Pillow has read the header; errors of the block become DataError too."""
    raise_pillows_limit()
    try:
        with warnings.catch_warnings(), Image.open(path, formats=_FORMATS) as image:
            warnings.simplefilter("ignore")
            yield image
    except (UnidentifiedImageError, Image.DecompressionBombError):
        raise DataError(
            f"{path} is no picture that can be read (PNG, JPEG, WebP, TIFF, BMP, GIF, still AVIF): "
            "take it out of the folder"
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(
            f"{path} is damaged or cut off ({error}): copy it again, or take it out of the folder"
        ) from None


def _pixels(image: Image.Image) -> np.ndarray:
    """Return (H, W, C) of 8 or 16 bits or float32; other integers as they are, for the caller to refuse."""
    mode = _CONVERTED_TO.get(image.mode, image.mode)
    if mode == "P":
        mode = "RGBA" if "transparency" in image.info else "RGB"
    pixels = np.array(image if mode == image.mode else image.convert(mode))
    if pixels.dtype.kind == "u" and pixels.dtype.itemsize == 2:
        pixels = pixels.astype(np.uint16)  # in this machine's order of bytes
    return _with_channels(pixels)


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[..., None]
