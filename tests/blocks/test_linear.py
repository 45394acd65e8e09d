"""Linear layers: both ways against float64, and which of them is taken when."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hriusr.blocks import linear as linear_module
from hriusr.blocks.linear import Linear, linear
from hriusr.blocks.weight_init import initialise_weights

has_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="PyTorch without oneDNN")


@pytest.fixture(params=[pytest.param(True, marks=has_onednn), False], ids=["oneDNN", "PyTorch's choice"])
def by_onednn(request, monkeypatch):
    monkeypatch.setattr(linear_module, "_onednn_is_faster", lambda: request.param)
    return request.param


@pytest.mark.parametrize("shape", [(5, 7), (2, 3, 5, 7), (1, 7), (7,), (0, 7)], ids=str)
@pytest.mark.parametrize("has_bias", [True, False])
def test_equals_float64(by_onednn, shape, has_bias):
    x, weight = torch.randn(shape), torch.randn(11, 7)
    bias = torch.randn(11) if has_bias else None
    expected = F.linear(x.double(), weight.double(), None if bias is None else bias.double())
    with torch.no_grad():
        y = linear(x, weight, bias)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y.double(), expected, rtol=1e-5, atol=1e-5)


def test_takes_any_strides(by_onednn):
    x, weight, bias = torch.randn(7, 6, 4).permute(2, 1, 0)[::2], torch.randn(7, 22).T, torch.randn(44)[::2]
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), F.linear(x, weight, bias), rtol=1e-5, atol=1e-5)


def test_has_gradients_and_keeps_formats(by_onednn):
    layer = Linear(7, 11)
    x = torch.randn(3, 7, requires_grad=True)
    layer(x).sum().backward()
    torch.testing.assert_close(x.grad, layer.weight.sum(0).expand(3, 7))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    with torch.no_grad():
        assert layer.double()(x.double()).dtype == torch.float64


@has_onednn
@pytest.mark.parametrize("is_taken", [True, False])
def test_the_operator_is_taken_without_gradients_alone(monkeypatch, is_taken):
    monkeypatch.setattr(linear_module, "_onednn_is_faster", lambda: True)
    monkeypatch.setattr(F, "linear", lambda *_: "PyTorch's choice")
    with torch.set_grad_enabled(not is_taken):
        assert (linear(torch.ones(2, 3), torch.ones(4, 3)) == "PyTorch's choice") is not is_taken


def test_starts_as_linear_layers_do():
    layer = nn.Sequential(Linear(200, 100))
    initialise_weights(layer)
    assert abs(layer[0].weight.std().item() / 0.02 - 1) < 0.05
    assert not layer[0].bias.any()
