"""Window attention with relative position bias (Swin, arXiv:2103.14030, eq. 4), plain and shifted.

Shapes: B batch, C channels, H W pixels, M windows, N cells of a window, h heads, d = C/h.
"""

import torch
from torch import Tensor, nn

from hriusr.blocks.attention_core import MASKED, attend, computing_dtype, in_parts, take
from hriusr.blocks.relative import AxisGeometry, pair_table
from hriusr.blocks.windows import ShiftRegions, pair, window_merge, window_partition


class WindowAttention(nn.Module):
    """Multi-head self-attention inside non-overlapping windows, with Swin's parameter names."""

    def __init__(
        self,
        dim: int,
        window_size: int | tuple[int, int],
        num_heads: int,
        qkv_bias: bool = True,
        shift_size: int = 0,
    ) -> None:
        """Build the unit.

        Args:
            dim: channels in and out; a multiple of num_heads.
            window_size: side of a window, or (height, width), in pixels of the map.
            num_heads: attention heads.
            qkv_bias: whether queries, keys and values have a bias.
            shift_size: pixels that windows are moved down and right by; 0 to window side - 1.
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim (={dim}) must be divisible by num_heads (={num_heads})")
        self.window_size = pair(window_size)
        if not 0 <= shift_size < min(self.window_size):
            raise ValueError(f"shift_size (={shift_size}) must be at least 0 and below window_size (={window_size})")
        self.num_heads = num_heads
        self.shift_size = shift_size
        self.rows, self.columns = (AxisGeometry(side, side) for side in self.window_size)
        self.scale = (dim // num_heads) ** -0.5
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros(self.rows.table_size * self.columns.table_size, num_heads)
        )
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.regions = ShiftRegions(self.window_size, (shift_size, shift_size)) if shift_size else None
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def relative_bias(self) -> Tensor:
        """Return bias_hPN, the learned bias of each head and pair of cells."""
        table_YXh = self.relative_position_bias_table.unflatten(0, (self.rows.table_size, self.columns.table_size))
        return pair_table(table_YXh.permute(2, 0, 1).unsqueeze(-1), self.rows, self.columns).squeeze(-1)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Attend inside windows.

        Args:
            x_BHWC: features; H and W are multiples of the window.

        Returns:
            y_BHWC.
        """
        height, width = x_BHWC.shape[1:3]
        if self.shift_size:
            x_BHWC = x_BHWC.roll((-self.shift_size, -self.shift_size), (1, 2))
        x_MNC = window_partition(x_BHWC, self.window_size)
        grid = (height // self.window_size[0], width // self.window_size[1])
        dtype = computing_dtype(x_MNC)
        bias_hPN = self.relative_bias().to(dtype)

        def attend_part(part: slice | None) -> Tensor:
            qkv = self.qkv(take(x_MNC, part)).unflatten(-1, (3, self.num_heads, -1))
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # MhNd each
            q = q * self.scale
            if self.regions is not None:
                q, k = self.regions.extend(q, k, grid, MASKED, part)
            return self.proj(attend(q, k, v, bias_hPN).transpose(1, 2).flatten(2))

        scores_per_window = self.num_heads * x_MNC.shape[1] ** 2
        y_MNC = in_parts(attend_part, x_MNC.shape[0], scores_per_window, dtype, x_MNC.device)
        y_BHWC = window_merge(y_MNC, self.window_size, height, width)
        if self.shift_size:
            y_BHWC = y_BHWC.roll((self.shift_size, self.shift_size), (1, 2))
        return y_BHWC
