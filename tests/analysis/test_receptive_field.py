"""Effective receptive fields of networks whose true ones are known."""

import numpy as np
import pytest
import torch
from tiny_networks import Convolutions
from torch import nn

from hriusr.analysis.receptive_field import describe_field, effective_receptive_field


def crops(count=1, size=(11, 14)):
    return list(np.random.default_rng(1).random((count, *size, 3), np.float32))


def test_one_convolution_gives_exactly_its_kernel():
    network = nn.Conv2d(3, 3, 3, padding=1)
    field_HW = effective_receptive_field(network, crops(), scale=1)
    expected_HW = np.zeros((11, 14))
    expected_HW[4:7, 6:9] = network.weight.sum(dim=0).abs().sum(dim=0).detach()
    assert np.abs(field_HW - expected_HW).max() < 1e-6
    assert np.array_equal(field_HW > 0, expected_HW > 0)
    numbers = describe_field(field_HW)
    assert numbers["touched"] == {"num_rows": 3, "num_columns": 3}
    assert numbers["side"]["99"] == 3
    assert not numbers["is_cut_off"]


@pytest.mark.parametrize("depth", [1, 3])
def test_each_convolution_adds_a_pixel_on_each_side(depth):
    field_HW = effective_receptive_field(Convolutions(depth), crops(2), scale=2)
    side = 2 * (depth + 1) + 1
    rows, columns = np.flatnonzero(field_HW.sum(axis=1)), np.flatnonzero(field_HW.sum(axis=0))
    assert rows.tolist() == list(range(5 - depth - 1, 5 - depth - 1 + side))
    assert columns.tolist() == list(range(7 - depth - 1, 7 - depth - 1 + side))


def test_field_is_the_mean_over_crops():
    network, pictures = Convolutions(), crops(3)
    together = effective_receptive_field(network, pictures, scale=2)
    alone = [effective_receptive_field(network, [picture], scale=2) for picture in pictures]
    assert np.abs(together - np.mean(alone, axis=0)).max() < 1e-9
    assert np.abs(alone[0] - alone[1]).max() > 1e-3


def test_field_that_reaches_the_border_is_called_cut_off():
    network = nn.Conv2d(3, 3, 11, padding=5)
    numbers = describe_field(effective_receptive_field(network, crops(), scale=1))
    assert numbers["is_cut_off"]
    assert numbers["touched"] == {"num_rows": 11, "num_columns": 11}
    assert numbers["side"]["50"] < numbers["side"]["95"] <= 11


def test_crops_must_be_there_and_of_one_size():
    network = Convolutions()
    with pytest.raises(ValueError, match="at least one crop"):
        effective_receptive_field(network, [], scale=2)
    with pytest.raises(ValueError, match="one size"):
        effective_receptive_field(network, [*crops(), *crops(size=(11, 11))], scale=2)


def test_weights_stay_trainable_and_progress_counts():
    network, seen = Convolutions(), []
    effective_receptive_field(network, crops(2), scale=2, progress=seen.append)
    assert seen == [1, 2]
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert torch.is_grad_enabled()
