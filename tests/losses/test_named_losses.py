"""Several losses at once."""

import pytest
import torch

from hriusr.errors import OptionsError
from hriusr.losses.named_losses import NamedLosses
from hriusr.losses.registry import build_loss

LOSSES = {"pixels": {"type": "L1Loss"}, "fft": {"type": "FFTLoss", "loss_weight": 0.05, "start_iter": 10}}


def test_each_is_measured_under_its_name_from_its_iteration_on():
    output, target = torch.rand(2, 1, 3, 8, 8)
    losses = NamedLosses(LOSSES)
    assert list(losses(output, target, 9)) == ["l_pixels"]
    values = losses(output, target, 10)
    assert list(values) == ["l_pixels", "l_fft"]
    torch.testing.assert_close(values["l_fft"], build_loss({"type": "FFTLoss", "loss_weight": 0.05})(output, target))


def test_loss_of_two_parts_is_their_sum():
    losses = NamedLosses({"any": {"type": "L1Loss"}})
    losses.losses[0].forward = lambda output, target: (output.sum(), None)
    assert losses(torch.ones(3), torch.ones(3), 1) == {"l_any": torch.tensor(3.0)}
    losses.losses[0].forward = lambda output, target: (None, None)
    assert losses(torch.ones(3), torch.ones(3), 1) == {}


def test_fault_is_named_with_its_place():
    with pytest.raises(OptionsError, match=r"train\.losses\.fft\.type: unknown loss 'FFT'"):
        NamedLosses({"fft": {"type": "FFT"}})
