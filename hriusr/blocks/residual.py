"""Residual branches: x + branch(norm(x)), or x + norm(branch(x)) as in Swin V2 (arXiv:2111.09883, sec. 3.2).

On a CPU without gradients attention and feed-forward parts go by a few windows or rows at a time, which then stay in
the cache. Norm and sum look at one position only, so such a branch does them on the way.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from hriusr.blocks.attention_core import computes_in_place
from hriusr.blocks.drop_path import DropPath


class Residual(NamedTuple):
    """What a block does around a branch.

    Fields:
        norm: over channels.
        is_norm_last: whether the norm is applied to what the branch returns, not to what it gets.
    """

    norm: nn.Module
    is_norm_last: bool = False

    def before(self, x: Tensor) -> Tensor:
        """Return what the branch gets for the features x."""
        return x if self.is_norm_last else self.norm(x)

    def after(self, y: Tensor, x: Tensor) -> Tensor:
        """Return the block's result where the branch made y of the features x."""
        return x + (self.norm(y) if self.is_norm_last else y)

    def around(self, function: Callable[[Tensor, range], Tensor]) -> Callable[[Tensor, range], Tensor]:
        """Do the same around a function of some windows' cells and numbers."""

        def whole(cells_MNC: Tensor, numbers: range) -> Tensor:
            return self.after(function(self.before(cells_MNC), numbers), cells_MNC)

        return whole


def add_branch(
    x_BHWC: Tensor,
    branch: nn.Module,
    norm: nn.Module,
    drop_path: DropPath | None = None,
    *,
    is_norm_last: bool = False,
) -> Tensor:
    """Return x + branch(norm(x)), or x + norm(branch(x)).

    Args:
        x_BHWC: features.
        branch: (B, H, W, C) -> (B, H, W, C). One whose takes_residual is true is called with a Residual where that is
            faster, and returns the sum.
        norm: over (B, H, W, C).
        drop_path: skips the branch for some samples in training; None for none.
        is_norm_last: see Residual.
    """
    residual = Residual(norm, is_norm_last)
    drops = drop_path is not None and drop_path.drops
    is_by_position = isinstance(norm, nn.LayerNorm) and not drops
    if is_by_position and computes_in_place(x_BHWC) and getattr(branch, "takes_residual", False):
        return branch(x_BHWC, residual=residual)
    y_BHWC = branch(residual.before(x_BHWC))
    if drops:
        return x_BHWC + drop_path(norm(y_BHWC) if is_norm_last else y_BHWC)
    return residual.after(y_BHWC, x_BHWC)
