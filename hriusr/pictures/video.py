"""A video through a network, frame by frame (PyAV): sound, subtitles, chapters are copied, each frame keeps its time.

Frames go to the network upright and as RGB, 8 bits, or 16 where the source has more than 8. The result is H.264, HEVC
(more than 8 bits, or more than 4096 pixels a side), or VP9 and AV1 in WebM, of a quality whose loss is hardly seen.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hriusr.atomic_file import replacing
from hriusr.data.leftovers import remove_leftover_files
from hriusr.errors import DataError, HriusrError
from hriusr.pictures.video_formats import VIDEO_TARGETS
from hriusr.pictures.video_reader import VideoReader, av_reason, load_av, to_rgb
from hriusr.pictures.video_writer import VideoWriter

# Seconds that may lack at the end, the sound may be longer: noted from here on, cut off beyond a share and its bounds
_NOTED, _LACKING_SHARE, _LACKING = 0.5, 0.05, (1.0, 10.0)


@dataclass(frozen=True)
class VideoResult:
    """What was written: number of frames, the size of each in pixels, and what the user should know."""

    num_frames: int
    height: int
    width: int
    notes: tuple[str, ...] = ()


def upscale_video(
    source: str | Path,
    target: str | Path,
    upscale_frame: Callable[[np.ndarray], np.ndarray],
    *,
    progress: Callable[[float], None] | None = None,
    crf: int = 16,
) -> VideoResult:
    """Upscale a video file, whole or not at all.

    Args:
        source: any container and codec that FFmpeg reads; its best video stream is taken.
        target: .mp4, .m4v, .mov, .mkv or .webm; its folder is made.
        upscale_frame: RGB (H, W, 3) of uint8 or uint16 to the same type, larger; all frames to one size.
        progress: called with the fraction that is done, 0..1, after each frame, where the source says how long it is.
        crf: quality of the encoder, 0 (best) to 51.

    Raises:
        DataError: the source is no video, damaged or cut off, or the target's format cannot hold its streams.
        HriusrError: PyAV or an encoder is missing, the disk is full or the folder not writable.
    """
    source, target = Path(source), Path(target)
    container = VIDEO_TARGETS.get(target.suffix.lower())
    if container is None:
        raise DataError(
            f"cannot write {target}: {target.suffix or 'no suffix'} is not a video format that we write: "
            f"use one of {', '.join(VIDEO_TARGETS)}"
        )
    av = load_av()
    remove_leftover_files(target.parent, target.name)  # a killed process may have left gigabytes
    with VideoReader(source) as reader, replacing(target) as file:
        writer = VideoWriter(file.name, container, reader, target, crf)
        try:
            notes = _upscale_frames(reader, writer, upscale_frame, progress)
            writer.finish()
        except av.error.FFmpegError as error:
            raise HriusrError(
                f"cannot write {target}: {av_reason(error)}; what stood there before is untouched"
            ) from error
        finally:
            writer.abandon()
    return VideoResult(writer.num_frames, *writer.size, notes)


def _upscale_frames(
    reader: VideoReader,
    writer: VideoWriter,
    upscale_frame: Callable[[np.ndarray], np.ndarray],
    progress: Callable[[float], None] | None,
) -> tuple[str, ...]:
    """Write all frames and copied packets; return notes."""
    for packet, frame in reader.items():
        if frame is None:
            writer.copy(packet)
            continue
        pixels_HWC, colour = to_rgb(frame)
        writer.write(upscale_frame(pixels_HWC), frame, colour)
        if progress is not None and reader.duration:
            progress(min(1.0, max(0.0, (writer.seconds - reader.start) / reader.duration)))
    if writer.num_frames == 0:
        raise DataError(
            f"{reader.path} holds no frame that can be decoded: copy it again, or take it out of the folder"
        )
    if not reader.duration:
        return ()
    ended = writer.seconds - reader.start
    least, most = _LACKING
    if ended < reader.duration - min(max(_LACKING_SHARE * reader.duration, least), most):
        raise DataError(f"{reader.path} is cut off at {ended:.1f} of {reader.duration:.1f} s: copy it again")
    if ended < reader.duration - _NOTED:
        return (f"its pictures end at {ended:.1f} of {reader.duration:.1f} s: it may be cut off",)
    return ()
