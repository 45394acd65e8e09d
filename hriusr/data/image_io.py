"""Picture files and arrays and tensors: the one place that knows about formats, colour order and value range.

Arrays are RGB, HWC, uint8 (0..255) or uint16 (0..65535); tensors are RGB, CHW, float32, 0..1. OpenCV's BGR does not
leave this file. As with BasicSR, the orientation in EXIF is applied and grey pictures become three equal channels.
"""

import functools
import io
import logging
import os
import re
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from hriusr.atomic_file import write_atomically
from hriusr.data.image_bytes import has_alpha, is_tiff, tiff_channels, why_damaged
from hriusr.errors import DataError

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
_FORMATS = "PNG, JPEG, WebP, TIFF or BMP"
_FATAL = 1  # OpenCV's log level
_ORIENTATION = 0x0112  # EXIF tag; values 5..8 swap height and width


def read_image(path: str | Path) -> np.ndarray:
    """Read a picture file.

    Args:
        path: PNG, JPEG, WebP, TIFF or BMP; the content decides, not the name.

    Returns:
        (H, W, 3) RGB; uint8, or uint16 where the file has 16 bits a channel.

    Raises:
        DataError: the file is missing, empty, cut off, damaged or no picture; the message names it and the remedy.
    """
    return read_image_bytes(read_file(path), str(path))


