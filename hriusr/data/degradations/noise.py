"""Gaussian noise (of the sensor and its amplifier) and Poisson noise (of the light itself), coloured or grey."""

import torch
from torch import Tensor

_GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # torchvision's rgb_to_grayscale


def add_gaussian_noise(x_CHW: Tensor, sigma: float, *, is_grey: bool, generator: torch.Generator) -> Tensor:
    """Add normal noise and clamp.

    Args:
        x_CHW: 0..1.
        sigma: standard deviation, of 255.
        is_grey: the same noise in all channels.
        generator: on the device of x.

    Returns:
        (C, H, W), 0..1.
    """
    shape = (1, *x_CHW.shape[1:]) if is_grey else x_CHW.shape
    noise = torch.randn(shape, generator=generator, dtype=x_CHW.dtype, device=x_CHW.device)
    return (x_CHW + noise * (sigma / 255)).clamp_(0, 1)


def add_poisson_noise(x_CHW: Tensor, factor: float, *, is_grey: bool, generator: torch.Generator) -> Tensor:
    """Add photon noise and clamp.

    The picture is taken to count as many photons at full brightness as it has different values of 8 bits, rounded up
    to a power of two, as scikit-image's random_noise does.

    Args:
        x_CHW: RGB, 0..1.
        factor: of the noise; 1 is the physical one.
        is_grey: noise of the grey picture, the same in all channels.
        generator: on the device of x.

    Returns:
        (C, H, W), 0..1.
    """
    source = x_CHW
    if is_grey:
        source = (x_CHW * x_CHW.new_tensor(_GREY_WEIGHTS)[:, None, None]).sum(0, keepdim=True)
    levels = (source * 255).round_().clamp_(0, 255)
    seen = torch.zeros(256, dtype=x_CHW.dtype, device=x_CHW.device)
    seen.scatter_(0, levels.flatten().long(), 1.0)  # not torch.unique: it would wait for a GPU
    photons = 2 ** seen.sum().log2().ceil()
    levels /= 255
    noise = torch.poisson(levels * photons, generator=generator) / photons - levels
    return (x_CHW + noise * factor).clamp_(0, 1)
