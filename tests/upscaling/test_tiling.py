"""Tiled upscaling: equality with the whole picture, edges, batches, failures of memory and of half precision."""

import logging

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hriusr.errors import HriusrError
from hriusr.upscaling.blending import _ramp
from hriusr.upscaling.tile_runner import is_out_of_memory
from hriusr.upscaling.tiling import TensorRows, TiledUpscale, TileSettings, tile_upscale
from tests.upscaling.nearest_network import Nearest


class Local(nn.Module):
    """Three 3x3 convolutions and pixel shuffle: sees 3 pixels far."""

    radius = 3

    def __init__(self, scale: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 3 * scale**2, 3, padding=1),
            nn.PixelShuffle(scale),
        )

    def forward(self, x):
        return self.layers(x)


class LimitedMemory(Nearest):
    """Nearest that runs out of memory above a number of input pixels."""

    def __init__(self, scale: int, limit: int):
        super().__init__(scale)
        self.limit = limit
        self.num_failures = 0

    def forward(self, x):
        if x.shape[0] * x.shape[2] * x.shape[3] > self.limit:
            self.num_failures += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return super().forward(x)


class WindowMixer(nn.Module):
    """Mix each 4x4 window by one fixed matrix: any shift of the window grid changes the result."""

    window_size = 4

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(16, 16)

    def forward(self, x):
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 4, 0, -height % 4), mode="replicate")
        windows = x.unfold(2, 4, 4).unfold(3, 4, 4).flatten(4)
        mixed = self.mix(windows).unflatten(-1, (4, 4)).permute(0, 1, 2, 4, 3, 5)
        return mixed.flatten(2, 3).flatten(3, 4)[..., :height, :width]


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (23, 41), (32, 32), (50, 33)])
def test_local_network_tiled_equals_whole_picture(scale, size):
    network, lr = Local(scale).eval(), torch.rand(1, 3, *size)
    with torch.no_grad():
        whole = network(lr)
    receptive_field = 2 * network.radius + 1
    tiled = tile_upscale(network, lr, scale=scale, tile_size=9, tile_overlap=receptive_field, batch_size=3)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_hard_cut_is_exact_from_the_radius_on_and_not_below():
    network, lr = Local(2).eval(), torch.rand(1, 3, 40, 40)
    with torch.no_grad():
        whole = network(lr)
    error = [
        (tile_upscale(network, lr, scale=2, tile_size=8, tile_overlap=overlap, blend=0) - whole).abs().max().item()
        for overlap in (network.radius - 1, network.radius)
    ]
    assert error[1] < 1e-6 < 1e-4 < error[0]


@pytest.mark.parametrize("size", [(30, 30), (37, 50), (32, 41)])
def test_windows_fall_as_in_the_whole_picture(size):
    network, lr = WindowMixer().eval(), torch.rand(1, 3, *size)
    with torch.no_grad():
        whole = network(lr)
    tiled = tile_upscale(network, lr, scale=1, tile_size=10, tile_overlap=8)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("tile_overlap", [0, 1, 4, 16])
@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_identity_comes_back_bit_for_bit(photo, scale, tile_overlap):
    lr = torch.from_numpy(photo("chelsea")[:61, :83]).permute(2, 0, 1)[None] / 255
    tiled = tile_upscale(Nearest(scale), lr, scale=scale, tile_size=16, tile_overlap=tile_overlap, batch_size=2)
    assert torch.equal(tiled, F.interpolate(lr, scale_factor=scale))


def test_no_black_line_at_the_borders():
    class Ones(nn.Module):
        def forward(self, x):
            return torch.ones_like(x)

    tiled = tile_upscale(Ones(), torch.zeros(1, 3, 50, 70), scale=1, tile_size=16, tile_overlap=6)
    assert torch.equal(tiled, torch.ones(1, 3, 50, 70))


def test_every_tile_is_written_and_weights_sum_to_one():
    class Numbered(nn.Module):
        """Give every tile its own constant, so the result shows who wrote what."""

        count = 0

        def forward(self, x):
            self.count += 1
            return torch.full_like(x, float(self.count))

    network, done = Numbered(), []
    tiled = tile_upscale(
        network,
        torch.zeros(1, 1, 48, 48),
        scale=1,
        tile_size=16,
        tile_overlap=4,
        progress=lambda *numbers: done.append(numbers),
    )
    assert network.count == 9
    assert done == [(number, 9) for number in range(1, 10)]
    assert tiled[0, 0, ::23, ::23].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]  # corners, sides and middle
    assert tiled.min() == 1
    assert tiled.max() == 9


