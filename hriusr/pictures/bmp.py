"""BMP (BITMAPINFOHEADER), which libvips does not know: rows as they lie in the file, so memory stays flat."""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from hriusr.pictures.vips import load_vips

_ROWS = 256


def open_plain_bmp(path: Path) -> Any | None:
    """Return a BMP of 24 bits without compression, and whole, as a pyvips.Image; None: it is something else."""
    with open(path, "rb") as file:
        header = file.read(54)
    if len(header) < 54 or header[:2] != b"BM":
        return None
    offset, header_size, width, height, _, num_bits, compression = struct.unpack_from("<IIiiHHI", header, 10)
    row_bytes = _row_bytes(width, 3)
    is_plain = header_size >= 40 and num_bits == 24 and compression == 0 and width > 0 and height != 0
    if not is_plain or path.stat().st_size < offset + row_bytes * abs(height):
        return None
    image = load_vips().Image.rawload(os.fsencode(path), row_bytes, abs(height), 1, offset=offset)
    image = image.crop(0, 0, 3 * width, abs(height)).bandfold(factor=3)
    image = image.flipver() if height > 0 else image
    dots_per_metre = struct.unpack_from("<ii", header, 38)
    resolution = {name: dots / 1000 for name, dots in zip(("xres", "yres"), dots_per_metre, strict=True) if dots > 0}
    return image[2].bandjoin([image[1], image[0]]).copy(interpretation="srgb", **resolution)


def write_bmp(image: Any, file: BinaryIO) -> None:
    """Write a pyvips.Image of bytes: 24 bits, or 8 with a grey palette."""
    num_channels = image.bands
    palette = b"" if num_channels == 3 else bytes(value for grey in range(256) for value in (grey, grey, grey, 0))
    offset, num_bytes = 54 + len(palette), _row_bytes(image.width, num_channels) * image.height
    resolution = (round(image.xres * 1000), round(image.yres * 1000))
    file.write(struct.pack("<2sIHHI", b"BM", offset + num_bytes, 0, 0, offset))
    file.write(
        struct.pack("<IiiHHIIiiII", 40, image.width, image.height, 1, 8 * num_channels, 0, num_bytes, *resolution, 0, 0)
    )
    file.write(palette)
    for rows in _stored_rows(image):
        file.write(rows.tobytes())


def _stored_rows(image: Any) -> Iterator[np.ndarray]:
    """Yield blocks of rows as a BMP has them: from the bottom up, BGR, each filled up to whole 4 bytes."""
    row_bytes, used = _row_bytes(image.width, image.bands), image.width * image.bands
    for stop in range(image.height, 0, -_ROWS):
        start = max(0, stop - _ROWS)
        rows_HWC = image.crop(0, start, image.width, stop - start).numpy().reshape(stop - start, image.width, -1)
        rows = np.zeros((stop - start, row_bytes), np.uint8)
        rows[:, :used] = rows_HWC[::-1, :, ::-1].reshape(stop - start, -1)
        yield rows


def _row_bytes(width: int, num_channels: int) -> int:
    return -(-width * num_channels // 4) * 4
