"""Vectors of one length against torch's normalize."""

import pytest
import torch
import torch.nn.functional as F

from hriusr.blocks.unit_vectors import HeadLengths


def with_lengths(x_MNC: torch.Tensor, lengths_h1: torch.Tensor) -> torch.Tensor:
    return HeadLengths(lengths_h1, x_MNC.shape[2] // len(lengths_h1))(x_MNC)


def normalized(x_MNC: torch.Tensor, lengths_h1: torch.Tensor) -> torch.Tensor:
    x_MNhd = x_MNC.unflatten(-1, (len(lengths_h1), -1)).float()
    return (F.normalize(x_MNhd, dim=-1) * lengths_h1).flatten(2).to(x_MNC.dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_normalize_with_its_gradients(dtype):
    x_MNC = (torch.randn(3, 5, 12) * 1e4).to(dtype).requires_grad_()  # squares that overflow in fp16
    lengths_h1 = torch.rand(4, 1).add(1).requires_grad_()
    dy_MNC = torch.randn(3, 5, 12).mul(100).to(dtype)
    results = []
    for function in (with_lengths, normalized):
        y_MNC = function(x_MNC, lengths_h1)
        results.append((y_MNC, *torch.autograd.grad(y_MNC, (x_MNC, lengths_h1), dy_MNC)))
    for ours, reference in zip(*results, strict=True):
        assert ours.dtype == reference.dtype
        assert (ours - reference).norm() <= (1e-6 if dtype == torch.float32 else 4e-3) * reference.norm()


@pytest.mark.parametrize("head_dim", [3, 23, 24])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_without_gradients_they_are_the_same(dtype, head_dim):
    x_MNC = (torch.randn(3, 5, 4 * head_dim) * 1e4).to(dtype)
    lengths_h1 = torch.rand(4, 1).add(1)
    with torch.no_grad(), torch.autocast("cpu", enabled=dtype == torch.bfloat16):
        y_MNC = with_lengths(x_MNC, lengths_h1)
    expected = normalized(x_MNC, lengths_h1)
    assert y_MNC.dtype == expected.dtype
    assert (y_MNC - expected).norm() <= (1e-6 if dtype == torch.float32 else 4e-3) * expected.norm()


def test_gradients_in_float64():
    x_MNC = torch.randn(2, 3, 6, dtype=torch.float64, requires_grad=True)
    lengths_h1 = torch.rand(2, 1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(with_lengths, (x_MNC, lengths_h1))


def test_zero_and_very_short_vectors():
    lengths_h1 = torch.full((1, 1), 2.0)
    for factor in (0.0, 1e-8):
        x_MNC = torch.ones(1, 1, 4).mul(factor).requires_grad_()
        y_MNC = with_lengths(x_MNC, lengths_h1)
        assert torch.allclose(y_MNC, x_MNC * 2e6)
        (dx_MNC,) = torch.autograd.grad(y_MNC.sum(), x_MNC)
        assert torch.allclose(dx_MNC, torch.full_like(dx_MNC, 2e6))


def test_compiled_graphs_have_the_same():
    x_MNC, lengths_h1 = torch.randn(2, 3, 8), torch.rand(2, 1) + 1
    exported = torch.export.export(_Module(), (x_MNC, lengths_h1)).module()
    assert torch.allclose(exported(x_MNC, lengths_h1), with_lengths(x_MNC, lengths_h1), atol=1e-6)


class _Module(torch.nn.Module):
    def forward(self, x_MNC: torch.Tensor, lengths_h1: torch.Tensor) -> torch.Tensor:
        return with_lengths(x_MNC, lengths_h1)
