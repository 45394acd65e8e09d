"""Between pictures and networks: rows of a picture as tensors, and a network's blocks as pixels.

Colours go through the network as they are, grey as three equal channels (or, for a network of one channel, each channel
as a picture of its own). Transparency goes through it too, as a grey picture: a bicubic alpha would be softer than the
network's colours and leave a halo around every cut-out edge. Two things keep it clean: hidden colours (alpha 0) are
first replaced by the nearest visible ones, so that no garbage shines into the edge; and the result stays within the
values that alpha has around each pixel, so what was opaque or clear stays exactly so.

Shapes: B pictures that share their tiles, C channels of the network, H W pixels
"""

from typing import Any, Protocol

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

from hriusr.data.image_io import image_to_tensor, tensor_to_image
from hriusr.errors import DataError
from hriusr.upscaling.blending import Block

_SCAN_ROWS = 256
_MARGIN = 64  # rows beyond those asked for in which the nearest visible colour is sought


class PixelRows(Protocol):
    """A picture that is read a few rows at a time; PictureSource is one.

    Attributes: as PictureSource has them.
    """

    height: int
    width: int
    num_colours: int
    has_alpha: bool
    dtype: np.dtype

    def read_rows(self, start: int, stop: int, frame: int = 0) -> np.ndarray:
        """Return rows (stop - start, W, C)."""


class ArrayRows:
    """A picture in memory as PixelRows."""

    def __init__(self, pixels_HWC: np.ndarray):
        self.height, self.width, num_channels = pixels_HWC.shape
        self.num_colours, self.has_alpha = (1, 3)[num_channels > 2], num_channels in (2, 4)
        self.dtype = pixels_HWC.dtype
        self._pixels_HWC = pixels_HWC

    def read_rows(self, start: int, stop: int, frame: int = 0) -> np.ndarray:
        """Return a view of the rows; there is one frame."""
        return self._pixels_HWC[start:stop]


class OpaquePicture:
    """An opened picture without its alpha; for formats that have none, where all of it is opaque.

    Args:
        source: a PictureSource, all of whose other attributes this has too.
    """

    has_alpha = False

    def __init__(self, source: Any):
        self._source = source
        self.num_channels = source.num_colours

    def __getattr__(self, name: str) -> Any:
        """Return the source's attribute."""
        return getattr(self._source, name)

    def __enter__(self) -> "OpaquePicture":
        """Be closed at the end of a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the source."""
        self._source.close()

    def read_rows(self, start: int, stop: int, frame: int = 0) -> np.ndarray:
        """Return the colours of some rows."""
        return self._source.read_rows(start, stop, frame)[..., :-1]


def is_opaque(source: Any) -> bool:
    """Whether a PictureSource's alpha is greatest everywhere, in all frames."""
    greatest = np.iinfo(source.dtype).max if source.dtype.kind == "u" else 1.0
    return all(
        (source.read_rows(start, min(start + _SCAN_ROWS, source.height), frame)[..., -1] >= greatest).all()
        for frame in range(source.num_frames)
        for start in range(0, source.height, _SCAN_ROWS)
    )


