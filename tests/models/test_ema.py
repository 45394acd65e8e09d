"""Running mean of weights."""

import torch
from torch import nn

from hriusr.models.ema import ExponentialMovingAverage


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
        self.register_buffer("mean", torch.tensor([0.5]), persistent=False)


def test_parameters_and_float_buffers_follow():
    network = Small()
    average = ExponentialMovingAverage(network)
    old = {name: tensor.clone() for name, tensor in average.network.state_dict().items()}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    network.norm.running_mean.add_(2)
    network.norm.num_batches_tracked.add_(5)
    average.update(0.9)
    new, source = average.network.state_dict(), network.state_dict()
    for name in ("conv.weight", "conv.bias", "norm.weight", "norm.running_mean"):
        torch.testing.assert_close(new[name], 0.9 * old[name] + 0.1 * source[name])
    assert new["norm.num_batches_tracked"] == 5


def test_constants_stay_as_they_are():
    network = Small()
    average = ExponentialMovingAverage(network)
    for _ in range(3):
        average.update(0.5)
    assert torch.equal(average.network.mask, network.mask)
    assert torch.equal(average.network.mean, network.mean)


def test_decay_zero_copies():
    network = Small()
    average = ExponentialMovingAverage(network)
    nn.init.normal_(network.conv.weight)
    average.update(0)
    assert torch.equal(average.network.conv.weight, network.conv.weight)


def test_average_needs_no_gradient_and_leaves_the_source_alone():
    network = Small()
    average = ExponentialMovingAverage(network)
    assert network.training
    assert not average.network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert not any(parameter.requires_grad for parameter in average.network.parameters())
