"""The table of initial weights."""

import torch
from torch import nn

from hriusr.blocks.weight_init import initialise_weights, trunc_normal_02_


def test_table_reaches_linear_and_norm_layers_only():
    network = nn.Sequential(
        nn.Linear(200, 100), nn.LayerNorm(5), nn.Sequential(nn.Conv2d(2, 3, 3)), nn.Linear(4, 4, bias=False)
    )
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7)
    initialise_weights(network)
    linear, norm, (conv,), _ = network
    assert abs(linear.weight.std().item() - 0.02) < 0.001
    assert linear.bias.eq(0).all()
    assert norm.weight.eq(1).all()
    assert norm.bias.eq(0).all()
    assert conv.weight.eq(7).all()


def test_truncated_normal_has_deviation_002():
    assert abs(trunc_normal_02_(torch.empty(10000)).std().item() - 0.02) < 0.001
