"""Reads a video: its packets, and frames as upright RGB; PyAV's errors become ours."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from hriusr.errors import DataError, HriusrError
from hriusr.pictures.video_formats import FULL_RANGE, VideoColour, is_rgb_format, resolve_colour
from hriusr.pictures.vips import open_descriptor

logger = logging.getLogger(__name__)

_COPIED_KINDS = ("audio", "subtitle")


def load_av() -> ModuleType:
    """Import PyAV.

    Raises:
        HriusrError: it is not installed.
    """
    try:
        import av
    except ImportError:
        raise HriusrError("videos need PyAV: pip install 'hriusr[video]'") from None
    return av


def av_reason(error: Exception) -> str:
    """Return what FFmpeg says of an error, without its number and the file's name."""
    return getattr(error, "strerror", None) or str(error)


def scaler_flags() -> int:
    """Return how colours of halved size are filtered: bicubic, without short cuts."""
    kinds = load_av().video.reformatter.Interpolation
    return kinds.BICUBIC | kinds.ACCURATE_RND | kinds.FULL_CHR_H_INT | kinds.FULL_CHR_H_INP


class VideoReader:
    """An opened video; to be used in a `with`.

    Attributes:
        container: PyAV's.
        stream: the video stream.
        copied: the streams of sound and subtitles.
        start: seconds at which the video begins.
        duration: seconds; None where the file does not say.

    Raises:
        DataError: the file is missing, no video or damaged.
    """

    def __init__(self, path: Path):
        self.path = path
        os.close(open_descriptor(path))
        av = load_av()
        try:
            self.container = av.open(f"file:{path}", metadata_errors="replace")  # a name with a colon is no protocol
            self.stream = self.container.streams.best("video")
        except av.error.FFmpegError as error:
            raise DataError(
                f"{path} is no video, or damaged ({av_reason(error)}): copy it again, or take it out of the folder"
            ) from None
        if self.stream is None:
            self.close()
            raise DataError(f"{path} holds no pictures, only sound: take it out of the folder")
        self.stream.thread_type = "AUTO"
        self.copied = [stream for stream in self.container.streams if stream.type in _COPIED_KINDS]
        self.start = float((self.stream.start_time or 0) * self.stream.time_base)
        if self.stream.duration is not None:
            self.duration = float(self.stream.duration * self.stream.time_base)
        else:
            self.duration = None if self.container.duration is None else self.container.duration / av.time_base
        num_left = len(self.container.streams) - 1 - len(self.copied)
        if num_left:
            logger.warning("%s: %d stream(s) beside video, sound and subtitles are left out", path, num_left)

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def items(self) -> Iterator[tuple[Any, Any]]:
        """Yield (packet to copy, None) and (None, frame) in the file's order.

        Raises:
            DataError: the file is damaged.
        """
        try:
            for packet in self.container.demux([self.stream, *self.copied]):
                if packet.stream is not self.stream:
                    yield packet, None
                    continue
                for frame in packet.decode():
                    yield None, frame
        except load_av().error.FFmpegError as error:
            raise DataError(f"{self.path} is damaged ({av_reason(error)}): copy it again") from None


def to_rgb(frame) -> tuple[np.ndarray, VideoColour]:
    """Return a frame as upright RGB (H, W, 3), uint8 or (more than 8 bits) uint16, and what its numbers meant."""
    is_rgb = is_rgb_format(frame.format.name)
    colour = resolve_colour(
        frame.colorspace,
        frame.color_primaries,
        frame.color_trc,
        FULL_RANGE if frame.format.name.startswith("yuvj") else frame.color_range,
        height=frame.height,
        width=frame.width,
        is_rgb=is_rgb,
    )
    if not is_rgb:
        frame.colorspace, frame.color_range = colour.matrix, colour.range
    is_deep = any(component.bits > 8 for component in frame.format.components)
    rgb = frame.reformat(
        format="rgb48le" if is_deep else "rgb24",
        dst_color_range=FULL_RANGE,
        interpolation=scaler_flags(),
    )
    pixels_HWC = rgb.to_ndarray()
    if frame.rotation:
        pixels_HWC = np.ascontiguousarray(np.rot90(pixels_HWC, round(frame.rotation / 90)))
    return pixels_HWC, colour
