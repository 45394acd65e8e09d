"""Queries and keys whose products are cosines: vectors of each head with a length that is learned or given.

Shapes: M windows, N cells, C = h d channels, h heads.
"""

from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hriusr.blocks.attention_core import computes_in_place

_SMALLEST_SQUARE = 1e-12  # of a vector's length: shorter ones stay as much shorter, and zero has a finite gradient
_PRODUCTS_PAY_BELOW = 24  # channels of a head


class HeadLengths:
    """What gives the vectors of each head one length, but for those shorter than 1e-6."""

    def __init__(self, lengths_h1: Tensor, head_dim: int) -> None:
        """Prepare.

        Args:
            lengths_h1: of each head.
            head_dim: channels of a head.
        """
        self.lengths_h1 = lengths_h1.to(torch.promote_types(lengths_h1.dtype, torch.float32))
        self.head_dim = head_dim

    def __call__(self, x_MNC: Tensor) -> Tensor:
        """Give vectors their lengths.

        Args:
            x_MNC: vectors; in half precision they are squared in float32, as in fp16 squares overflow.

        Returns:
            The same shape and number format.
        """
        if computes_in_place(x_MNC) and self.head_dim < _PRODUCTS_PAY_BELOW:
            return self._by_products(x_MNC)
        if x_MNC.device.type == "cpu" and not torch.compiler.is_compiling():
            return _WithLengths.apply(x_MNC, self.lengths_h1)
        x_MNhd = _wide(x_MNC, self.lengths_h1)
        squares_MNh1 = x_MNhd.square().sum(-1, keepdim=True).clamp_min(_SMALLEST_SQUARE)
        return (x_MNhd * (squares_MNh1.rsqrt() * self.lengths_h1)).flatten(2).to(x_MNC.dtype)

    def _by_products(self, x_MNC: Tensor) -> Tensor:
        """Sum over a head's channels, and spread what is one number for them all, by products with zeros and ones.

        On a CPU that takes half to nine tenths of the time of such short sums; with gradients it takes more.
        What is not finite in one head then spreads to the others of its cell.
        """
        x_SC = x_MNC.flatten(0, 1).to(self.lengths_h1.dtype)  # S = M N
        inverse_Sh = _mm(x_SC.square(), self._head_channels.T).clamp_min_(_SMALLEST_SQUARE).rsqrt_()
        return _mm(inverse_Sh, self._channel_lengths).mul_(x_SC).to(x_MNC.dtype).view(x_MNC.shape)

    @cached_property
    def _head_channels(self) -> Tensor:
        """1 for each head's channels, 0 elsewhere, (h, C)."""
        return torch.eye(len(self.lengths_h1), dtype=self.lengths_h1.dtype).repeat_interleave(self.head_dim, 1)

    @cached_property
    def _channel_lengths(self) -> Tensor:
        """Each head's length for its channels, 0 elsewhere, (h, C)."""
        return self.lengths_h1 * self._head_channels


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


def _mm(a: Tensor, b: Tensor) -> Tensor:
    """Multiply into a tensor that is given: autocast leaves that alone."""
    return torch.mm(a, b, out=a.new_empty(len(a), b.shape[1]))
