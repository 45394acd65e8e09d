"""A picture file with all that a person expects back: colours, transparency, whether it is grey, 8 or 16 bits.

Training reads RGB alone (image_io.read_image); upscaling must return what it was given. Orientation in EXIF is applied.
"""

import io
import warnings
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from hriusr.atomic_file import write_atomically
from hriusr.data.image_bytes import has_alpha, why_damaged
from hriusr.data.image_io import _quieten_opencv, encode_image, read_file, read_image_bytes
from hriusr.errors import DataError

_GREY_MODES = ("1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L")
_SUFFIXES_WITH_ALPHA = (".png", ".webp", ".tif", ".tiff")


@dataclass
class Picture:
    """Pixels of a picture.

    Attributes:
        colour_HWC: RGB (H, W, 3), uint8 or uint16; three equal channels where is_grey.
        alpha_HW: opacity (H, W), same type, not multiplied into the colours; None: opaque.
        is_grey: whether the file has (or is to have) one channel of brightness instead of three of colour.
    """

    colour_HWC: np.ndarray
    alpha_HW: np.ndarray | None = None
    is_grey: bool = False


def read_picture(path: str | Path) -> Picture:
    """Read a picture file with its transparency.

    Args:
        path: PNG, JPEG, WebP, TIFF or BMP; the content decides, not the name.

    Raises:
        DataError: the file is missing, cut off, damaged or no picture; the message names it and the remedy.
    """
    content = read_file(path)
    if has_alpha(content):
        damage = why_damaged(content)
        if damage:
            raise DataError(f"{path} {damage}: copy or download it again")
        colour_HWC, alpha_HW = _decode_with_alpha(content, str(path))
    else:
        colour_HWC, alpha_HW = read_image_bytes(content, str(path)), None
    return Picture(colour_HWC, alpha_HW, _is_grey(content))


def encode_picture(picture: Picture, suffix: str, *, jpeg_quality: int = 95) -> bytes:
    """Encode a picture; grey with transparency becomes RGB with transparency.

    Args:
        picture: what to encode.
        suffix: format, as image_io.encode_image takes it.
        jpeg_quality: 0..100.

    Raises:
        DataError: the format is unknown or cannot hold 16 bits, transparency or the size.
    """
    if picture.alpha_HW is None:
        image_HWC = picture.colour_HWC[..., :1] if picture.is_grey else picture.colour_HWC
        return encode_image(image_HWC, suffix, jpeg_quality=jpeg_quality)
    if suffix.lower() not in _SUFFIXES_WITH_ALPHA:
        raise DataError(f"{suffix} cannot hold transparency: use .png, .webp or .tif")
    if picture.colour_HWC.dtype == np.uint8:
        buffer = io.BytesIO()
        image = Image.fromarray(np.dstack([picture.colour_HWC, picture.alpha_HW]))
        try:
            image.save(buffer, Image.registered_extensions()[suffix.lower()], lossless=True, exact=True)
        except (OSError, ValueError) as error:
            raise DataError(
                f"a {image.width}x{image.height} picture cannot be written as {suffix} ({error}): use .png"
            ) from None
        return buffer.getvalue()
    if suffix.lower() == ".webp":
        raise DataError(".webp cannot hold 16 bits a channel: use .png or .tif")
    bgra_HWC = np.dstack([picture.colour_HWC[..., ::-1], picture.alpha_HW])
    is_encoded, encoded = cv2.imencode(suffix.lower(), np.ascontiguousarray(bgra_HWC))
    if not is_encoded:
        raise DataError(f"a {bgra_HWC.shape} picture cannot be written as {suffix}: use .png")
    return encoded.tobytes()


def write_picture(path: str | Path, picture: Picture, *, jpeg_quality: int = 95) -> None:
    """Write a picture file whole or not at all; makes its folder.

    Raises:
        DataError: the format is unknown or cannot hold the picture.
        HriusrError: the disk is full or the folder not writable.
    """
    try:
        content = encode_picture(picture, Path(path).suffix, jpeg_quality=jpeg_quality)
    except DataError as error:
        raise DataError(f"cannot write {path}: {error}") from None
    write_atomically(path, content)


def _decode_with_alpha(content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return colours (H, W, 3) and opacity (H, W). 8 bits by Pillow: OpenCV multiplies a TIFF's colours by alpha."""
    _quieten_opencv()
    try:
        deep_HWC = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        deep_HWC = None
    if deep_HWC is not None and deep_HWC.dtype == np.uint16 and deep_HWC.ndim == 3:
        alpha_HW = deep_HWC[..., -1]
        colour_HWC = deep_HWC[..., 2::-1] if deep_HWC.shape[2] == 4 else np.repeat(deep_HWC[..., :1], 3, axis=2)
        return np.ascontiguousarray(colour_HWC), np.ascontiguousarray(alpha_HW)
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")  # Pillow warns of large pictures, and of palettes with transparency
            rgba_HWC = np.array(ImageOps.exif_transpose(image).convert("RGBA"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{name} cannot be decoded ({error}): save it again as PNG") from None
    return np.ascontiguousarray(rgba_HWC[..., :3]), np.ascontiguousarray(rgba_HWC[..., 3])


def _is_grey(content: bytes) -> bool:
    try:
        with warnings.catch_warnings(), Image.open(io.BytesIO(content)) as image:
            warnings.simplefilter("ignore")
            return image.mode in _GREY_MODES
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False  # Pillow does not know this kind, OpenCV does: three channels hold anything
