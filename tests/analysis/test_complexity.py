"""Multi-Adds against formulas worked out by hand, and against published numbers."""

import pytest
import torch
from torch import nn

from hriusr.analysis.complexity import count_multi_adds, count_parameters
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.blocks.involution import involve
from hriusr.blocks.window_attention import WindowAttention


class Small(nn.Module):
    upscale = 2
    in_chans = 3

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 3, padding=1)
        self.norm = nn.LayerNorm(5)
        self.linear = nn.Linear(5, 7)

    def forward(self, x):
        return self.linear(self.norm(self.conv(x).permute(0, 2, 3, 1)))


def test_layers_count_by_their_formulas():
    pixels = 4 * 6
    network = Small()
    assert count_parameters(network) == 3 * 5 * 9 + 5 + 2 * 5 + 5 * 7 + 7
    assert count_multi_adds(network, 4, 6) == pixels * (3 * 5 * 9 + 5 * 5 + 5 * 7)


class Involving(nn.Module):
    in_chans = 8

    def forward(self, x):
        return involve(x, x.new_zeros(1, 9, 2, *x.shape[2:]))


def test_involution_counts_one_multiply_add_a_place_of_its_kernel():
    assert count_multi_adds(Involving(), 6, 5) == 9 * 8 * 6 * 5


class Attending(nn.Module):
    def __init__(self, dim, window_size, shift_size):
        super().__init__()
        self.in_chans = dim
        self.attention = WindowAttention(dim, window_size, 4, shift_size=shift_size)

    def forward(self, x):
        return self.attention(x.permute(0, 2, 3, 1))


@pytest.mark.parametrize(("dim", "window_size", "shift_size"), [(24, 8, 0), (24, 8, 4), (60, 4, 2)])
@pytest.mark.parametrize(("height", "width"), [(16, 24), (32, 32), (64, 64)])
def test_windows_cost_what_swins_equation_2_says(dim, window_size, shift_size, height, width):
    """arXiv:2103.14030: 4hwC² + 2M²hwC, so linear in the pixels."""
    counted = count_multi_adds(Attending(dim, window_size, shift_size), height, width)
    assert counted == 4 * height * width * dim**2 + 2 * window_size**2 * height * width * dim


@pytest.mark.parametrize("side", [16, 32])
def test_attention_over_the_map_costs_what_swins_equation_1_says(side):
    """4hwC² + 2(hw)²C: quadratic."""
    assert count_multi_adds(Attending(24, side, 0), side, side) == 4 * side**2 * 24**2 + 2 * side**4 * 24


def test_default_size_gives_1280x720():
    assert count_multi_adds(Small()) == count_multi_adds(Small(), 360, 640)


def test_network_is_left_as_it_is():
    network = build_network(VARIANTS["swinir_tiny_x2"].network_opt() | {"drop_path_rate": 0.0})
    before = network(torch.ones(1, 3, 8, 8))
    with torch.no_grad():
        count_multi_adds(network, 8, 8)
    assert network.training
    assert torch.equal(network(torch.ones(1, 3, 8, 8)), before)


@pytest.mark.parametrize(
    ("name", "giga"),
    [
        ("swinir_classical_x4", 53.8),
        ("hat_s_x4", 54.9),
        pytest.param("hat_x4", 104.2, marks=pytest.mark.slow),
        pytest.param("hat_l_x4", 203.7, marks=pytest.mark.slow),
    ],
)
def test_64x64_costs_what_is_published(name, giga):
    with torch.device("meta"):
        network = build_network(VARIANTS[name].network_opt())
    assert count_multi_adds(network, 64, 64) / 1e9 == pytest.approx(giga, abs=0.1)