def test_tiles_have_one_shape_and_are_batched():
    network = Nearest(2)
    tile_upscale(network, torch.rand(1, 3, 70, 45), scale=2, tile_size=16, tile_overlap=4, batch_size=4)
    assert {shape[1:] for shape in network.shapes} == {network.shapes[0][1:]}
    assert {shape[0] for shape in network.shapes[:-1]} == {4}


@pytest.mark.parametrize("batch_size", [2, 5, 100])
def test_batch_size_does_not_change_the_result(batch_size):
    network, lr = Local(2), torch.rand(2, 3, 40, 29)
    one, many = (
        tile_upscale(network, lr, scale=2, tile_size=8, tile_overlap=4, batch_size=size) for size in (1, batch_size)
    )
    torch.testing.assert_close(one, many, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (20, 20)])
def test_picture_smaller_than_a_tile_is_one_tile(size):
    network = Nearest(3)
    tile_upscale(network, torch.rand(1, 3, *size), scale=3, tile_size=64)
    assert network.shapes == [(1, 3, *size)]


def test_blocks_cover_the_picture_once_row_by_row():
    lr = torch.rand(1, 3, 61, 50)
    settings = TileSettings(tile_size=8, tile_overlap=4)
    times_covered, result = torch.zeros(122, 100), torch.zeros(1, 3, 122, 100)
    tops = []
    for _, block in TiledUpscale(Nearest(2), TensorRows(lr), scale=2, settings=settings).blocks():
        block.place_in(result)
        height, width = block.pixels_BCHW.shape[-2:]
        times_covered[block.top : block.top + height, block.left : block.left + width] += 1
        tops.append(block.top)
    assert (times_covered == 1).all()
    assert tops == sorted(tops)
    assert torch.equal(result, F.interpolate(lr, scale_factor=2))


def test_going_on_at_a_row_of_tiles_gives_the_same_pixels():
    network, lr = Local(2).eval(), torch.rand(1, 3, 60, 40)
    settings = TileSettings(tile_size=8, tile_overlap=4)
    whole = tile_upscale(network, lr, scale=2, tile_size=8, tile_overlap=4)
    first = TiledUpscale(network, TensorRows(lr), scale=2, settings=settings)
    num_columns = len(first.columns.origins)
    result = torch.zeros_like(whole)
    for number, block in first.blocks():
        block.place_in(result)
        if number == 2 * num_columns - 1:
            break
    second = TiledUpscale(network, TensorRows(lr), scale=2, settings=settings)
    for _, block in second.blocks(first_row=2, above=first.open_fade):
        block.place_in(result)
    assert torch.equal(result, whole)


def test_result_goes_to_the_array_of_the_caller(tmp_path):
    lr = torch.rand(1, 3, 30, 20)
    canvas = np.memmap(tmp_path / "canvas", dtype=np.float32, mode="w+", shape=(1, 3, 60, 40))
    tile_upscale(Nearest(2), lr, scale=2, tile_size=8, tile_overlap=2, out=canvas)
    assert np.array_equal(canvas, F.interpolate(lr, scale_factor=2).numpy())
    with pytest.raises(ValueError, match=r"out \(shape \(1, 3, 60, 40\)\) must have shape \(1, 3, 30, 20\)"):
        tile_upscale(Nearest(1), lr, scale=1, tile_size=8, out=canvas)


@pytest.mark.parametrize("limit", [4 * 24**2, 24**2, 200, 64])
def test_out_of_memory_shrinks_batch_then_tile_and_loses_nothing(limit, caplog):
    network, lr = LimitedMemory(2, limit), torch.rand(1, 3, 64, 64)
    tiled = tile_upscale(network, lr, scale=2, tile_size=16, tile_overlap=2, batch_size=8)
    assert torch.equal(tiled, F.interpolate(lr, scale_factor=2))
    assert network.num_failures <= 8  # learned once, not once a tile
    pixels = sum(shape[0] * shape[2] * shape[3] for shape in network.shapes)
    assert pixels < 6 * 64 * 64, "tiles that had been finished were computed again"
    assert "out of memory with 8 tiles at once; continuing with 4" in caplog.text


