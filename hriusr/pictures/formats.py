"""Formats that results are written in: what each can hold, asked before anything is computed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hriusr.errors import DataError

_GIB4 = 2**32


@dataclass(frozen=True)
class Format:
    """What a format can hold.

    Attributes:
        dtypes: of its pixels.
        max_side: greatest height and width, pixels.
        has_alpha, has_frames: whether it can have them.
        max_bytes: of the pixels; None: no limit.
        has_metadata: whether it can have a colour profile and EXIF.
    """

    dtypes: Sequence[type]
    max_side: int
    has_alpha: bool = False
    has_frames: bool = False
    max_bytes: int | None = None
    has_metadata: bool = True


_BYTES, _INTEGERS = (np.uint8,), (np.uint8, np.uint16)
_JPEG = Format(_BYTES, 65500)  # libjpeg's own limit; the format's is 65535
_TIFF = Format((*_INTEGERS, np.float32), 2**31 - 1, has_alpha=True, has_frames=True)
TARGET_FORMATS = {
    ".png": Format(_INTEGERS, 2**31 - 1, has_alpha=True),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": Format(_BYTES, 16383, has_alpha=True, has_frames=True),
    ".tif": _TIFF,
    ".tiff": _TIFF,
    ".bmp": Format(_BYTES, 2**31 - 1, max_bytes=_GIB4 - 2**16, has_metadata=False),
    # 256 colours; a pixel is opaque or clear
    ".gif": Format(_BYTES, 65535, has_alpha=True, has_frames=True, has_metadata=False),
}


def check_target(
    target: str | Path, height: int, width: int, dtype: np.dtype | type, has_alpha: bool, num_frames: int = 1
) -> None:
    """Refuse a result that its format cannot hold.

    Args:
        target: the suffix decides.
        height, width: of the result, pixels.
        dtype: of its pixels.
        has_alpha: whether it has opacity.
        num_frames: of an animation or a TIFF with pages.

    Raises:
        DataError: says what cannot be held and which formats can.
    """
    suffix, target_format = Path(target).suffix.lower(), format_of(target)
    dtype = np.dtype(dtype)
    num_bytes = height * width * 3 * dtype.itemsize

    def fits(candidate: Format) -> bool:
        return (
            dtype.type in candidate.dtypes
            and max(height, width) <= candidate.max_side
            and candidate.has_alpha >= has_alpha
            and candidate.has_frames >= (num_frames > 1)
            and (candidate.max_bytes is None or num_bytes <= candidate.max_bytes)
        )

    if fits(target_format):
        return
    problems = [
        (dtype.type not in target_format.dtypes, "floating-point pixels" if dtype.kind == "f" else "16 bits a channel"),
        (
            max(height, width) > target_format.max_side,
            f"{width}x{height} pixels (at most {target_format.max_side} a side)",
        ),
        (has_alpha and not target_format.has_alpha, "transparency"),
        (num_frames > 1 and not target_format.has_frames, f"{num_frames} frames"),
        (target_format.max_bytes is not None and num_bytes > target_format.max_bytes, f"{num_bytes / 1e9:.1f} GB"),
    ]
    problem = " or ".join(what for is_so, what in problems if is_so)
    others = [name for name, candidate in TARGET_FORMATS.items() if fits(candidate) and name not in (".tiff", ".jpeg")]
    remedy = f"use {' or '.join(others)}" if others else "no format that we write can"
    raise DataError(f"cannot write {target}: {suffix} cannot hold {problem}: {remedy}")


def format_of(target: str | Path) -> Format:
    """Look up the format of a file's suffix.

    Raises:
        DataError: there is none, or not one that we write.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in TARGET_FORMATS:
        raise DataError(
            f"cannot write {target}: {suffix or 'no suffix'} is not a format to write: "
            f"use one of {', '.join(TARGET_FORMATS)}"
        )
    return TARGET_FORMATS[suffix]
