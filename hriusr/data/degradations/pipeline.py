"""From a sharp picture to a low-resolution one:

    blur 1 -> resize -> noise -> JPEG -> blur 2 -> resize -> noise -> [resize to LR + sinc] and JPEG in either order

Each sample has factors, noise and quality of its own. BasicSR draws most of them once a batch, which its pool makes up
for; drawn a sample, they depend on (seed, position) alone.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from hriusr.data.degradations.draws import SampleDraw, StageDraw
from hriusr.data.degradations.filters import filter_each
from hriusr.data.degradations.jpeg import jpeg
from hriusr.data.degradations.noise import add_gaussian_noise, add_poisson_noise


@torch.no_grad()
def degrade(
    source_BCHW: Tensor,
    kernel1_BKK: Tensor,
    kernel2_BKK: Tensor,
    sinc_BKK: Tensor,
    draws: Sequence[SampleDraw],
    scale: int,
) -> Tensor:
    """Make low-resolution pictures.

    Args:
        source_BCHW: RGB, 0..1; H and W are multiples of scale.
        kernel1_BKK: of the first blur.
        kernel2_BKK: of the second blur.
        sinc_BKK: of the last filter.
        draws: one a picture.
        scale: how much smaller the results are.

    Returns:
        (B, 3, H / scale, W / scale), on the device of source, whole multiples of 1 / 255.
    """
    blurred_BCHW = filter_each(source_BCHW, kernel1_BKK)
    results = []
    for number, draw in enumerate(draws):  # sizes differ from here on
        one = slice(number, number + 1)
        lq_1CHW = _degrade_one(blurred_BCHW[one], kernel2_BKK[one], sinc_BKK[one], draw, scale)
        results.append(lq_1CHW)
    return to_8_bits(torch.cat(results)).float() / 255


def to_8_bits(x_BCHW: Tensor) -> Tensor:
    """Round pictures of 0..1 to uint8, clamping what lies outside."""
    return (x_BCHW * 255).round_().clamp_(0, 255).to(torch.uint8)


def _degrade_one(x_1CHW: Tensor, kernel2_1KK: Tensor, sinc_1KK: Tensor, draw: SampleDraw, scale: int) -> Tensor:
    height, width = x_1CHW.shape[-2] // scale, x_1CHW.shape[-1] // scale
    generator = torch.Generator(x_1CHW.device).manual_seed(draw.noise_seed)

    x_1CHW = _resize(x_1CHW, draw.first)
    x_1CHW = _compress(_add_noise(x_1CHW, draw.first, generator), draw.first)

    if draw.second.is_blurred:
        x_1CHW = filter_each(x_1CHW, kernel2_1KK)
    size = max(1, int(height * draw.second.resize_scale)), max(1, int(width * draw.second.resize_scale))
    x_1CHW = F.interpolate(x_1CHW, size=size, mode=draw.second.resize_mode)
    x_1CHW = _add_noise(x_1CHW, draw.second, generator)

    if not draw.is_jpeg_last:
        x_1CHW = _compress(x_1CHW, draw.second)
    x_1CHW = filter_each(F.interpolate(x_1CHW, size=(height, width), mode=draw.final_mode), sinc_1KK)
    return _compress(x_1CHW, draw.second) if draw.is_jpeg_last else x_1CHW


def _resize(x_1CHW: Tensor, draw: StageDraw) -> Tensor:
    """Resize by a factor, to no less than a pixel."""
    size = [int(side * draw.resize_scale) for side in x_1CHW.shape[-2:]]
    if min(size) == 0:
        return F.interpolate(x_1CHW, size=[max(1, side) for side in size], mode=draw.resize_mode)
    return F.interpolate(x_1CHW, scale_factor=draw.resize_scale, mode=draw.resize_mode)


def _add_noise(x_1CHW: Tensor, draw: StageDraw, generator: torch.Generator) -> Tensor:
    add = add_gaussian_noise if draw.is_gaussian else add_poisson_noise
    return add(x_1CHW[0], draw.noise_strength, is_grey=draw.is_grey, generator=generator)[None]


def _compress(x_1CHW: Tensor, draw: StageDraw) -> Tensor:
    return jpeg(x_1CHW.clamp(0, 1), torch.tensor([draw.jpeg_quality], device=x_1CHW.device))
