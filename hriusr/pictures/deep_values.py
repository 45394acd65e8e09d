"""Values of more than 8 bits in formats of which Pillow keeps 8: PGM and PPM, read here, and JPEG 2000, by OpenCV.

PNM: https://netpbm.sourceforge.net/doc/ppm.html. JPEG 2000: ISO/IEC 15444-1, A.5.1 (SIZ); SGI: its fourth byte.
"""

import re
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from hriusr.data.image_io import read_image_bytes
from hriusr.errors import HriusrError

_HEADER = 2**16  # bytes in which sizes are looked for
_GAP = rb"(?:\s|#[^\n]*\n)+"
_PNM = re.compile(rb"P([2356])" + (_GAP + rb"(\d+)") * 3 + rb"\s")
_SIZ = re.compile(rb"\xff\x4f\xff\x51.{36}(..)", re.DOTALL)  # start of codestream, then how many components there are
_GREATEST = 65535


def read_deep(path: Path, image: Image.Image) -> tuple[np.ndarray | None, str]:
    """Read a picture in full depth where Pillow would keep less.

    Args:
        path: the file.
        image: opened from it by Pillow.

    Returns:
        (H, W) or (H, W, 3) uint16, of 0..65535 whatever the file's greatest value; None: Pillow's pixels are all that
        there is to have. And a note where they are not all that the file holds.

    Raises:
        ValueError: the file is cut off or damaged.
    """
    if image.format == "PPM":
        return _read_pnm(path), ""
    num_bits = {"JPEG2000": _bits_of_jpeg_2000, "SGI": _bits_of_sgi}.get(image.format, lambda path: 8)(path)
    if num_bits <= 8 or image.mode.startswith("I"):
        return None, ""
    pixels = _read_jpeg_2000(path, image, num_bits) if image.format == "JPEG2000" and image.mode == "RGB" else None
    note = f"only 8 of its {num_bits} bits a channel are read: save it as PNG or TIFF to keep them"
    return (pixels, "") if pixels is not None else (None, note)


def _read_pnm(path: Path) -> np.ndarray | None:
    """Read a PGM or PPM whose values are beyond 255."""
    with open(path, "rb") as file:
        header = _PNM.match(file.read(_HEADER))
        kind, width, height, greatest = map(int, header.groups()) if header else (0, 0, 0, 0)
        if not 255 < greatest <= _GREATEST:
            return None
        file.seek(header.end())
        content = file.read()
    shape = (height, width) if kind in (2, 5) else (height, width, 3)
    if kind in (2, 3):
        values = np.array(re.sub(rb"#[^\n]*", b"", content).split()).astype(np.int64)
    else:
        values = np.frombuffer(content, ">u2", count=min(len(content) // 2, int(np.prod(shape))))
    if values.size < np.prod(shape):
        raise ValueError(f"{values.size} of {np.prod(shape)} values")
    return _scaled(values[: np.prod(shape)].reshape(shape), greatest)


def _scaled(values: np.ndarray, greatest: int) -> np.ndarray:
    """Return uint16 of 0..65535."""
    if greatest == _GREATEST:
        return values.astype(np.uint16)
    values = values.astype(np.uint32).clip(0, greatest)
    return ((values * _GREATEST + greatest // 2) // greatest).astype(np.uint16)


def _read_jpeg_2000(path: Path, image: Image.Image, num_bits: int) -> np.ndarray | None:
    """Read by OpenCV; None where it cannot, or sees other colours than Pillow, which also finds damage."""
    pillows = np.asarray(image)
    try:
        pixels = read_image_bytes(path.read_bytes(), str(path))
    except HriusrError:
        return None
    if pixels.dtype != np.uint16 or pixels.shape != pillows.shape:
        return None
    pixels = _scaled(pixels, 2**num_bits - 1)
    return pixels if np.abs((pixels >> 8).astype(np.int16) - pillows).max() <= 1 else None


def _bits_of_jpeg_2000(path: Path) -> int:
    content = path.read_bytes()
    found = _SIZ.search(content)
    if found is None:
        return 8
    (num_components,) = struct.unpack(">H", found[1])
    depths = content[found.end() : found.end() + 3 * num_components : 3]
    return max((depth & 0x7F) + 1 for depth in depths) if depths else 8


def _bits_of_sgi(path: Path) -> int:
    with open(path, "rb") as file:
        return 8 * file.read(4)[3]
