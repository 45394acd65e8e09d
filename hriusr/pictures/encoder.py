"""From a raw scratch file of pixels to a picture file, row by row: memory does not grow with the picture.

All formats but JPEG (and GIF, which has 256 colours) are written without loss.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.atomic_file import replacing
from hriusr.data.leftovers import remove_leftover_files
from hriusr.errors import HriusrError
from hriusr.pictures.bmp import write_bmp
from hriusr.pictures.formats import check_target
from hriusr.pictures.metadata import PictureMetadata, with_metadata
from hriusr.pictures.raw_image import mapped_raw, streamed_raw
from hriusr.pictures.resample import resample
from hriusr.pictures.tiff_exif import add_exif
from hriusr.pictures.vips import load_vips, run_interruptibly, vips_reason

logger = logging.getLogger(__name__)

_BIGTIFF_FROM = 2 * 10**9  # bytes of pixels; the classic format ends at 4 GB, and compression may not help


def encode_picture(
    raw_path: str | Path,
    shape: tuple[int, int, int, int],
    dtype: np.dtype | type,
    metadata: PictureMetadata,
    target: str | Path,
    *,
    size: tuple[int, int] | None = None,
    jpeg_quality: int = 95,
) -> None:
    """Encode the pixels of a raw file, whole or not at all; makes the target's folder.

    Args:
        raw_path: pixels as numpy's tofile writes them, in this machine's order of bytes.
        shape: (frames, H, W, C): C is 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA, not multiplied by alpha.
        dtype: uint8, uint16 or float32 (0..1, also beyond).
        metadata: what the file should say beside its pixels, as PictureSource has it.
        target: the suffix decides on the format.
        size: (height, width) of the result; None: that of the raw file. See resample.
        jpeg_quality: 0..100, for JPEG.

    Raises:
        DataError: the format cannot hold the picture; see check_target to know before computing.
        HriusrError: the disk is full, or the folder not writable.
    """
    num_frames, height, width, num_channels = shape
    target = Path(target)
    suffix = target.suffix.lower()
    dtype = np.dtype(dtype)
    new_height, new_width = size or (height, width)
    check_target(target, new_height, new_width, dtype, num_channels in (2, 4), num_frames)
    remove_leftover_files(target.parent, target.name)  # a killed process may have left gigabytes
    vips = load_vips()
    rows = mapped_raw if suffix == ".bmp" else streamed_raw
    try:
        with rows(raw_path, num_frames * height, width, num_channels, dtype) as image, replacing(target) as file:
            if (new_height, new_width) != (height, width):
                image = resample(image, num_frames, new_height, new_width, dtype)
            image = with_metadata(image, metadata, num_frames=num_frames)
            if suffix == ".bmp":
                write_bmp(image, file)
            else:
                saver, settings = _saver(suffix, image, dtype, jpeg_quality, metadata)
                save = getattr(image, f"{saver}_target")
                target_of_vips = vips.Target.new_to_descriptor(file.fileno())
                run_interruptibly(lambda: save(target_of_vips, **settings), image)
                exif = metadata.fields.get("exif-data")
                if saver == "tiffsave" and exif is not None and not add_exif(file, exif):
                    logger.warning("%s: EXIF is left out: it is damaged, or the TIFF too large for it", target)
    except vips.Error as error:
        reason = "No space left on device" if "No space left" in str(error) else vips_reason(error)
        raise HriusrError(f"cannot write {target}: {reason}; what stood there before is untouched") from error


def _saver(
    suffix: str, image: Any, dtype: np.dtype, jpeg_quality: int, metadata: PictureMetadata
) -> tuple[str, Mapping[str, Any]]:
    """Choose libvips' operation and its settings."""
    if suffix == ".png":
        return "pngsave", {"compression": 3, "filter": "all"}
    if suffix in (".jpg", ".jpeg"):
        return "jpegsave", {"Q": jpeg_quality}  # optimize_coding would keep the whole picture in memory
    if suffix == ".webp":
        return "webpsave", {"lossless": True, "exact": True}
    if suffix == ".gif":
        return "gifsave", {}
    num_bytes = image.height * image.width * image.bands * dtype.itemsize
    settings = {
        "compression": "deflate",
        "predictor": "none" if dtype.kind == "f" else "horizontal",  # few programs know the one for floats
        "bigtiff": num_bytes >= _BIGTIFF_FROM,
    }
    if metadata.resolution_unit is not None:
        settings["resunit"] = "cm" if metadata.resolution_unit == "cm" else "inch"
    return "tiffsave", settings