def test_whole_picture_that_does_not_fit_is_cut():
    network, lr = LimitedMemory(2, 1500), torch.rand(1, 3, 64, 50)
    tiled = tile_upscale(network, lr, scale=2, tile_size=None, tile_overlap=4)
    assert torch.equal(tiled, F.interpolate(lr, scale_factor=2))


def test_no_memory_even_for_the_smallest_tile_is_an_error():
    with pytest.raises(HriusrError, match=r"out of memory with a tile of .* cannot be cut further .* overlap of 4"):
        tile_upscale(LimitedMemory(2, 8), torch.rand(1, 3, 32, 32), scale=2, tile_size=8, tile_overlap=4)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (KeyError("out of memory"), False),
    ],
)
def test_out_of_memory_is_told_from_other_errors(error, expected):
    assert is_out_of_memory(error) is expected


def test_other_errors_of_the_network_pass_through():
    with pytest.raises(RuntimeError, match="channels"):
        tile_upscale(Local(2), torch.rand(1, 4, 9, 9), scale=2, tile_size=8)


class HalfOverflows(Nearest):
    """Not finite where autocast is on or the weights are half, on bright tiles only."""

    def __init__(self):
        super().__init__(1, in_chans=1)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x):
        half = torch.is_autocast_enabled("cpu") or self.weight.dtype != torch.float32
        return super().forward(x).masked_fill(x > 0.5, torch.inf if half else 7.0)


@pytest.mark.parametrize("way", ["autocast bf16", "autocast fp16", ".bfloat16()", ".half()"])
def test_tile_not_finite_in_half_precision_is_computed_in_float32(way, caplog):
    caplog.set_level(logging.WARNING)
    network = HalfOverflows()
    precision = way.split()[1] if way.startswith("autocast") else "fp32"
    if not way.startswith("autocast"):
        network = getattr(network, way[1:-2])()
    lr = torch.zeros(1, 1, 32, 32)
    lr[..., 20:, 20:] = 1
    tiled = tile_upscale(network, lr, scale=1, tile_size=8, tile_overlap=0, batch_size=4, precision=precision)
    assert torch.equal(tiled, lr * 7)
    assert "not finite in half precision" in caplog.text


def test_broken_weights_are_an_error_not_a_black_tile():
    network = Local(2)
    nn.init.constant_(network.layers[0].weight, torch.nan)
    with pytest.raises(HriusrError, match="NaN or infinite even in float32: its weights are broken"):
        tile_upscale(network, torch.rand(1, 3, 20, 20), scale=2, tile_size=8)


def test_wrong_scale_is_named():
    with pytest.raises(ValueError, match=r"scale \(=3\) must be the network's"):
        tile_upscale(Nearest(2), torch.rand(1, 3, 20, 20), scale=3, tile_size=8)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"batch_size": 0}, r"batch_size \(=0\) must be at least 1"),
        ({"tile_overlap": -1}, r"tile_overlap \(=-1\) must be at least 0"),
    ],
)
def test_a_wrong_option_is_named(more, message):
    with pytest.raises(ValueError, match=message):
        tile_upscale(Nearest(2), torch.rand(1, 3, 9, 9), scale=2, tile_size=8, **more)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 3, 0, 8)])
def test_a_tensor_that_is_no_picture_is_named(shape):
    with pytest.raises(ValueError, match=r"lr_BCHW \(shape .*\) must have 4 dimensions, none of them 0"):
        TensorRows(torch.rand(shape))


def test_modes_of_the_modules_are_restored_and_dropout_is_off():
    network = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(3).eval())
    lr = torch.rand(1, 3, 20, 20)
    tiled = tile_upscale(network, lr, scale=1, tile_size=8)
    torch.testing.assert_close(tiled, lr, rtol=0, atol=1e-4)
    assert [module.training for module in network.modules()] == [True, True, False]
    assert not tiled.requires_grad


def test_ramp_is_smooth_and_symmetric():
    ramp = _ramp(32)
    torch.testing.assert_close(ramp + ramp.flip(0), torch.ones(32))
    assert (ramp.diff() > 0).all()
    assert ramp[0] < 0.005
