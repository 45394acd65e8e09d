"""Overlapping cross-attention block of HAT (arXiv:2205.04437, sec. 3.2.3): windows that look at larger windows.

Queries come from windows of side w, keys and values from windows of side w + o around them, o = overlap_ratio * w.
Keys beyond the map's border are zero *after* the projection and are not masked: with the bias as their score they take
part in the softmax. Published weights were trained so, and the same holds for the wrapped index of the bias table.

Parameter names are HAT's: `norm1`, `qkv`, `relative_position_bias_table`, `proj`, `norm2`, `mlp.{fc1,fc2}`.

Shapes: B batch, C channels, H W pixels, M windows, P = w*w queries, N = (w+o)**2 keys, h heads, d = C/h
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import attend
from hriusr.blocks.cpu_attention_grad import attend_by_parts
from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables, runs_by_parts
from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.linear import Linear
from hriusr.blocks.relative import AxisGeometry
from hriusr.blocks.residual import add_branch
from hriusr.blocks.weight_init import trunc_normal_02_
from hriusr.blocks.windows import window_merge, window_partition


def overlapping_windows(x_BHWC: Tensor, window_size: int, overlap: int) -> Tensor:
    """Cut feature maps into windows that reach over their neighbours; zero beyond the border.

    Args:
        x_BHWC: features; H and W are multiples of window_size.
        window_size: step from one window to the next, pixels of x.
        overlap: pixels that a window is larger than its step; half of it (rounded down) lies above and left.

    Returns:
        Windows (B, H / window_size, W / window_size, C, window_size + overlap, window_size + overlap), a view.
    """
    before, after = overlap // 2, overlap - overlap // 2
    padded_BHWC = F.pad(x_BHWC, (0, 0, before, after, before, after))
    side = window_size + overlap
    return padded_BHWC.unfold(1, side, window_size).unfold(2, side, window_size)


def overlapping_cells(x_BHWC: Tensor, window_size: int, overlap: int) -> Tensor:
    """Return x_MNC, the cells of such windows, row-major, windows by map and row-major over it; arguments as above."""
    windows_BYXCyx = overlapping_windows(x_BHWC, window_size, overlap)
    return windows_BYXCyx.permute(0, 1, 2, 4, 5, 3).flatten(3, 4).flatten(0, 2)


class OCAB(nn.Module):
    """Overlapping cross-attention and a feed-forward part, each with its residual.

    Args:
        dim: channels C, divisible by num_heads.
        window_size: side w of the query windows, pixels.
        overlap_ratio: how much larger the key windows are, in parts of w, 0 or more.
        num_heads: attention heads.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        mlp_ratio: hidden channels of the feed-forward part, in parts of C.

    Raises:
        ValueError: dim does not divide by num_heads, or overlap_ratio is below 0.
    """

    def __init__(
        self,
        dim: int,
        window_size: int,
        overlap_ratio: float,
        num_heads: int,
        qkv_bias: bool = True,
        mlp_ratio: float = 2.0,
    ):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim (={dim}) must be divisible by num_heads (={num_heads})")
        self.window_size = window_size
        self.overlap = int(window_size * overlap_ratio)
        if self.overlap < 0:
            raise ValueError(f"overlap_ratio (={overlap_ratio}) must be at least 0")
        self.num_heads = num_heads
        self.scale = (dim // num_heads) ** -0.5
        axis = AxisGeometry(window_size + self.overlap, window_size, is_overlap=True)
        self.plan = AttentionPlan((("q1",), ("k1", "value")), num_heads, dim // num_heads, axis, axis, self.scale)
        self.table_side = 2 * window_size + self.overlap - 1
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = Linear(dim, 3 * dim, bias=qkv_bias)
        self.relative_position_bias_table = nn.Parameter(trunc_normal_02_(torch.empty(self.table_side**2, num_heads)))
        self.proj = Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))

    def relative_bias(self) -> Tensor:
        """Return the bias of every pair of query and key, (h, P, N).

        HAT indexes the table by (dy - o + 1) * T + (dx - o + 1), d = key - query cell, T = 2w + o - 1: partly negative,
        so that it wraps around the end of the table. That is the plain index (dy + w - 1) * T + (dx + w - 1) into the
        table rolled by (w + o - 2) * (T + 1), and every query's part of it is a window sliding over that table.
        """
        key_side = self.window_size + self.overlap
        table_TTh = self.relative_position_bias_table.roll((key_side - 2) * (self.table_side + 1), 0)
        table_TTh = table_TTh.unflatten(0, (self.table_side, self.table_side))
        # Query y sees table rows w-1-y ... w-1-y+key_side, so the windows come in reverse order.
        bias_yxhkk = table_TTh.unfold(0, key_side, 1).unfold(1, key_side, 1).flip(0, 1)
        return bias_yxhkk.permute(2, 0, 1, 3, 4).flatten(3).flatten(1, 2)

    def attention(self, x_BHWC: Tensor) -> Tensor:
        """Attend from each window to the larger window around it, (B, H, W, C)."""
        height, width = x_BHWC.shape[1:3]
        q_BHWC, kv_BHWC = self.qkv(x_BHWC).split((x_BHWC.shape[-1], 2 * x_BHWC.shape[-1]), dim=-1)
        q_MPC = window_partition(q_BHWC, self.window_size)
        kv_MNC = overlapping_cells(kv_BHWC, self.window_size, self.overlap)
        if runs_by_parts(x_BHWC):
            y_MPC = attend_by_parts([q_MPC, kv_MNC], self.plan, RelativeTables(self.relative_bias().to(q_MPC.dtype)))
        else:
            q_MhPd = q_MPC.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)
            k_MhNd, v_MhNd = kv_MNC.unflatten(-1, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
            y_MhPd = attend(q_MhPd, k_MhNd, v_MhNd, self.relative_bias(), scale=self.scale)
            y_MPC = y_MhPd.transpose(1, 2).flatten(2)
        return self.proj(window_merge(y_MPC, self.window_size, height, width))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape; H and W are multiples of window_size."""
        x_BHWC = x_BHWC + self.attention(self.norm1(x_BHWC))
        return add_branch(x_BHWC, self.mlp, self.norm2)
