"""One picture through a network: transparency, channels, scale."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hriusr.errors import HriusrError, WeightsError
from hriusr.upscaling.job_runner import JobRunner
from hriusr.upscaling.picture_rows import fill_hidden_colours, keep_within_neighbours
from hriusr.upscaling.picture_upscaler import PictureUpscaler, TileOptions
from hriusr.upscaling.sharing import TileSharing
from tests.upscaling.nearest_network import Nearest


class Overshooting(Nearest):
    """Bicubic, which leaves the range of its input around edges."""

    def forward(self, x):
        return F.interpolate(x, scale_factor=self.upscale, mode="bicubic") + 0.01


def noise(shape):
    return np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8, endpoint=True)


def test_constant_alpha_needs_no_second_pass():
    network = Nearest()
    upscaler = PictureUpscaler(network, device=torch.device("cpu"), options=TileOptions(tile_size=0))
    result = upscaler.upscale_array(np.dstack([noise((9, 9, 3)), np.full((9, 9), 7, np.uint8)]))
    assert network.shapes == [(1, 3, 9, 9)]
    assert (result[..., 3] == 7).all()


@pytest.mark.parametrize("tile_size", [0, 8])
def test_alpha_has_no_ringing_and_hidden_colours_do_not_shine_through(tile_size):
    """A white disc cut out of black garbage: every pixel of the result is white, opaque inside, clear outside."""
    row, column = np.mgrid[:40, :40]
    alpha = np.where((row - 20) ** 2 + (column - 20) ** 2 < 150, 255, 0).astype(np.uint8)
    colour = np.where(alpha[..., None] > 0, 255, 0).astype(np.uint8).repeat(3, axis=2)
    options = TileOptions(tile_size=tile_size, tile_overlap=4)
    upscaler = PictureUpscaler(Overshooting(), device=torch.device("cpu"), options=options)
    result = upscaler.upscale_array(np.dstack([colour, alpha]))
    assert (result[..., :3] == 255).all()
    assert set(np.unique(result[::2, ::2, 3][alpha == 0])) >= {0}
    inside = np.hypot(*(np.mgrid[:80, :80] + 0.5 - 41)) < 22
    outside = np.hypot(*(np.mgrid[:80, :80] + 0.5 - 41)) > 28
    assert (result[..., 3][inside] == 255).all()
    assert (result[..., 3][outside] == 0).all()


def test_hidden_colours_take_the_nearest_visible():
    colour = noise((1, 5, 3))
    alpha = np.array([[0, 9, 0, 0, 7]], np.uint8)
    assert np.array_equal(fill_hidden_colours(colour, alpha), colour[:, [1, 1, 1, 4, 4]])
    clear = np.zeros_like(alpha)
    assert fill_hidden_colours(colour, clear) is colour


def test_alpha_is_clamped_to_its_neighbours():
    alpha = np.array([[0, 0, 0, 100, 255]], np.uint8)
    clamped = keep_within_neighbours(np.full((1, 5), 50, np.uint8), alpha, 1)
    assert clamped.tolist() == [[0, 0, 50, 50, 100]]


def test_network_of_another_channel_count_is_refused():
    with pytest.raises(WeightsError, match="takes pictures of 4 channels"):
        PictureUpscaler(Nearest(in_chans=4), device=torch.device("cpu"))


def test_scale_of_a_network_that_does_not_say_it_is_measured():
    network = nn.Sequential(nn.Upsample(scale_factor=3))
    assert PictureUpscaler(network, device=torch.device("cpu")).scale == 3


@pytest.mark.parametrize("sharing", [TileSharing(0, 4), TileSharing(1, 8, num_local=4)])
def test_processes_of_one_machine_divide_its_memory_also_for_what_each_does_alone(monkeypatch, sharing):
    pixel_bytes, free, side = 60_000, 8e9, 500
    monkeypatch.setattr("hriusr.upscaling.picture_upscaler.available_bytes", lambda _: free)
    monkeypatch.setattr("hriusr.upscaling.picture_upscaler.bytes_per_pixel", lambda *_, **__: pixel_bytes)
    upscaler = PictureUpscaler(Nearest(), device=torch.device("cpu"), sharing=sharing)
    plan = upscaler._plan(side, side)
    assert JobRunner(upscaler).alone().upscaler._plan(side, side) == plan
    tile_side = plan["tile_size"] + 2 * upscaler.tile_overlap
    assert free / 32 < tile_side**2 * pixel_bytes <= free / 8  # half of what is free, for four


def test_exact_without_tiles_is_not_cut_in_silence_where_memory_ends():
    class Small(Nearest):
        def forward(self, x):
            if x.shape[-2] * x.shape[-1] > 500:
                raise MemoryError
            return super().forward(x)

    pixels = noise((30, 30, 3))
    for is_exact in (False, True):
        options = TileOptions(tile_size=0, tile_overlap=4, exact=is_exact)
        upscaler = PictureUpscaler(Small(), device=torch.device("cpu"), options=options)
        if is_exact:
            with pytest.raises(HriusrError, match="out of memory with one tile of 30x30 pixels: choose a smaller"):
                upscaler.upscale_array(pixels)
        else:
            assert np.array_equal(upscaler.upscale_array(pixels)[::2, ::2], pixels)
