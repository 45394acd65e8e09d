"""A raw file of pixels as a pyvips.Image to be read once, from top to bottom, in memory that does not grow.

libvips can open raw files, but maps them: a file of 3 GB then counts as 3 GB of resident memory. Strips of a TIFF it
reads one by one. So the raw file is shown to it as an uncompressed BigTIFF, whose header is made here.
"""

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.pictures.vips import FORMATS, load_vips

_STRIP_BYTES = 2**20
_SHORT, _LONG, _LONG8 = 3, 4, 16  # types of values, TIFF 6.0 and BigTIFF
_SIZES = {_SHORT: 2, _LONG: 4, _LONG8: 8}


@contextmanager
def streamed_raw(path: str | Path, height: int, width: int, num_channels: int, dtype: np.dtype) -> Iterator[Any]:
    """Give a pyvips.Image of a raw file, which holds as long as the block.

    Args:
        path: pixels (height, width, num_channels) as numpy's tofile writes them.
        height, width: pixels.
        num_channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        dtype: uint8, uint16 or float32.
    """
    vips = load_vips()
    with open(path, "rb", buffering=0) as file:
        joined = _Joined(_tiff_header(height, width, num_channels, dtype), file)
        source = vips.SourceCustom()  # libvips does not keep it: this name must live until the last pixel is read
        source.on_read(joined.read)
        source.on_seek(joined.seek)
        image = vips.Image.tiffload_source(source, access="sequential", fail_on="error")
        yield image.copy(interpretation=_interpretation(num_channels, dtype))


@contextmanager
def mapped_raw(path: str | Path, height: int, width: int, num_channels: int, dtype: np.dtype) -> Iterator[Any]:
    """Give a pyvips.Image of a raw file to be read in any order; arguments as streamed_raw has them."""
    yield load_vips().Image.rawload(
        os.fsencode(path),
        width,
        height,
        num_channels,
        format=FORMATS[dtype],
        interpretation=_interpretation(num_channels, dtype),
    )


def _interpretation(num_channels: int, dtype: np.dtype) -> str:
    grey, colour = {"uint8": ("b-w", "srgb"), "uint16": ("grey16", "rgb16"), "float32": ("b-w", "scrgb")}[dtype.name]
    return grey if num_channels <= 2 else colour


class _Joined:
    """Some bytes and a file behind them, read as one."""

    def __init__(self, header: bytes, file: FileIO):
        self._header = header
        self._file = file
        self._length = len(header) + os.fstat(self._file.fileno()).st_size
        self._position = 0

    def read(self, size: int) -> bytes:
        if self._position < len(self._header):
            content = self._header[self._position : self._position + size]
        else:
            self._file.seek(self._position - len(self._header))
            content = self._file.read(size)
        self._position += len(content)
        return content

    def seek(self, offset: int, whence: int) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        self._position = origin + offset
        return self._position


def _tiff_header(height: int, width: int, num_channels: int, dtype: np.dtype) -> bytes:
    """Make a BigTIFF's header and directory, in this machine's order of bytes."""
    order = "<" if np.little_endian else ">"
    row_bytes = width * num_channels * dtype.itemsize
    strip_rows = max(1, _STRIP_BYTES // row_bytes)
    num_strips = -(-height // strip_rows)
    counts = np.full(num_strips, strip_rows * row_bytes, np.uint64)
    counts[-1] = (height - (num_strips - 1) * strip_rows) * row_bytes
    tags = [
        (256, _LONG, [width]),
        (257, _LONG, [height]),
        (258, _SHORT, [8 * dtype.itemsize] * num_channels),
        (259, _SHORT, [1]),  # no compression
        (262, _SHORT, [2 if num_channels > 2 else 1]),  # RGB; black is 0
        (273, _LONG8, counts.cumsum() - counts),  # offsets, from the end of the header so far
        (277, _SHORT, [num_channels]),
        (278, _LONG, [strip_rows]),
        (279, _LONG8, counts),
        (284, _SHORT, [1]),  # channels of a pixel side by side
        *([(338, _SHORT, [2])] if num_channels in (2, 4) else []),  # alpha, not multiplied
        (339, _SHORT, [3 if dtype.kind == "f" else 1] * num_channels),
    ]
    values_start = 16 + 8 + 20 * len(tags) + 8
    length = values_start + sum(_SIZES[kind] * len(v) for _, kind, v in tags if _SIZES[kind] * len(v) > 8)
    directory, values = struct.pack(order + "Q", len(tags)), b""
    for tag, kind, numbers in tags:
        numbers = numbers + np.uint64(length) if tag == 273 else numbers
        packed = np.asarray(numbers).astype(f"{order}u{_SIZES[kind]}").tobytes()
        place = packed.ljust(8, b"\0")
        if len(packed) > 8:
            place = struct.pack(order + "Q", values_start + len(values))
            values += packed
        directory += struct.pack(order + "HHQ", tag, kind, len(numbers)) + place
    magic = struct.pack(order + "2sHHHQ", b"II" if np.little_endian else b"MM", 43, 8, 0, 16)
    return magic + directory + bytes(8) + values
