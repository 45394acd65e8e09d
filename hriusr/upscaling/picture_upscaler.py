"""Upscale one picture: colours, grey, transparency, 8 or 16 bits, tiles planned from the memory that is free.

Transparency goes through the network too, as a grey picture. A bicubic alpha would be softer than the network's colours
and leave a halo around every cut-out edge. Two things keep it clean: hidden colours (alpha 0) are first replaced by
the nearest visible ones, so that no garbage shines into the edge; and the result stays within the values that alpha
has around each pixel, so what was opaque or clear stays exactly so.
"""

import logging
from collections.abc import Callable

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from hriusr.data.image_io import image_to_tensor, tensor_to_image
from hriusr.data.picture import Picture
from hriusr.errors import WeightsError
from hriusr.upscaling.memory_plan import PROBE_SIDE, SHARE, available_bytes, bytes_per_pixel, plan_tiles
from hriusr.upscaling.tile_plan import default_overlap, network_alignment
from hriusr.upscaling.tile_runner import evaluating
from hriusr.upscaling.tiling import upscale_rows

logger = logging.getLogger(__name__)

FractionDone = Callable[[float], None]


class PictureUpscaler:
    """A network on its device, ready for pictures of any size and kind.

    Args:
        network: takes pictures of 1 or 3 channels (attribute in_chans, 3 where it has none), 0..1.
        device: where to compute; the network is moved there.
        precision: fp32, bf16 or fp16.
        tile_size: own pixels of a tile; None: planned for each picture from free memory; 0: never tiled.
        tile_overlap: pixels read around a tile; None: two windows of the network, 16 to 32.
        batch_size: tiles at once; None: as many as fit (one on a CPU).

    Raises:
        WeightsError: the network takes neither 1 nor 3 channels.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device,
        precision: str = "fp32",
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        batch_size: int | None = None,
    ):
        self.network = network.to(device)
        self.device = device
        self.precision = precision
        self.num_channels = getattr(network, "in_chans", 3)
        if self.num_channels not in (1, 3):
            raise WeightsError(
                f"the network takes pictures of {self.num_channels} channels; upscaling needs one for 1 or 3"
            )
        self.alignment = network_alignment(network)
        self.tile_size = tile_size
        self.tile_overlap = default_overlap(self.alignment) if tile_overlap is None else tile_overlap
        self.batch_size = batch_size
        self.scale = self._measure_scale()
        self._pixel_bytes: float | None = None

    def upscale(self, picture: Picture, progress: FractionDone | None = None) -> Picture:
        """Enlarge a picture.

        Args:
            picture: 8 or 16 bits; the result has as many.
            progress: called with the fraction that is done, 0..1, after each tile.
        """
        colour_HWC, alpha_HW = picture.colour_HWC, picture.alpha_HW
        if colour_HWC.dtype == np.uint16 and self.precision != "fp32":
            logger.warning("%s keeps 8 to 11 bits of a 16-bit picture: use precision fp32", self.precision)
        has_varied_alpha = alpha_HW is not None and alpha_HW.min() < alpha_HW.max()
        num_passes, num_done = 1 + has_varied_alpha, 0

        def pass_progress(done: int, count: int) -> None:
            if progress is not None:
                progress((num_done + done / count) / num_passes)

        if has_varied_alpha:
            colour_HWC = fill_hidden_colours(colour_HWC, alpha_HW)
        sr_HWC = self._upscale_channels(colour_HWC[..., :1] if picture.is_grey else colour_HWC, pass_progress)
        sr_HWC = np.repeat(sr_HWC, 3, axis=2) if picture.is_grey else sr_HWC
        if alpha_HW is None:
            return Picture(sr_HWC, None, picture.is_grey)
        num_done = 1
        if has_varied_alpha:
            sr_alpha_HW = self._upscale_channels(alpha_HW[..., None], pass_progress)[..., 0]
            sr_alpha_HW = keep_within_neighbours(sr_alpha_HW, alpha_HW, self.scale)
        else:
            sr_alpha_HW = np.full(sr_HWC.shape[:2], alpha_HW.flat[0], alpha_HW.dtype)
        return Picture(sr_HWC, sr_alpha_HW, picture.is_grey)

    def _upscale_channels(self, image_HWC: np.ndarray, progress: Callable[[int, int], None]) -> np.ndarray:
        """Enlarge (H, W, 1 or 3) of 8 or 16 bits, whichever number of channels the network takes."""
        lr_CHW = image_to_tensor(image_HWC)
        num_channels = len(lr_CHW)
        if self.num_channels == 1:
            lr_BCHW = lr_CHW[:, None]  # each colour is a grey picture
        else:
            lr_BCHW = lr_CHW.expand(3, -1, -1)[None]
        tile_size, batch_size = self._plan(*lr_BCHW.shape[-2:])
        height, width = image_HWC.shape[0] * self.scale, image_HWC.shape[1] * self.scale
        sr_HWC = np.empty((height, width, num_channels), image_HWC.dtype)
        for start, rows_BCHW in upscale_rows(
            self.network,
            lr_BCHW,
            scale=self.scale,
            tile_size=tile_size,
            tile_overlap=self.tile_overlap,
            batch_size=batch_size,
            device=self.device,
            alignment=self.alignment,
            precision=self.precision,
            progress=progress,
        ):
            rows_CHW = rows_BCHW.flatten(0, 1)
            if num_channels < len(rows_CHW):
                rows_CHW = rows_CHW.mean(dim=0, keepdim=True)
            sr_HWC[start : start + rows_CHW.shape[1]] = tensor_to_image(rows_CHW, image_HWC.dtype.type)
        return sr_HWC

    def _plan(self, height: int, width: int) -> tuple[int | None, int]:
        """Choose (tile size, batch size) for a picture."""
        if self.tile_size is not None:
            return self.tile_size or None, self.batch_size or 1
        if height * width <= PROBE_SIDE**2:
            return None, self.batch_size or 1
        if self._pixel_bytes is None:
            self._pixel_bytes = bytes_per_pixel(
                self.network, scale=self.scale, device=self.device, precision=self.precision
            )
        budget = available_bytes(self.device) * SHARE.get(self.device.type, SHARE["cpu"])
        tile_size, batch_size = plan_tiles(
            self._pixel_bytes * (self.batch_size or 1),
            budget,
            height,
            width,
            tile_overlap=self.tile_overlap,
            alignment=self.alignment,
            device_type=self.device.type,
        )
        batch_size = self.batch_size or batch_size
        logger.info(
            "%dx%d: %s, %d at once (%.0f kB a pixel, %.1f GB free to use)",
            width,
            height,
            f"tiles of {tile_size}" if tile_size else "whole",
            batch_size,
            self._pixel_bytes / 1e3,
            budget / 1e9,
        )
        return tile_size, batch_size

    @torch.no_grad()
    def _measure_scale(self) -> int:
        """Return the network's `upscale`, or what it makes of a small picture."""
        upscale = getattr(self.network, "upscale", None)
        if isinstance(upscale, int):
            return upscale
        side = 64 // self.alignment * self.alignment or self.alignment
        with evaluating(self.network):
            sr_BCHW = self.network(torch.zeros(1, self.num_channels, side, side, device=self.device))
        return sr_BCHW.shape[-1] // side


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


def keep_within_neighbours(sr_alpha_HW: np.ndarray, alpha_HW: np.ndarray, scale: int) -> np.ndarray:
    """Clamp enlarged opacity to the least and greatest value of the 3x3 source pixels around.

    Args:
        sr_alpha_HW: (H * scale, W * scale), uint8 or uint16.
        alpha_HW: the source (H, W), same type.
        scale: enlargement.
    """
    alpha_BCHW = torch.from_numpy(alpha_HW.astype(np.float32))[None, None]

    def enlarge(x_BCHW: Tensor) -> np.ndarray:
        return F.interpolate(x_BCHW, scale_factor=scale)[0, 0].numpy()

    greatest_HW = enlarge(F.max_pool2d(alpha_BCHW, 3, 1, 1))
    least_HW = enlarge(-F.max_pool2d(-alpha_BCHW, 3, 1, 1))
    return np.clip(sr_alpha_HW, least_HW, greatest_HW).astype(sr_alpha_HW.dtype)
