"""Queries and keys whose products are cosines: vectors of each head with a length that is learned or given.

Shapes: M windows, N cells, C = h d channels, h heads.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hriusr.blocks.attention_core import computes_in_place

_SMALLEST_SQUARE = 1e-12  # of a vector's length: shorter ones stay as much shorter, and zero has a finite gradient


class HeadLengths:
    """What gives the vectors of each head one length, but for those shorter than 1e-6."""

    def __init__(self, lengths_h1: Tensor, head_dim: int) -> None:
        """Prepare tables.

        Args:
            lengths_h1: of each head.
            head_dim: channels of a head.
        """
        self.lengths_h1 = lengths_h1.to(torch.promote_types(lengths_h1.dtype, torch.float32))
        heads_hh = torch.eye(len(lengths_h1), dtype=self.lengths_h1.dtype, device=lengths_h1.device)
        self.heads_hC = heads_hh.repeat_interleave(head_dim, 1)

    def __call__(self, x_MNC: Tensor) -> Tensor:
        """Give vectors their lengths.

        Args:
            x_MNC: vectors; in half precision they are squared in float32, as in fp16 squares overflow.

        Returns:
            The same shape and number format.
        """
        if computes_in_place(x_MNC):
            return _with_lengths(x_MNC, self.lengths_h1, self.heads_hC)[0]
        if x_MNC.device.type == "cpu" and not torch.compiler.is_compiling():
            return _WithLengths.apply(x_MNC, self.lengths_h1, self.heads_hC)
        x_MNhd = x_MNC.unflatten(-1, (len(self.lengths_h1), -1)).to(self.lengths_h1.dtype)
        squares_MNh1 = x_MNhd.square().sum(-1, keepdim=True).clamp_min(_SMALLEST_SQUARE)
        return (x_MNhd * (squares_MNh1.rsqrt() * self.lengths_h1)).flatten(2).to(x_MNC.dtype)


def _with_lengths(x_MNC: Tensor, lengths_h1: Tensor, heads_hC: Tensor) -> tuple[Tensor, Tensor]:
    """Return vectors with their lengths, and the squares that they had.

    Sums over a head's channels, and what is one number for them all, go through products with a table of zeros and
    ones: on a CPU they take a third of the time of sums and products over so few channels. Products into a given tensor
    stay out of autocast.
    """
    x_SC = x_MNC.flatten(0, 1).to(heads_hC.dtype)
    squares_Sh = _mm(x_SC.square(), heads_hC.T).clamp_min_(_SMALLEST_SQUARE)
    factors_SC = _mm(squares_Sh.rsqrt(), lengths_h1 * heads_hC)
    return factors_SC.mul_(x_SC).to(x_MNC.dtype).view(x_MNC.shape), squares_Sh


class _WithLengths(torch.autograd.Function):
    """The same with a backward pass that keeps the vectors as they came and one number each."""

    @staticmethod
    def forward(ctx: Any, x_MNC: Tensor, lengths_h1: Tensor, heads_hC: Tensor) -> Tensor:
        y_MNC, squares_Sh = _with_lengths(x_MNC, lengths_h1, heads_hC)
        ctx.save_for_backward(x_MNC, squares_Sh, lengths_h1, heads_hC)
        return y_MNC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_MNC: Tensor) -> tuple[Tensor, Tensor, None]:
        x_MNC, squares_Sh, lengths_h1, heads_hC = ctx.saved_tensors
        x_SC, dy_SC = (vectors.flatten(0, 1).to(heads_hC.dtype) for vectors in (x_MNC, dy_MNC))
        inverse_Sh = squares_Sh.rsqrt()
        along_Sh = _mm(x_SC * dy_SC, heads_hC.T).mul_(inverse_Sh)
        dlengths_h1 = along_Sh.sum(0).unsqueeze(1)
        # what lies along a vector neither turns it nor, unless it is too short, makes it longer
        along_Sh.mul_(inverse_Sh).mul_(squares_Sh > _SMALLEST_SQUARE)
        dx_SC = torch.addcmul(dy_SC, x_SC, _mm(along_Sh, heads_hC), value=-1)
        dx_SC.mul_(_mm(inverse_Sh, lengths_h1 * heads_hC))
        return dx_SC.to(x_MNC.dtype).view(x_MNC.shape), dlengths_h1, None


def _mm(a: Tensor, b: Tensor) -> Tensor:
    return torch.mm(a, b, out=a.new_empty(len(a), b.shape[1]))
