"""Losses by name."""

import pytest
import torch

from hriusr.errors import OptionsError
from hriusr.losses.registry import build_loss


@pytest.mark.parametrize(
    ("loss_opt", "expected"),
    [
        ({"type": "L1Loss", "loss_weight": 2.0}, 2 * 0.5),
        ({"type": "MSELoss", "reduction": "sum"}, 0.25 * 48),
        ({"type": "CharbonnierLoss", "eps": 0.75}, 1.0),
    ],
)
def test_losses_of_the_field_have_their_values(loss_opt, expected):
    output, target = torch.full((1, 3, 4, 4), 0.75), torch.full((1, 3, 4, 4), 0.25)
    torch.testing.assert_close(build_loss(loss_opt)(output, target), torch.tensor(expected))


@pytest.mark.parametrize(
    ("loss_opt", "message"),
    [
        ({"type": "L1loss"}, "did you mean 'L1Loss'"),
        ({"type": "L1Loss", "weight": 1}, "'weight'; it takes loss_weight, reduction"),
        ({"type": "L1Loss", "reduction": "median"}, "median"),
    ],
)
def test_fault_in_a_loss_is_named(loss_opt, message):
    with pytest.raises(OptionsError, match=message):
        build_loss(loss_opt)
