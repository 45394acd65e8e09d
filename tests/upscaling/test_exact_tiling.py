"""Tiles whose overlap is the measured reach of the network give the whole picture, for every architecture."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.data.image_io import image_to_tensor
from hriusr.errors import HriusrError, OptionsError
from hriusr.upscaling import receptive_field
from hriusr.upscaling.picture_upscaler import PictureUpscaler, TileOptions
from hriusr.upscaling.pooled_statistics import has_unheld_pools
from hriusr.upscaling.receptive_field import measure_reach, receptive_reach
from hriusr.upscaling.tile_plan import network_alignment, plan_axis
from hriusr.upscaling.tiling import TensorRows, TiledUpscale, TileSettings, tile_upscale

TINY = [name for name in VARIANTS if "_tiny_" in name]


def trained_looking(name):
    """A tiny network of a size, with weights as if trained: nothing at zero, details that matter."""
    torch.manual_seed(3)
    network = build_network(VARIANTS[name].network_opt()).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2 if parameter.dim() > 1 else 0.5)
    return network


@pytest.mark.parametrize("is_column", [True, False])
@pytest.mark.parametrize("name", TINY)
def test_tiled_equals_whole_picture(photo, name, is_column):
    network = trained_looking(name)
    alignment, reach = network_alignment(network), measure_reach(network, scale=2)
    size = 2 * reach + 3 * alignment + 5
    lr = image_to_tensor(photo("coffee")[60 : 60 + alignment + 3, :size])[None]
    lr = lr if is_column else lr.transpose(2, 3)
    assert len(plan_axis(size, 1, reach, blend=0, alignment=alignment).origins) > 1
    whole, tiled, cut = (
        tile_upscale(network, lr, scale=2, tile_size=tile_size, tile_overlap=overlap, blend=0, exact_pools=True)
        for tile_size, overlap in ((None, 0), (1, reach), (alignment, 0))
    )
    error = (tiled - whole).abs().max() / whole.std()
    assert error < 2e-5
    assert (cut - whole).abs().max() / whole.std() > 100 * error + 1e-3  # what the overlap is for


def test_reach_of_convolutions_is_their_radius():
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 5, padding=2), nn.Conv2d(4, 3, 1)]
    assert measure_reach(nn.Sequential(*layers), scale=1) == 3


def test_global_pools_are_told_apart_from_reach():
    name = next(name for name in TINY if name.startswith("hat"))
    assert measure_reach(trained_looking(name), scale=2) < 64


def test_a_network_that_sees_everything_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("HRIUSR_CACHE", str(tmp_path))
    monkeypatch.setattr(receptive_field, "LARGEST", 128)

    class Centred(nn.Module):
        def forward(self, x):
            return x - x.mean((2, 3), keepdim=True)

    with pytest.raises(
        HriusrError, match=r"Centred\) looks at more than 64 pixels.*; leave exact out, or use tile_size 0"
    ):
        receptive_reach(Centred(), scale=1)
    options = TileOptions(exact=True, tile_size=0)
    upscaler = PictureUpscaler(Centred(), device=torch.device("cpu"), options=options)
    pixels = np.full((9, 70, 3), 99, np.uint8)
    assert not upscaler.upscale_array(pixels).any()


def test_reach_is_measured_once_a_structure(monkeypatch, tmp_path):
    monkeypatch.setenv("HRIUSR_CACHE", str(tmp_path))
    calls = []
    monkeypatch.setattr(receptive_field, "measure_reach", lambda network, scale: calls.append(1) or 7)
    opt = VARIANTS["swinir_tiny_x2"].network_opt()
    assert [receptive_reach(build_network(opt), scale=2) for _ in range(2)] == [7, 7]
    assert receptive_reach(build_network({**opt, "window_size": 8}), scale=2) == 7
    assert len(calls) == 2
    assert sorted(json.loads((tmp_path / "receptive_fields.json").read_text()).values()) == [7, 7]


@pytest.mark.parametrize("exact", [True, False])
def test_means_of_global_pools_are_those_of_the_whole_picture(photo, exact):
    network = build_network({**VARIANTS["hat_tiny_x2"].network_opt(), "conv_scale": 1.0}).eval()
    reach = measure_reach(network, scale=2)
    lr = image_to_tensor(photo("astronaut")[:90, :120])[None]
    whole = tile_upscale(network, lr, scale=2, tile_size=None)
    held = tile_upscale(network, lr, scale=2, tile_size=16, tile_overlap=reach, blend=0, exact_pools=exact)
    free = _without_held_means(network, lr, reach)
    error, free_error = ((sr - whole).abs().max().item() for sr in (held, free))
    assert error < (1e-5 if exact else 0.2 * free_error)
    assert free_error > 1e-4


def _without_held_means(network, lr, reach):
    """As other programs do it: each tile with the means of its own."""
    result = torch.zeros(1, 3, 2 * lr.shape[2], 2 * lr.shape[3])
    settings = TileSettings(tile_size=16, tile_overlap=reach, blend=0)
    for _, block in TiledUpscale(network, TensorRows(lr), scale=2, settings=settings).blocks():
        block.place_in(result)
    return result


def test_pools_that_cannot_be_held_are_told_of_and_refused_where_exact():
    network = build_network(VARIANTS["hat_tiny_x2"].network_opt()).eval()
    compiled = torch.compile(network)  # compiled when it first runs, which it does not here
    assert (has_unheld_pools(network), has_unheld_pools(compiled)) == (False, True)
    assert not has_unheld_pools(torch.compile(build_network(VARIANTS["swinir_tiny_x2"].network_opt())))
    with pytest.raises(OptionsError, match="exact: the network has global pools"):
        PictureUpscaler(compiled, device=torch.device("cpu"), options=TileOptions(exact=True))
    PictureUpscaler(compiled, device=torch.device("cpu"), options=TileOptions(exact=True, tile_size=0))
