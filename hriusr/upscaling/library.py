"""hriusr inside other programs: `hriusr.load("weights.safetensors").upscale(image)`.

Which images there are: upscaling/image_forms.py. Transparency is treated as `hriusr upscale` does: hidden colours are
replaced by the nearest visible ones, and enlarged opacity stays within its neighbours.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from hriusr.archs.pretrained import find_weights
from hriusr.archs.weights import network_from_weights
from hriusr.errors import OptionsError
from hriusr.models.precision import Precision, named_device
from hriusr.upscaling.image_forms import to_pixels
from hriusr.upscaling.memory_plan import SHARE, available_bytes, bytes_per_pixel, plan_tiles
from hriusr.upscaling.onnx_backend import check_precision, load_onnx_network
from hriusr.upscaling.picture_rows import fill_hidden_colours, keep_within_neighbours
from hriusr.upscaling.picture_upscaler import PictureUpscaler
from hriusr.upscaling.tile_plan import default_overlap
from hriusr.upscaling.tiling import tile_upscale

Progress = Callable[[int, int], None]
ImageForm = TypeVar("ImageForm", np.ndarray, Tensor, Image.Image)


class Upscaler:
    """A network that enlarges images of any kind and size.

    Args:
        network: takes (B, C, H, W), 0..1, of 1 or 3 channels.
        device: where to compute; the network is moved there. None: the GPU where there is one.

    Raises:
        WeightsError: the network takes neither 1 nor 3 channels.
        OptionsError: no such device.
    """

    def __init__(self, network: nn.Module, *, device: str | torch.device | None = None):
        self.device = named_device(device)
        facts = PictureUpscaler(network, device=self.device)
        self.network: nn.Module = facts.network
        self.scale: int = facts.scale
        self.num_channels: int = facts.num_channels
        self.alignment: int = facts.alignment
        self._pixel_bytes: dict[str, float] = {}

    @classmethod
    def load(
        cls,
        weights: str | os.PathLike[str],
        *,
        device: str | torch.device | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> "Upscaler":
        """Load a file; see hriusr.load."""
        if Path(weights).suffix == ".onnx":
            if settings:
                raise OptionsError(f"settings (={', '.join(settings)}) cannot change {weights}: leave them out")
            network = load_onnx_network(weights, device=device)
            return cls(network, device="cpu")  # onnxruntime has its own way to a GPU
        return cls(network_from_weights(find_weights(weights), settings=settings), device=device)

    def upscale(
        self,
        image: ImageForm,
        *,
        tile_size: int | None = None,
        tile_overlap: int | None = None,
        batch_size: int | None = None,
        precision: str = "fp32",
        progress: Progress | None = None,
    ) -> ImageForm:
        """Enlarge an image; the result has its type, dtype, layout and mode.

        Args:
            image: NumPy array (H, W) or (H, W, C), PIL image, or tensor (C, H, W) or (B, C, H, W); uint8, uint16, or
                floats of 0..1; grey or RGB, with or without alpha. See image_forms.py. PIL's palettes are made anew,
                and a transparent colour becomes alpha.
            tile_size: own low-resolution pixels of a tile; None: planned from free memory; 0: never tiled.
            tile_overlap: pixels read around a tile; None: two windows of the network, 16 to 32.
            batch_size: tiles at once; None: as many as fit (one on a CPU).
            precision: fp32, bf16 or fp16 (autocast).
            progress: called as progress(finished tiles, all tiles), for colours and then for alpha.

        Returns:
            The image, scale times as high and wide. Integers are rounded; floats are not clamped.

        Raises:
            DataError: an image that is not taken.
            OptionsError: an option out of range.
            HriusrError: not enough memory for the smallest tile, or results are not finite.
        """
        for name, value, least in (
            ("tile_size", tile_size, 0),
            ("tile_overlap", tile_overlap, 0),
            ("batch_size", batch_size, 1),
        ):
            if value is not None and value < least:
                raise OptionsError(f"{name} (={value}) must be at least {least}")
        Precision(precision, self.device)  # refuses an unknown one
        check_precision(self.network, precision)
        pixels_BCHW, restore = to_pixels(image)
        num_colours = 1 if pixels_BCHW.shape[1] <= 2 else 3
        colour_BCHW, alpha_B1HW = pixels_BCHW[:, :num_colours], pixels_BCHW[:, num_colours:]
        has_alpha = alpha_B1HW.shape[1] > 0
        if has_alpha:
            colour_BCHW = torch.stack([_visible(c, a[0]) for c, a in zip(colour_BCHW, alpha_B1HW, strict=True)])
        options = {"tile_size": tile_size, "tile_overlap": tile_overlap, "batch_size": batch_size}
        sr_BCHW = self._enlarge(colour_BCHW, precision, progress, **options)
        if has_alpha:
            sr_alpha_B1HW = self._enlarge(alpha_B1HW, precision, progress, **options)
            for sr_1HW, alpha_1HW in zip(sr_alpha_B1HW, alpha_B1HW, strict=True):
                sr_1HW[0] = torch.from_numpy(
                    keep_within_neighbours(sr_1HW[0].numpy(), alpha_1HW[0].numpy(), self.scale)
                )
            sr_BCHW = torch.cat((sr_BCHW, sr_alpha_B1HW), 1)
        return restore(sr_BCHW)

    def _enlarge(
        self,
        x_BCHW: Tensor,
        precision: str,
        progress: Progress | None,
        *,
        tile_size: int | None,
        tile_overlap: int | None,
        batch_size: int | None,
    ) -> Tensor:
        """Enlarge pictures of 1 or 3 channels, whichever of the two the network takes."""
        batch, channels, height, width = x_BCHW.shape
        lr_BCHW = x_BCHW.expand(-1, 3, -1, -1) if self.num_channels == 3 else x_BCHW.reshape(-1, 1, height, width)
        tile_overlap = default_overlap(self.alignment) if tile_overlap is None else tile_overlap
        if tile_size is None:
            if precision not in self._pixel_bytes:
                self._pixel_bytes[precision] = bytes_per_pixel(
                    self.network, scale=self.scale, device=self.device, precision=precision
                )
            tile_size, planned = plan_tiles(
                self._pixel_bytes[precision] * len(lr_BCHW) * (batch_size or 1),
                available_bytes(self.device) * SHARE.get(self.device.type, SHARE["cpu"]),
                height,
                width,
                tile_overlap=tile_overlap,
                alignment=self.alignment,
                device_type=self.device.type,
            )
            batch_size = batch_size or planned
        sr_BCHW = tile_upscale(
            self.network,
            lr_BCHW,
            scale=self.scale,
            tile_size=tile_size or None,
            tile_overlap=tile_overlap,
            batch_size=batch_size or 1,
            device=self.device,
            alignment=self.alignment,
            precision=precision,
            progress=progress,
        )
        if self.num_channels == 3:
            return sr_BCHW.mean(1, keepdim=True) if channels == 1 else sr_BCHW
        return sr_BCHW.reshape(batch, channels, *sr_BCHW.shape[-2:])


def _visible(colour_CHW: Tensor, alpha_HW: Tensor) -> Tensor:
    """Give pixels that cannot be seen the colour of the nearest that can."""
    colour_HWC = fill_hidden_colours(colour_CHW.permute(1, 2, 0).numpy(), alpha_HW.numpy())
    return torch.from_numpy(colour_HWC).permute(2, 0, 1)
