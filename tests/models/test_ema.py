"""Running mean of weights."""

import pytest
import torch
from torch import nn

from hriusr.models.ema import ExponentialMovingAverage, ema_decay_at
from hriusr.models.sr_model import RestorationModel


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


def test_step_left_out_leaves_the_mean_as_it_is():
    network = Small()
    average = ExponentialMovingAverage(network)
    before = {name: tensor.clone() for name, tensor in average.network.state_dict().items()}
    with torch.no_grad():
        network.conv.weight.add_(1)
    average.after_step(5, torch.tensor(False))
    average._move_if(torch.tensor(False), 0.9)  # as on a GPU
    assert all(torch.equal(before[name], value) for name, value in average.network.state_dict().items())


def test_moving_without_waiting_for_the_device_equals_the_lerp():
    averages = []
    for number in range(2):
        torch.manual_seed(1)
        network = Small()
        average = ExponentialMovingAverage(network)
        with torch.no_grad():
            network.conv.weight.add_(torch.randn_like(network.conv.weight))
        if number:
            average._move_if(torch.tensor(True), 0.99)
        else:
            average.update(0.99)
        averages.append(average.network.conv.weight)
    torch.testing.assert_close(averages[0], averages[1])


def test_decay_starts_late_and_grows_when_asked():
    assert [ema_decay_at(iteration, 0.999, start=3) for iteration in (1, 3, 4)] == [0, 0, 0.999]
    grown = [ema_decay_at(iteration, 0.999, start=3, warms_up=True) for iteration in (4, 5, 103, 5000)]
    assert grown == [2 / 11, 3 / 12, 101 / 110, 4998 / 5007]
    assert ema_decay_at(100_000, 0.999, start=3, warms_up=True) == 0.999


def test_grown_decay_gives_recent_weights_their_share():
    network = Small()
    plain, warmed = ExponentialMovingAverage(network), ExponentialMovingAverage(network, warms_up=True)
    with torch.no_grad():
        start = network.conv.weight.clone()
        network.conv.weight.add_(1)
    for iteration in range(1, 21):
        plain.after_step(iteration, torch.tensor(True))
        warmed.after_step(iteration, torch.tensor(True))
    assert (plain.network.conv.weight - start).mean() < 0.03
    assert (warmed.network.conv.weight - start).mean() > 0.99


@pytest.mark.parametrize(
    ("changes", "is_copy"), [({"train__ema_start": 3}, True), ({"train__ema_warmup": True}, False), ({}, False)]
)
def test_options_of_the_mean_reach_the_training(model_opt, batches, changes, is_copy):
    torch.manual_seed(3)
    model = RestorationModel(model_opt(train__ema_decay=0.999, **changes))
    for iteration, batch in enumerate(batches[:3], start=1):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    trained, mean = model.net_g.state_dict(), model.net_g_ema.state_dict()
    assert all(torch.equal(trained[name], mean[name]) for name in trained) == is_copy
    assert model._ema.warms_up == ("train__ema_warmup" in changes)
