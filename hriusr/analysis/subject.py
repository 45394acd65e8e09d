"""What is looked at: a network from a file on its device, and pictures as it sees them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hriusr.archs.weights import network_from_weights
from hriusr.data.image_io import read_image
from hriusr.data.matlab_resize import downsample
from hriusr.data.transforms import crop_to_multiple
from hriusr.errors import DataError
from hriusr.models.precision import named_device
from hriusr.upscaling.picture_upscaler import PictureUpscaler


def load_upscaler(
    weights: str | Path, device: str | None = None, settings: Mapping[str, Any] | None = None
) -> tuple[PictureUpscaler, dict[str, str]]:
    """Load a network with what is known of it: scale, channels, alignment of its windows.

    Args:
        weights: file, as network_from_weights takes it.
        device: "cpu", "cuda", "cuda:1"... None: the GPU where there is one.
        settings: constructor arguments, where the file is wrong or silent.

    Returns:
        The network, and the file's and network's name for reports.

    Raises:
        OptionsError: there is no such device.
        WeightsError: the weights are missing, damaged, or do not say what network they belong to.
    """
    place = named_device(device)
    network = network_from_weights(weights, settings=settings)
    return PictureUpscaler(network, device=place), {"weights": str(weights), "network": type(network).__name__}


def read_low_resolution(path: str | Path, *, scale: int, is_hr: bool, num_channels: int) -> np.ndarray:
    """Read a picture as a network sees it.

    Args:
        path: the picture.
        scale: of the network.
        is_hr: shrink it first, by MATLAB's bicubic with rounding, as the benchmarks' pictures are made.
        num_channels: 3, or 1 for the mean of the colours.

    Returns:
        (H, W, num_channels) float32 in 0..1.

    Raises:
        DataError: it cannot be read, or is smaller than scale.
    """
    image_HWC = read_image(path)
    if is_hr:
        image_HWC = crop_to_multiple(image_HWC, scale)
        if 0 in image_HWC.shape:
            raise DataError(f"{path} is smaller than the scale (={scale}): take a larger picture, or leave --hr out")
        image_HWC = downsample(image_HWC, scale)
    lr_HWC = image_HWC.astype(np.float32) / np.iinfo(image_HWC.dtype).max
    return lr_HWC if num_channels == 3 else lr_HWC.mean(axis=2, keepdims=True)
