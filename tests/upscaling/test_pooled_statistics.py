"""Means of global pools: pictures that share their tiles are each computed as if they were alone."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hriusr.upscaling.library import Upscaler
from hriusr.upscaling.picture_upscaler import PictureUpscaler, TileOptions
from hriusr.upscaling.tiling import TensorRows, TiledUpscale, TileSettings, tile_upscale


class Gated(nn.Module):
    """Two 1x1 convolutions, each multiplied by what global means say; twice as large.

    Attributes:
        limit: pixels of a pass beyond which memory runs out.
    """

    upscale = 2

    def __init__(self, in_chans: int = 3):
        super().__init__()
        torch.manual_seed(0)
        self.in_chans, self.limit = in_chans, 10**9
        self.layers = nn.ModuleList([nn.Conv2d(in_chans, 8, 1), nn.Conv2d(8, in_chans, 1)])
        self.pools = nn.ModuleList([nn.AdaptiveAvgPool2d(1), nn.AdaptiveAvgPool2d(1)])

    def forward(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > self.limit:
            raise MemoryError
        for layer, pool in zip(self.layers, self.pools, strict=True):
            x = layer(x)
            x = x * (1 + pool(x).tanh())
        return F.interpolate(x, scale_factor=2)


def pictures():
    """A dark and a bright picture, with another mean in each tile."""
    dark = torch.linspace(0, 0.3, 20 * 26).reshape(1, 1, 20, 26).expand(-1, 3, -1, -1)
    return torch.cat((dark, 1 - dark.flip(2) * torch.rand(1, 3, 1, 1)))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_pictures_that_share_tiles_have_means_of_their_own(batch_size):
    network, lr = Gated().eval(), pictures()
    with torch.no_grad():
        whole = network(lr)
    options = {"scale": 2, "tile_size": 8, "tile_overlap": 0, "batch_size": batch_size, "exact_pools": True}
    together = tile_upscale(network, lr, **options)
    alone = torch.cat([tile_upscale(network, picture[None], **options) for picture in lr])
    torch.testing.assert_close(together, whole, rtol=0, atol=1e-5)
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-6)


def test_parts_of_a_tile_that_does_not_fit_take_the_means_of_their_picture():
    network, lr = Gated().eval(), pictures()
    whole = tile_upscale(network, lr, scale=2, tile_size=None)
    tiled = TiledUpscale(network, TensorRows(lr), scale=2, settings=TileSettings(10, tile_overlap=0, exact_pools=True))
    tiled.measure_pools()
    network.limit = 50
    result = torch.zeros_like(whole)
    for _, block in tiled.blocks():
        block.place_in(result)
    torch.testing.assert_close(result, whole, rtol=0, atol=1e-5)


def test_tiles_that_are_computed_again_in_float32_count_once():
    """Bright ones overflow in the second layer; the first pool has measured by then."""

    class Overflowing(Gated):
        def forward(self, x):
            first = self.layers[0](x)
            first = first * (1 + self.pools[0](first).tanh())
            second = self.layers[1](first)
            if torch.is_autocast_enabled("cpu"):
                second = torch.where(x.mean((1, 2, 3), keepdim=True) > 0.5, torch.inf, second)
            second = second * (1 + self.pools[1](second).tanh())
            return F.interpolate(second.float(), scale_factor=2)

    lr = pictures()
    settings = TileSettings(8, tile_overlap=0, exact_pools=True, precision="bf16")
    sums = []
    for network in (Gated().eval(), Overflowing().eval()):
        tiled = TiledUpscale(network, TensorRows(lr), scale=2, settings=settings)
        tiled.measure_pools()
        sums.append(tiled.statistics.means)
    for expected, means in zip(*sums, strict=True):
        torch.testing.assert_close(means, expected, rtol=0, atol=2e-2)


@pytest.mark.parametrize(("in_chans", "num_channels"), [(3, 4), (1, 3), (1, 4)])
def test_alpha_and_colours_do_not_tell_each_other_how_bright_they_are(in_chans, num_channels):
    pixels = np.random.default_rng(0).integers(1, 255, (20, 26, num_channels), np.uint8)
    pixels[..., -1] //= 4
    whole, tiled = (
        PictureUpscaler(
            Gated(in_chans).eval(),
            device=torch.device("cpu"),
            options=TileOptions(tile_size=size, tile_overlap=None, exact=size > 0),
        ).upscale_array(pixels)
        for size in (0, 8)
    )
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_a_batch_of_the_library_is_computed_as_its_pictures_are():
    upscaler, lr = Upscaler(Gated(), device="cpu"), pictures()
    options = {"tile_size": 8, "tile_overlap": 0, "batch_size": 3}
    together = upscaler.upscale(lr, **options)
    for picture, result in zip(lr, together, strict=True):
        torch.testing.assert_close(upscaler.upscale(picture, **options), result, rtol=0, atol=1e-6)


def test_pools_of_windows_are_left_alone():
    class Windows(Gated):
        def forward(self, x):
            windows = x.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 1, 4, 5)
            means = self.pools[0](windows.flatten(0, 2)).view(*windows.shape[:4])
            return F.interpolate(means.permute(0, 3, 1, 2), scale_factor=8)

    network, lr = Windows().eval(), torch.rand(2, 3, 16, 24)
    tiled = tile_upscale(network, lr, scale=2, tile_size=8, tile_overlap=0, alignment=4, exact_pools=True)
    torch.testing.assert_close(tiled, network(lr), rtol=0, atol=1e-6)
