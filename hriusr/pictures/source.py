"""A picture file as rows of pixels, in any order and in flat memory.

PNG, JPEG, WebP, TIFF, GIF and AVIF are read by libvips, BMP by bmp.py, others by Pillow (fallback.py). WebP,
AVIF and what Pillow reads is decoded in memory; it is not made for large pictures.

The header says what there is, before anything is decoded. The first rows asked for decode the whole file once, so that
damage is found before the network starts: up to _IN_MEMORY bytes into memory, larger ones into a scratch file without a
name, which vanishes with the process, however it ends.
"""

import mmap
import os
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.data.image_bytes import tiff_leaves_opacity_open
from hriusr.errors import DataError, HriusrError
from hriusr.pictures.apng import count_png_frames
from hriusr.pictures.bmp import open_plain_bmp
from hriusr.pictures.fallback import open_with_pillow, size_by_pillow
from hriusr.pictures.gif_blocks import gif_is_whole
from hriusr.pictures.metadata import PictureMetadata, metadata_of, turned
from hriusr.pictures.tiff_exif import exif_fields
from hriusr.pictures.vips import FORMATS, find_loader, load_vips, open_descriptor, run_interruptibly, vips_reason

MAX_PIXELS = 2**28
_IN_MEMORY = 64 * 2**20  # bytes
_MULTI_PAGE = ("gifload", "webpload", "tiffload")
_DTYPES = {name: dtype for dtype, name in FORMATS.items()}
_FIRST_TURNED = 5  # orientations from here on make rows of columns
_UNREADABLE = ("samples out of range", "bad labq format")  # libvips of kinds it lacks
_IN_ORDER = (1, 2)  # orientations that need no other rows than the next ones