def read_file(path: str | Path) -> bytes:
    """Read all bytes of a file.

    Raises:
        DataError: the file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the path, or run `hriusr prepare` for this dataset") from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not a picture") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from None


def read_image_bytes(content: bytes, name: str) -> np.ndarray:
    """Decode a picture held in memory.

    Args:
        content: the whole encoded file.
        name: what error messages call it.

    Returns:
        (H, W, 3) RGB; uint8 or uint16.

    Raises:
        DataError: as read_image.
    """
    damage = why_damaged(content)
    if damage:
        raise DataError(f"{name} {damage}: copy it again, or take it out of the folder")
    if is_tiff(content) and tiff_channels(content) > 4:
        raise DataError(f"{name} has {tiff_channels(content)} channels: save it as an RGB or grey picture")
    _quieten_opencv()
    # In colour, the alpha of a TIFF would be mixed in. Which formats' EXIF OpenCV knows depends on its version.
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    flags = cv2.IMREAD_UNCHANGED if is_tiff(content) else flags
    try:
        decoded = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
    except cv2.error as error:
        raise DataError(f"{name} cannot be decoded ({error.err}): save it again as PNG") from None
    if decoded is None:
        raise DataError(f"{name} is not a whole {_FORMATS} picture: copy it again, or take it out of the folder")
    if decoded.dtype not in (np.uint8, np.uint16):
        raise DataError(f"{name} has {decoded.dtype} pixels: save it with 8 or 16 bits a channel")
    if has_alpha(content):
        _warn_of_alpha(name)
    if decoded.ndim == 2:
        return cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB)
    if decoded.shape[2] == 3:
        return _turn_upright(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), content)
    if decoded.dtype == np.uint8:  # a TIFF with alpha: OpenCV has multiplied the colours by it
        return np.array(Image.open(io.BytesIO(content)).convert("RGB"))
    return cv2.cvtColor(decoded, cv2.COLOR_BGRA2RGB)


def image_size(path: str | Path) -> tuple[int, int]:
    """Read (H, W) from a picture's header, as read_image would return it, without decoding.

    Raises:
        DataError: the file is missing or its header is no picture's.
    """
    raise_pillows_limit()
    try:
        with Image.open(path) as image:
            width, height = image.size
            is_turned = _orientation(image) >= 5
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the path") from None
    except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError):
        damage = why_damaged(read_file(path)) or f"is not a whole {_FORMATS} picture"
        raise DataError(f"{path} {damage}: copy it again, or take it out of the folder") from None
    return (width, height) if is_turned else (height, width)


def encode_image(image_HWC: np.ndarray, suffix: str, *, jpeg_quality: int = 95, png_compression: int = 3) -> bytes:
    """Encode a picture; all formats but JPEG are lossless.

    Args:
        image_HWC: RGB (H, W, 3), or grey (H, W) or (H, W, 1); uint8, or uint16 for PNG and TIFF.
        suffix: one of IMAGE_SUFFIXES.
        jpeg_quality: 0..100.
        png_compression: 0 (fast, large) .. 9 (slow, small).

    Raises:
        DataError: the format is unknown or cannot hold the picture.
        ValueError: the array is no picture.
    """
    if image_HWC.ndim == 2:
        image_HWC = image_HWC[..., None]
    if image_HWC.ndim != 3 or image_HWC.shape[2] not in (1, 3) or image_HWC.dtype not in (np.uint8, np.uint16):
        raise ValueError(
            f"image (shape {image_HWC.shape}, {image_HWC.dtype}) must be (H, W, 3) or (H, W, 1), uint8 or uint16"
        )
    suffix = suffix.lower()
    _check_suffix(suffix)
    if image_HWC.dtype == np.uint16 and suffix not in (".png", ".tif", ".tiff"):
        raise DataError(f"{suffix} cannot hold 16 bits a channel: use .png or .tif")
    parameters = {
        ".png": [cv2.IMWRITE_PNG_COMPRESSION, png_compression],
        ".jpg": [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality],
        ".jpeg": [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality],
        ".webp": [cv2.IMWRITE_WEBP_QUALITY, 101],  # above 100: lossless
    }.get(suffix, [])
    bgr_HWC = cv2.cvtColor(image_HWC, cv2.COLOR_RGB2BGR) if image_HWC.shape[2] == 3 else image_HWC
    try:
        is_encoded, encoded = cv2.imencode(suffix, np.ascontiguousarray(bgr_HWC), parameters)
    except cv2.error as error:
        raise DataError(f"a {image_HWC.shape} picture cannot be written as {suffix} ({error.err}): use .png") from None
    if not is_encoded:
        raise DataError(f"a {image_HWC.shape} picture cannot be written as {suffix}: use .png")
    return encoded.tobytes()


def check_suffix(path: str | Path) -> None:
    """Refuse a name that write_image would refuse, before there is a picture.

    Raises:
        DataError: the format is unknown.
    """
    try:
        _check_suffix(Path(path).suffix.lower())
    except DataError as error:
        raise DataError(f"cannot write {path}: {error}") from None


def _check_suffix(suffix: str) -> None:
    if suffix not in IMAGE_SUFFIXES:
        raise DataError(f"{suffix or 'no suffix'} is not a format to write: use one of {', '.join(IMAGE_SUFFIXES)}")


def write_image(path: str | Path, image_HWC: np.ndarray, *, jpeg_quality: int = 95, png_compression: int = 3) -> None:
    """Write a picture file whole or not at all; makes its folder.

    Args:
        path: the suffix decides on the format; all but JPEG are lossless.
        image_HWC: as encode_image takes it.
        jpeg_quality: 0..100.
        png_compression: 0 (fast, large) .. 9 (slow, small).

    Raises:
        DataError: the format is unknown or cannot hold the picture.
        HriusrError: the disk is full or the folder not writable.
    """
    try:
        content = encode_image(image_HWC, Path(path).suffix, jpeg_quality=jpeg_quality, png_compression=png_compression)
    except DataError as error:
        raise DataError(f"cannot write {path}: {error}") from None
    write_atomically(path, content)


def list_images(folder: str | Path, *, recursive: bool = False) -> list[Path]:
    """List the pictures of a folder, in the order a person would: 2.png before 10.png.

    Args:
        folder: files without a picture's suffix, and hidden files and folders, are passed over.
        recursive: also the folders below.

    Raises:
        DataError: there is no such folder, or it holds no picture.
    """
    folder = Path(folder)
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise DataError(f"folder {folder} {what}: check the path, or run `hriusr prepare` for this dataset")
    paths = []
    for parent, subfolders, names in os.walk(folder):  # asks the disk once a folder, not once a file
        subfolders[:] = [name for name in subfolders if recursive and not name.startswith(".")]
        suitable = (name for name in names if name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith("."))
        paths += [os.path.join(parent, name) for name in suitable]
    if not paths:
        raise DataError(f"folder {folder} holds no picture ({_FORMATS}): check the path, or put pictures there")
    return [Path(path) for path in sorted(paths, key=natural_key)]


def natural_key(name: str) -> tuple:
    """Return a sort key that compares runs of digits as numbers and letters without case."""
    pieces = re.split(r"(\d+)", name.lower())
    return [(int(piece), piece) if index % 2 else (0, piece) for index, piece in enumerate(pieces)], name


def image_to_tensor(image_HWC: np.ndarray) -> torch.Tensor:
    """Turn a picture into a tensor of its own memory.

    Args:
        image_HWC: uint8 or uint16 (H, W, C), or float already in 0..1.

    Returns:
        (C, H, W) float32; integers divided by 255 or 65535.
    """
    image_CHW = image_HWC.transpose(2, 0, 1).astype(np.float32, order="C")
    if image_HWC.dtype.kind == "u":
        image_CHW /= np.iinfo(image_HWC.dtype).max
    return torch.from_numpy(image_CHW)


def tensor_to_image(image_CHW: torch.Tensor, dtype: type = np.uint8) -> np.ndarray:
    """Turn a network's output into a picture, with the clamping and rounding of BasicSR's tensor2img.

    Args:
        image_CHW: (C, H, W) or (1, C, H, W), any float type and device, 0..1; what lies outside is clamped.
        dtype: np.uint8, or np.uint16 for 16 bits a channel.

    Returns:
        (H, W, C); NaN becomes 0, with a warning.
    """
    if image_CHW.ndim == 4 and image_CHW.shape[0] == 1:
        image_CHW = image_CHW[0]
    if image_CHW.ndim != 3:
        raise ValueError(f"image_CHW (shape {tuple(image_CHW.shape)}) must be (C, H, W) or (1, C, H, W)")
    image_CHW = image_CHW.detach().float().cpu()
    if image_CHW.isnan().any():
        logger.warning("a picture of %s has NaN pixels: they are shown black", tuple(image_CHW.shape))
        image_CHW = image_CHW.nan_to_num(nan=0.0)
    image_HWC = image_CHW.clamp(0, 1).permute(1, 2, 0).contiguous().numpy() * np.iinfo(dtype).max
    return image_HWC.round().astype(dtype)


def _orientation(image: Image.Image) -> int:
    """Read EXIF's orientation, 1..8; a TIFF's is applied by its decoder.

    Where the header holds no EXIF, getexif is not asked: it would decode a whole PNG to look behind its pixels.
    """
    if "exif" not in image.info or image.format == "TIFF":
        return 1
    return image.getexif().get(_ORIENTATION, 1)


def _turn_upright(image_HWC: np.ndarray, content: bytes) -> np.ndarray:
    """Apply the orientation in the EXIF of a JPEG, WebP or PNG."""
    if not any(mark in content for mark in (b"Exif\0\0", b"EXIF", b"eXIf")):
        return image_HWC
    raise_pillows_limit()
    try:
        with Image.open(io.BytesIO(content)) as image:
            orientation = _orientation(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):  # broken EXIF: OpenCV has read the pixels
        return image_HWC
    if orientation >= 5:
        image_HWC = image_HWC.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image_HWC = image_HWC[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image_HWC = image_HWC[::-1]
    return np.ascontiguousarray(image_HWC)


@functools.cache
def raise_pillows_limit() -> None:
    """Let Pillow open the headers of all pictures that OpenCV can decode."""
    Image.MAX_IMAGE_PIXELS = 2**30


@functools.cache
def _quieten_opencv() -> None:
    """Stop OpenCV from writing about damaged files: the error that we raise says it."""
    set_level = cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel  # OpenCV 4; 5
    set_level(_FATAL)


def _warn_of_alpha(name: str) -> None:
    """Warn of transparency, once a folder: a whole dataset may have it."""
    folder = str(Path(name).parent)
    if folder not in _folders_warned_of:
        _folders_warned_of.add(folder)
        logger.warning("%s has an alpha channel, which is ignored (said once a folder)", name)


_folders_warned_of: set[str] = set()
