"""Queries and keys whose products are cosines: vectors of each head with a length that is learned or given.

Shapes: M windows, N cells, C = h d channels, h heads.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_SMALLEST_SQUARE = 1e-12  # of a vector's length: shorter ones stay as much shorter, and zero has a finite gradient


def with_lengths(x_MNC: Tensor, lengths_h1: Tensor) -> Tensor:
    """Give the vectors of each head one length, but for those shorter than 1e-6.

    Args:
        x_MNC: vectors; in half precision they are squared in float32, as in fp16 squares overflow.
        lengths_h1: of each head, at least float32.

    Returns:
        The same shape and number format.
    """
    if x_MNC.device.type == "cpu" and not torch.compiler.is_compiling():
        return _WithLengths.apply(x_MNC, lengths_h1)
    x_MNhd = _wide(x_MNC, lengths_h1)
    squares_MNh1 = x_MNhd.square().sum(-1, keepdim=True).clamp_min(_SMALLEST_SQUARE)
    return (x_MNhd * (squares_MNh1.rsqrt() * lengths_h1)).flatten(2).to(x_MNC.dtype)


class _WithLengths(torch.autograd.Function):
    """The same with a backward pass that keeps the vectors as they came and one number each."""

    @staticmethod
    def forward(ctx: Any, x_MNC: Tensor, lengths_h1: Tensor) -> Tensor:
        x_MNhd = _wide(x_MNC, lengths_h1)
        squares_MNh1 = torch.linalg.vecdot(x_MNhd, x_MNhd).unsqueeze_(-1).clamp_min_(_SMALLEST_SQUARE)
        ctx.save_for_backward(x_MNC, squares_MNh1, lengths_h1)
        return (x_MNhd * (squares_MNh1.rsqrt() * lengths_h1)).flatten(2).to(x_MNC.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_MNC: Tensor) -> tuple[Tensor, Tensor]:
        x_MNC, squares_MNh1, lengths_h1 = ctx.saved_tensors
        x_MNhd, dy_MNhd = _wide(x_MNC, lengths_h1), _wide(dy_MNC, lengths_h1)
        inverse_MNh1 = squares_MNh1.rsqrt()
        along_MNh1 = torch.linalg.vecdot(x_MNhd, dy_MNhd).unsqueeze_(-1).mul_(inverse_MNh1)
        dlengths_h1 = along_MNh1.sum((0, 1))
        # what lies along a vector neither turns it nor, unless it is too short, makes it longer
        along_MNh1.mul_(inverse_MNh1).mul_(squares_MNh1 > _SMALLEST_SQUARE)
        dx_MNhd = torch.addcmul(dy_MNhd, x_MNhd, along_MNh1, value=-1)
        return dx_MNhd.mul_(inverse_MNh1 * lengths_h1).flatten(2).to(x_MNC.dtype), dlengths_h1


def _wide(x_MNC: Tensor, lengths_h1: Tensor) -> Tensor:
    """View the vectors of each head, in at least float32."""
    return x_MNC.unflatten(-1, (len(lengths_h1), -1)).to(torch.promote_types(x_MNC.dtype, torch.float32))
