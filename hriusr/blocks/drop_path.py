"""Stochastic depth: skip a residual branch for single samples while training (arXiv:1603.09382)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class DropPath(nn.Module):
    """Zero whole samples of a residual branch, and scale the others up so that the mean stays.

    Args:
        rate: probability that a sample is dropped, 0 <= rate < 1. Acts in training only.

    Raises:
        ValueError: rate is out of range.
    """

    def __init__(self, rate: float = 0.0):
        super().__init__()
        if not 0 <= rate < 1:
            raise ValueError(f"drop_path rate (={rate}) must lie in 0 <= rate < 1")
        self.rate = rate

    @property
    def drops(self) -> bool:
        """Whether samples may be dropped now."""
        return self.rate > 0 and self.training

    def forward(self, x: Tensor) -> Tensor:
        """Return x of shape (B, ...), with the dropped samples zero."""
        if not self.drops:
            return x
        kept = torch.rand((x.shape[0],) + (1,) * (x.dim() - 1), device=x.device) >= self.rate
        return x * (kept.to(x.dtype) / (1 - self.rate))

    def extra_repr(self) -> str:
        """Show the rate in the module's repr."""
        return f"rate={self.rate:.3f}"


def drop_path_rates(last_rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Rates that grow linearly over all blocks of a network, from 0 to last_rate.

    Args:
        last_rate: rate of the last block.
        depths: number of blocks in each group.

    Returns:
        One list a group, one rate a block.

    Raises:
        ValueError: last_rate is out of range.
    """
    if not 0 <= last_rate < 1:
        raise ValueError(f"drop_path_rate (={last_rate}) must lie in 0 <= drop_path_rate < 1")
    num_steps = max(sum(depths) - 1, 1)
    rates = (last_rate * step / num_steps for step in range(sum(depths)))
    return [[next(rates) for _ in range(depth)] for depth in depths]
