"""How videos are written: containers, encoders, and what colours mean where the source does not say it."""

from collections.abc import Sequence
from dataclasses import dataclass

VIDEO_TARGETS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}  # FFmpeg's names
_LARGEST_H264 = 4096  # pixels a side that players decode; beyond it HEVC

# ITU-T H.273, tables 2 to 4
_UNSPECIFIED, _BT709, _BT601_625, _BT601_525, _RGB = 2, 1, 5, 6, 0
LIMITED_RANGE, FULL_RANGE = 1, 2  # FFmpeg's AVColorRange


@dataclass(frozen=True)
class VideoColour:
    """What the numbers of a video's frames mean, as codes of ITU-T H.273 (range: 1 limited, 2 full).

    Attributes:
        matrix, primaries, transfer, range: as the result says them too.
    """

    matrix: int
    primaries: int
    transfer: int
    range: int


def resolve_colour(
    matrix: int, primaries: int, transfer: int, colour_range: int, *, height: int, width: int, is_rgb: bool = False
) -> VideoColour:
    """Fill in what a source leaves open, as players do: BT.601 for small frames, BT.709 for large ones.

    A result says it in so many words, since it is larger: players would take it for BT.709 then.

    Args:
        matrix, primaries, transfer: 2 where unspecified.
        colour_range: 0 where unspecified.
        height, width: of the source.
        is_rgb: whether the source stores RGB, which has no matrix of its own.
    """
    is_small = height <= 576 and width < 1280
    usual = (_BT601_625 if height == 576 else _BT601_525) if is_small and not is_rgb else _BT709
    usual_transfer = _BT601_525 if usual != _BT709 else _BT709
    return VideoColour(
        usual if matrix in (_UNSPECIFIED, _RGB) or is_rgb else matrix,
        usual if primaries == _UNSPECIFIED else primaries,
        usual_transfer if transfer == _UNSPECIFIED else transfer,
        LIMITED_RANGE if is_rgb or colour_range not in (LIMITED_RANGE, FULL_RANGE) else colour_range,
    )


def is_rgb_format(name: str) -> bool:
    """Tell whether one of FFmpeg's pixel formats stores RGB."""
    return name.startswith(("gbr", "rgb", "bgr", "argb", "abgr", "0rgb", "0bgr", "x2rgb", "pal"))


def encoder_for(container: str, *, height: int, width: int, num_bits: int) -> str:
    """Choose FFmpeg's encoder for a container, a size and bits a channel."""
    if container == "webm":
        return "libvpx-vp9" if num_bits == 8 else "libsvtav1"
    return "libx264" if num_bits == 8 and max(height, width) <= _LARGEST_H264 else "libx265"


def pixel_format(source_format: str, available: Sequence[str], *, height: int, width: int, num_bits: int) -> str:
    """Choose the encoder's pixel format: the source's bits and halving of colours, as far as the encoder can.

    Args:
        source_format: FFmpeg's name of the source's.
        available: the encoder's.
        height, width: of the result; odd sides cannot have halved colours.
        num_bits: 8, or more, which become 10.
    """
    chroma = next((chroma for chroma in ("444", "422") if chroma in source_format), "420")
    if is_rgb_format(source_format):
        chroma = "444"
    if (height % 2 and chroma == "420") or (width % 2 and chroma != "444"):
        chroma = "444"
    depth = "10le" if num_bits > 8 else ""
    wanted = [f"yuv{chroma}p{depth}", f"yuv444p{depth}", f"yuv420p{depth}", "yuv444p", "yuv420p"]
    return next(name for name in wanted if name in available)
