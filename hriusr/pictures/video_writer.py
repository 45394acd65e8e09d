"""Writes a video: encodes frames at the times of their sources, copies packets of sound and subtitles."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.errors import DataError, HriusrError
from hriusr.pictures.video_formats import FULL_RANGE, VideoColour, encoder_for, pixel_format
from hriusr.pictures.video_reader import VideoReader, load_av, scaler_flags

logger = logging.getLogger(__name__)

_QUALITY = {  # options of each encoder
    "libx264": {"preset": "medium"},
    "libx265": {"preset": "medium", "x265-params": "log-level=none"},
    "libvpx-vp9": {"b": "0", "row-mt": "1", "cpu-used": "3"},
    "libsvtav1": {"preset": "6"},
}
_NEVER_REORDERED = 2  # frames; x265 gives times of decoding from a third frame on, before that what lay in memory
_NOT_KEPT = ("encoder", "major_brand", "minor_version", "compatible_brands", "duration", "handler_name", "vendor_id")


class VideoWriter:
    """The result: its streams are made when the first frame has shown their size; packets wait until then.

    Args:
        path: where to write.
        container: FFmpeg's name of its format.
        reader: where times, streams to copy and descriptions come from.
        target: what messages call it.
        crf: quality of the encoder.

    Raises:
        DataError: the format cannot hold a stream that is to be copied.
    """

    def __init__(self, path: str, container: str, reader: VideoReader, target: Path, crf: int):
        self._container = load_av().open(f"file:{path}", "w", format=container)
        self._container_name = container
        self._reader, self._target, self._crf = reader, target, crf
        self._waiting: list[Any] = []
        self._encoder: Any = None
        self._copies: dict[int, Any] = {}
        self._last_pts: int | None = None
        self.num_frames = 0
        self.seconds = 0.0  # the end of the last frame
        self.size = (0, 0)
        self._refuse_unfit()

    def _refuse_unfit(self) -> None:
        supported = self._container.supported_codecs
        unfit = [
            f"{stream.type} ({stream.codec_context.codec.canonical_name})"
            for stream in self._reader.copied
            if not {stream.codec_context.codec.canonical_name, stream.codec_context.codec.name} & supported
        ]
        if unfit:
            raise DataError(f"{self._target.suffix} cannot hold {', '.join(unfit)} of {self._reader.path}: use .mkv")

    def copy(self, packet: Any) -> None:
        """Hand on a packet of sound or subtitles."""
        if packet.dts is None and packet.pts is None:  # the end of the stream
            return
        if self._encoder is None:
            self._waiting.append(packet)
            return
        packet.stream = self._copies[packet.stream.index]
        self._container.mux(packet)

    def write(self, pixels_HWC: np.ndarray, source_frame: Any, colour: VideoColour) -> None:
        """Encode RGB (H, W, 3) of uint8 or uint16 at the time of its source."""
        if self._encoder is None:
            self._begin(pixels_HWC, source_frame, colour)
        assert pixels_HWC.shape[:2] == self.size, (pixels_HWC.shape, self.size)
        is_deep = pixels_HWC.dtype == np.uint16
        frame = load_av().VideoFrame.from_ndarray(np.ascontiguousarray(pixels_HWC), "rgb48le" if is_deep else "rgb24")
        frame = frame.reformat(
            format=self._encoder.pix_fmt,
            dst_colorspace=colour.matrix,
            src_color_range=FULL_RANGE,
            dst_color_range=colour.range,
            interpolation=scaler_flags(),
        )
        frame.colorspace, frame.color_range = colour.matrix, colour.range
        frame.color_primaries, frame.color_trc = colour.primaries, colour.transfer
        frame.pts, frame.time_base = self._next_pts(source_frame.pts), self._reader.stream.time_base
        frame.duration = source_frame.duration or 0
        self._container.mux(self._encoder.encode(frame))
        self.num_frames += 1
        self.seconds = max(self.seconds, float((frame.pts + frame.duration) * frame.time_base))

    def _next_pts(self, pts: int | None) -> int:
        """Return a frame's time in the source's units: later than the one before, whatever the source says."""
        stream = self._reader.stream
        if pts is None:
            step = max(1, round(1 / ((stream.average_rate or 25) * stream.time_base)))
            pts = 0 if self._last_pts is None else self._last_pts + step
        if self._last_pts is not None:
            pts = max(pts, self._last_pts + 1)
        self._last_pts = pts
        return pts

    def _begin(self, pixels_HWC: np.ndarray, source_frame: Any, colour: VideoColour) -> None:
        """Make all streams, video first."""
        self._encoder = self._make_encoder(pixels_HWC, source_frame, colour)
        for stream in self._reader.copied:
            copy = self._container.add_stream_from_template(stream)
            copy.metadata.update(_kept_tags(stream.metadata))
            copy.disposition = stream.disposition
            self._copies[stream.index] = copy
        self._container.metadata.update(_kept_tags(self._reader.container.metadata))
        chapters = self._reader.container.chapters()
        if chapters:
            self._container.set_chapters(chapters)
        waiting, self._waiting = self._waiting, []
        for packet in waiting:
            self.copy(packet)

    def _make_encoder(self, pixels_HWC: np.ndarray, source_frame: Any, colour: VideoColour) -> Any:
        stream = self._reader.stream
        height, width = self.size = pixels_HWC.shape[:2]
        num_bits = 8 * pixels_HWC.dtype.itemsize
        name = encoder_for(self._container_name, height=height, width=width, num_bits=num_bits)
        try:
            available = [known.name for known in load_av().Codec(name, "w").video_formats or ()]
        except ValueError:
            raise HriusrError(f"this PyAV has no encoder {name}: pip install --force-reinstall av") from None
        options = {**_QUALITY[name], "crf": str(self._crf)}
        encoder = self._container.add_stream(name, rate=stream.average_rate or 25, options=options)
        encoder.width, encoder.height = width, height
        encoder.pix_fmt = pixel_format(
            source_frame.format.name, available, height=height, width=width, num_bits=num_bits
        )
        context = encoder.codec_context
        context.time_base = encoder.time_base = stream.time_base  # frames need not come at one rate
        context.colorspace, context.color_range = colour.matrix, colour.range
        context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if name == "libx265" and self._container_name in ("mp4", "mov"):
            context.codec_tag = "hvc1"  # what Apple's players ask for
        aspect = stream.sample_aspect_ratio
        if aspect:
            context.sample_aspect_ratio = 1 / aspect if source_frame.rotation % 180 else aspect
        encoder.metadata.update(_kept_tags(stream.metadata))
        return encoder

    def finish(self) -> None:
        """Encode what the encoder still holds and complete the file."""
        packets = self._encoder.encode(None)
        if self.num_frames <= _NEVER_REORDERED:
            for packet in packets:
                packet.dts = packet.pts
        self._container.mux(packets)
        self._container.close()

    def abandon(self) -> None:
        """Let go of a file that will not be used."""
        with suppress(Exception):  # what went wrong before is what counts
            self._container.close()


def _kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in tags.items() if name.lower() not in _NOT_KEPT}
