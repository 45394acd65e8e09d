"""Window attention with relative position bias (Swin, arXiv:2103.14030, eq. 4), plain and shifted.

Shapes: B batch, C channels, H W pixels, M windows, N cells of a window, h heads, d = C/h.
"""

import torch
from torch import Tensor, nn

from hriusr.blocks.attention_core import attend_shifted, computing_dtype
from hriusr.blocks.cpu_attention_grad import CpuAttention
from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables, runs_by_parts
from hriusr.blocks.linear import Linear
from hriusr.blocks.relative import AxisGeometry, pair_table
from hriusr.blocks.residual import Residual
from hriusr.blocks.window_map import map_windows
from hriusr.blocks.windows import ShiftRegions, pair

_PARTS_PAY_FROM = 256  # cells of a window


class WindowAttention(nn.Module):
    """Multi-head self-attention inside non-overlapping windows, with Swin's parameter names."""

    takes_residual = True

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
        parts = (("q1", "k1", "value"),)
        self.plan = AttentionPlan(parts, num_heads, dim // num_heads, self.rows, self.columns, self.scale)
        self.relative_position_bias_table = nn.Parameter(
            torch.zeros(self.rows.table_size * self.columns.table_size, num_heads)
        )
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = Linear(dim, dim)
        self.regions = ShiftRegions(self.window_size, (shift_size, shift_size)) if shift_size else None
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.02)

    def relative_bias(self) -> Tensor:
        """Return bias_hPN, the learned bias of each head and pair of cells."""
        table_YXh = self.relative_position_bias_table.unflatten(0, (self.rows.table_size, self.columns.table_size))
        return pair_table(table_YXh.permute(2, 0, 1).unsqueeze(-1), self.rows, self.columns).squeeze(-1)

    def forward(self, x_BHWC: Tensor, residual: Residual | None = None) -> Tensor:
        """Attend inside windows.

        Args:
            x_BHWC: features; H and W are multiples of the window.
            residual: what to do around that; None for nothing.

        Returns:
            y_BHWC.
        """
        grid = (x_BHWC.shape[1] // self.window_size[0], x_BHWC.shape[2] // self.window_size[1])
        bias_hPN = self.relative_bias()
        shift = (self.shift_size, self.shift_size)
        dtype = computing_dtype(x_BHWC)
        # training in bf16 with small windows: 28 ms as one large product each, 35 by parts (48 channels, window 8)
        is_small = torch.is_grad_enabled() and dtype.itemsize == 2 and bias_hPN.shape[1] < _PARTS_PAY_FROM
        if runs_by_parts(x_BHWC) and not is_small:
            attend = CpuAttention(self.plan, RelativeTables(bias_hPN.to(dtype)), self.regions, grid)

            def attend_cells(x_MNC: Tensor, numbers: range) -> Tensor:
                return self.proj(attend([self.qkv(x_MNC)], numbers))

            at_once = attend.windows_at_once
            return map_windows(x_BHWC, self.window_size, shift, attend_cells, residual, windows_at_once=at_once)

        def attend_cells_whole(x_MNC: Tensor, numbers: range) -> Tensor:
            qkv = self.qkv(x_MNC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # MhNd each
            y_MhNd = attend_shifted(*qkv.unbind(0), bias_hPN, self.regions, numbers, grid, scale=self.scale)
            return self.proj(y_MhNd.transpose(1, 2).flatten(2))

        return map_windows(x_BHWC, self.window_size, shift, attend_cells_whole, residual)