class PictureRows:
    """One frame of a picture as a RowSource of tiling.py; reads it through once, to learn its range.

    Args:
        source: the picture.
        frame: number of the frame.
        num_channels: what the network takes, 1 or 3.

    Attributes:
        shape: (B, C, H, W) as the network sees it.
        has_varied_alpha: whether transparency goes through the network: there is some, and not the same everywhere.
        peak: what float pixels are divided by: their greatest value where that is above 1, else 1.

    Raises:
        DataError: pixels are not finite.
    """

    def __init__(self, source: PixelRows, frame: int, num_channels: int):
        self._source, self._frame, self._num_channels = source, frame, num_channels
        self.peak, self._alpha, self.has_varied_alpha = 1.0, None, False
        if source.has_alpha or source.dtype.kind == "f":
            self._scan()
        num_pictures = 1 if num_channels == 3 else source.num_colours
        self.shape = (num_pictures + self.has_varied_alpha, num_channels, source.height, source.width)

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows (B, C, stop - start, W) float32."""
        colour_HWC, alpha_HWC = self._read_visible(start, stop) if self.has_varied_alpha else (None, None)
        if colour_HWC is None:
            colour_HWC = self._pixels(start, stop)[..., : self._source.num_colours]
        lr_CHW = image_to_tensor(colour_HWC)
        if self.peak != 1:
            lr_CHW = lr_CHW / self.peak
        lr_BCHW = lr_CHW[:, None] if self._num_channels == 1 else lr_CHW.expand(3, -1, -1)[None]
        if alpha_HWC is None:
            return lr_BCHW
        return torch.cat((lr_BCHW, image_to_tensor(alpha_HWC).expand(self._num_channels, -1, -1)[None]))

    def to_pixels(self, block: Block, scale: int) -> np.ndarray:
        """Turn a finished block into pixels (h, w, C) of the picture's type."""
        sr_BCHW = block.pixels_BCHW.cpu()
        sr_alpha_CHW = sr_BCHW[-1].mean(0, keepdim=True) if self.has_varied_alpha else None
        sr_BCHW = sr_BCHW[: len(sr_BCHW) - self.has_varied_alpha]
        sr_CHW = sr_BCHW.flatten(0, 1)
        if len(sr_CHW) > self._source.num_colours:
            sr_CHW = sr_CHW.mean(0, keepdim=True)
        pixels_HWC = self._to_type(sr_CHW, self.peak)
        if not self._source.has_alpha:
            return pixels_HWC
        if sr_alpha_CHW is None:
            alpha_HWC = np.full((*pixels_HWC.shape[:2], 1), self._alpha, pixels_HWC.dtype)
        else:
            alpha_HWC = self._keep_within_neighbours(self._to_type(sr_alpha_CHW, 1.0), block, scale)
        return np.concatenate((pixels_HWC, alpha_HWC), 2)

    def _to_type(self, sr_CHW: Tensor, peak: float) -> np.ndarray:
        if self._source.dtype.kind == "f":
            return (sr_CHW * peak).permute(1, 2, 0).numpy()
        return tensor_to_image(sr_CHW, self._source.dtype.type)

    def _pixels(self, start: int, stop: int) -> np.ndarray:
        return self._source.read_rows(start, stop, self._frame)

    def _scan(self) -> None:
        least, greatest, peak = np.inf, -np.inf, 1.0
        for start in range(0, self._source.height, _SCAN_ROWS):
            rows_HWC = self._pixels(start, min(start + _SCAN_ROWS, self._source.height))
            if rows_HWC.dtype.kind == "f":
                if not np.isfinite(rows_HWC).all():
                    raise DataError(f"rows {start} to {start + len(rows_HWC)} hold NaN or infinite pixels: mend them")
                peak = max(peak, rows_HWC[..., : self._source.num_colours].max())
            if self._source.has_alpha:
                least, greatest = min(least, rows_HWC[..., -1].min()), max(greatest, rows_HWC[..., -1].max())
        self.peak = float(peak)
        if self._source.has_alpha:
            self._alpha, self.has_varied_alpha = least, bool(least < greatest)

    def _read_visible(self, start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        """Return colours without hidden ones, and opacity, of some rows."""
        first, last = max(0, start - _MARGIN), min(self._source.height, stop + _MARGIN)
        rows_HWC = self._pixels(first, last)
        colour_HWC, alpha_HW = rows_HWC[..., :-1], rows_HWC[..., -1]
        visible_HWC = fill_hidden_colours(colour_HWC, alpha_HW)[start - first : stop - first]
        return visible_HWC, alpha_HW[start - first : stop - first, :, None]

    def _keep_within_neighbours(self, sr_alpha_HWC: np.ndarray, block: Block, scale: int) -> np.ndarray:
        """Clamp enlarged opacity to the least and greatest value of the 3x3 source pixels around."""
        top, left = block.top // scale, block.left // scale
        height, width = block.pixels_BCHW.shape[-2] // scale, block.pixels_BCHW.shape[-1] // scale
        first, last = max(0, top - 1), min(self._source.height, top + height + 1)
        alpha_HW = self._pixels(first, last)[..., -1]
        alpha_HW = alpha_HW[:, max(0, left - 1) : left + width + 1]
        part = (slice(top - first, top - first + height), slice(left - max(0, left - 1), None))
        return keep_within_neighbours(sr_alpha_HWC[..., 0], alpha_HW, scale, part, width)[..., None]


def fill_hidden_colours(colour_HWC: np.ndarray, alpha_HW: np.ndarray) -> np.ndarray:
    """Give pixels that cannot be seen (alpha 0) the colour of the nearest pixel that can.

    Args:
        colour_HWC: (H, W, C).
        alpha_HW: (H, W); where it is 0 everywhere, colours are returned as they are.
    """
    hidden_HW = alpha_HW == 0
    if not hidden_HW.any() or hidden_HW.all():
        return colour_HWC
    row_HW, column_HW = ndimage.distance_transform_edt(hidden_HW, return_distances=False, return_indices=True)
    return colour_HWC[row_HW, column_HW]


def keep_within_neighbours(
    sr_alpha_HW: np.ndarray,
    alpha_HW: np.ndarray,
    scale: int,
    part: tuple[slice, slice] = (slice(None), slice(None)),
    width: int | None = None,
) -> np.ndarray:
    """Clamp enlarged opacity to the least and greatest value of the 3x3 source pixels around.

    Args:
        sr_alpha_HW: (h * scale, w * scale), of part of the source.
        alpha_HW: the source, or that part and the pixels around it, same type.
        scale: enlargement.
        part: which of the source's pixels these are; the second slice may be open.
        width: w, where it is.
    """
    alpha_BCHW = torch.from_numpy(alpha_HW.astype(np.float32))[None, None]

    def enlarge(x_BCHW: Tensor) -> np.ndarray:
        return F.interpolate(x_BCHW[(..., *part)][..., :width], scale_factor=scale)[0, 0].numpy()

    greatest_HW = enlarge(F.max_pool2d(alpha_BCHW, 3, 1, 1))
    least_HW = enlarge(-F.max_pool2d(-alpha_BCHW, 3, 1, 1))
    return np.clip(sr_alpha_HW, least_HW, greatest_HW).astype(sr_alpha_HW.dtype)
