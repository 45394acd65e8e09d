"""Multi-Adds against formulas worked out by hand, and against published numbers."""

import pytest
import torch
from torch import nn

from hriusr.analysis.complexity import count_multi_adds, count_parameters
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.blocks.involution import involve


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