class PictureSource:
    """An opened picture; made by open_source, to be closed, or used in a `with`.

    Attributes:
        height, width: upright: the orientation in EXIF is applied.
        num_colours: 1 grey, 3 colour (RGB).
        has_alpha: whether opacity is the last channel; colours are not multiplied by it.
        dtype: uint8, uint16, or float32 (values as in the file, nominally 0..1).
        num_frames: 1, or those of an animation or of a TIFF with several pages, each of the whole size.
        metadata: what a result should keep.
        notes: what of the file is left out, one line each.
    """

    def __init__(
        self,
        path: Path,
        image: Any,
        *,
        num_frames: int,
        metadata: PictureMetadata,
        scratch_folder: Path | None,
        notes: tuple[str, ...] = (),
    ):
        self.path = path
        self.width, self.height = image.width, image.height // num_frames
        self.num_colours, self.has_alpha = (1, 3)[image.bands > 2], image.bands in (2, 4)
        self.dtype = _DTYPES[image.format]
        self.num_frames = num_frames
        self.metadata = metadata
        self.notes = notes
        self._image = image  # until it is decoded
        self._scratch_folder = scratch_folder
        self._pixels_HWC: np.ndarray | None = None  # frames one above the other
        self._file = None
        self._lock = threading.Lock()

    @property
    def num_channels(self) -> int:
        """Count colours and opacity."""
        return self.num_colours + self.has_alpha

    @property
    def num_bytes(self) -> int:
        """Count the bytes of all decoded frames."""
        return self.num_frames * self.height * self.width * self.num_channels * self.dtype.itemsize

    def __enter__(self) -> "PictureSource":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free memory and scratch file."""
        self._image = self._pixels_HWC = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def decode(self) -> None:
        """Decode all pixels now, where that has not happened; read_rows does it by itself.

        Raises:
            DataError: the file is damaged or cut off.
            HriusrError: the disk is full.
        """
        with self._lock:
            if self._image is None:
                return
            if self.num_bytes <= _IN_MEMORY:
                self._pixels_HWC = self._pixels_in_memory()
            else:
                self._file = self._pixels_on_disk()
            self._image = None

    def read_rows(self, start: int, stop: int, frame: int = 0) -> np.ndarray:
        """Return rows start..stop (exclusive) of a frame, in any order, any number of times.

        Returns:
            (stop - start, width, channels), not to be written to.

        Raises:
            DataError, HriusrError: as decode.
        """
        assert 0 <= start <= stop <= self.height, (start, stop, self.height)
        assert 0 <= frame < self.num_frames, (frame, self.num_frames)
        self.decode()
        start, stop = start + frame * self.height, stop + frame * self.height
        if self._pixels_HWC is not None:
            return self._pixels_HWC[start:stop]
        rows_HWC = np.empty((stop - start, self.width, self.num_channels), self.dtype)
        with self._lock:
            self._file.seek(start * rows_HWC.strides[0])
            num_read = self._file.readinto(rows_HWC.reshape(-1).view(np.uint8))
        assert num_read == rows_HWC.nbytes, f"scratch file of {self.path} is short"
        return rows_HWC

    def _pixels_in_memory(self) -> np.ndarray:
        try:
            content = run_interruptibly(self._image.write_to_memory, self._image)
        except load_vips().Error as error:
            raise _damage(self.path, error) from None
        return np.frombuffer(content, self.dtype).reshape(-1, self.width, self.num_channels)

    def _pixels_on_disk(self):
        folder = self._scratch_folder or Path(tempfile.gettempdir())
        vips = load_vips()
        file = None
        try:
            file = tempfile.TemporaryFile(dir=folder, prefix=".hriusr-")
            image, target = self._image, vips.Target.new_to_descriptor(file.fileno())
            run_interruptibly(lambda: image.rawsave_target(target, keep="none"), image)
            if os.fstat(file.fileno()).st_size < self.num_bytes:
                raise OSError("written only in part")
            return file
        except (vips.Error, OSError) as error:
            if file is not None:
                file.close()
            reason = vips_reason(error)
            if isinstance(error, OSError) or "No space left" in str(error):
                raise HriusrError(
                    f"{self.path} cannot be unpacked to {folder} ({self.num_bytes / 1e6:.0f} MB): "
                    f"{'No space left on device' if 'No space' in str(error) else reason}; make room, or set TMPDIR"
                ) from None
            raise _damage(self.path, error) from None


def open_source(
    path: str | Path, *, max_pixels: int | None = MAX_PIXELS, scratch_folder: str | Path | None = None
) -> PictureSource:
    """Open a picture file and read its header.

    Args:
        path: the content decides on the format, not the name.
        max_pixels: greatest number of pixels, all frames together; None: no limit. A small file can claim to unpack to
            any size.
        scratch_folder: where pictures of more than 64 MB are unpacked to; None: the system's folder for such (TMPDIR).

    Returns:
        Palettes become colours, one bit becomes grey of 8, CMYK and Lab of 16 bits become sRGB (by the file's own
        profile, or a common one); other colours stay as they are, and so does their profile.

    Raises:
        DataError: the file is missing, empty, no picture, too large or of a kind that cannot be upscaled.
    """
    path = Path(path)
    vips = load_vips()
    descriptor = open_descriptor(path)
    try:
        source = vips.Source.new_from_descriptor(descriptor)  # has a descriptor of its own
        loader = find_loader(source)
        if loader == "gifload":
            _check_gif(path)
    finally:
        os.close(descriptor)
    num_frames, orientation, notes = 1, 1, ()
    try:
        if loader is None:
            image = open_plain_bmp(path)
            if image is not None:
                _check_size(path, image.height, image.width, 1, max_pixels)
            else:
                image, notes = open_with_pillow(
                    path, lambda height, width: _check_size(path, height, width, 1, max_pixels)
                )
        else:
            image, num_frames, notes = _open_with_vips(source, loader, path, max_pixels)
            orientation = image.get("orientation") if "orientation" in image.get_fields() else 1
        image = _as_rgb(image, path)
        if loader == "tiffload" and image.bands in (2, 4) and _leaves_opacity_open(path):
            notes = (*notes, "its last channel is taken for opacity, which the file does not say: else save it without")
        metadata = metadata_of(image)
        if loader == "tiffload" and "exif-data" not in metadata.fields:
            metadata = replace(metadata, fields=metadata.fields | exif_fields(path))
        if orientation != 1:
            image = _upright(image, num_frames)
            metadata = turned(metadata) if orientation >= _FIRST_TURNED else metadata
    except vips.Error as error:
        raise _damage(path, error) from None
    return PictureSource(
        path,
        image,
        num_frames=num_frames,
        metadata=metadata,
        scratch_folder=None if scratch_folder is None else Path(scratch_folder),
        notes=notes,
    )


def count_pixels(path: str | Path, *, max_pixels: int | None = MAX_PIXELS) -> int:
    """Count the pixels of a picture, all frames together, by its header: nothing is decoded, whatever the format.

    Raises:
        DataError: as open_source; of formats that Pillow reads, what lies behind the header is not looked at.
    """
    path = Path(path)
    descriptor = open_descriptor(path)
    try:
        is_pillows = find_loader(load_vips().Source.new_from_descriptor(descriptor)) is None
    finally:
        os.close(descriptor)
    if is_pillows:
        height, width = size_by_pillow(path)
        _check_size(path, height, width, 1, max_pixels)
        return height * width
    with open_source(path, max_pixels=max_pixels) as source:
        return source.height * source.width * source.num_frames


def _open_with_vips(source, loader: str, path: Path, max_pixels: int | None) -> tuple[Any, int, tuple[str, ...]]:
    """Return the image, frames one above the other, how many they are, and what is left out."""
    notes = ()
    vips = load_vips()
    load = getattr(vips.Image, f"{loader}_source")
    settings = {"access": "sequential", "fail_on": "error"}
    if loader == "tiffload":
        settings["unlimited"] = True
    image = load(source, **settings)
    num_frames = image.get_n_pages() if loader in _MULTI_PAGE else 1
    _check_size(path, image.height, image.width, num_frames, max_pixels)
    if num_frames > 1:
        try:
            image = load(source, n=-1, **settings)
        except vips.Error:
            notes = (f"only the first of {num_frames} pages is taken, they are of different kinds",)
            num_frames = 1
    if loader == "pngload":
        with open(path, "rb") as file:
            num_found = count_png_frames(file)
        if num_found > 1:
            notes = (f"only the first of {num_found} frames is taken: save the animation as WebP or GIF to keep them",)
    if "orientation" in image.get_fields() and image.get("orientation") not in _IN_ORDER:
        settings["access"] = "random"  # libvips unpacks it first
        image = load(source, **settings) if num_frames == 1 else load(source, n=-1, **settings)
    return image, num_frames, notes


def _check_gif(path: Path) -> None:
    with open(path, "rb") as file:
        if not gif_is_whole(file):
            raise DataError(f"{path} is cut off: copy it again, or take it out of the folder")


def _check_size(path: Path, height: int, width: int, num_frames: int, max_pixels: int | None) -> None:
    num_pixels = height * width * num_frames
    if num_pixels == 0:
        raise DataError(f"{path} is {width}x{height}, a picture without pixels: take it out of the folder")
    if max_pixels is not None and num_pixels > max_pixels:
        frames = f" in {num_frames} frames" if num_frames > 1 else ""
        raise DataError(
            f"{path} unpacks to {width}x{height}{frames}, {num_pixels} pixels, more than max_pixels (={max_pixels}): "
            f"set max_pixels to {num_pixels} if you trust the file"
        )


def _as_rgb(image, path: Path):
    """Return grey, grey and alpha, RGB or RGBA of a type that FORMATS has."""
    is_deep = image.format != "uchar"
    if image.interpretation == "cmyk":
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=16 if is_deep else 8)
    elif image.interpretation in ("lab", "labq", "labs", "xyz", "lch", "yxy", "hsv"):
        image = image.colourspace("rgb16" if is_deep else "srgb")
    if image.format == "double":
        image = image.cast("float")
    if image.format not in _DTYPES:
        raise DataError(f"{path} has pixels of type {image.format}: save it with 8 or 16 bits a channel, or as float")
    if not 1 <= image.bands <= 4:
        raise DataError(f"{path} has {image.bands} channels: save it as an RGB or grey picture, with or without alpha")
    return image


def _leaves_opacity_open(path: Path) -> bool:
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return tiff_leaves_opacity_open(content)


def _upright(image, num_frames: int):
    if num_frames == 1:
        return image.autorot()
    height = image.height // num_frames
    frames = [image.crop(0, number * height, image.width, height).copy().autorot() for number in range(num_frames)]
    return type(image).arrayjoin(frames, across=1)


def _damage(path: Path, error: Exception) -> DataError:
    if any(text in str(error) for text in _UNREADABLE):
        return DataError(
            f"{path} is of a kind that cannot be read ({vips_reason(error)}): "
            "save it as RGB or grey, with 8 or 16 bits a channel or floats of 32"
        )
    return DataError(
        f"{path} is damaged, cut off or of an unknown kind ({vips_reason(error)}): "
        "copy it again, or take it out of the folder"
    )
