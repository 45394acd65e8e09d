"""Cosine window attention with a continuous position bias (Swin V2, arXiv:2111.09883, eq. 2-4), as Swin2SR uses it.

Parameter names are Swin V2's: `logit_scale`, `q_bias`, `v_bias`, `cpb_mlp.{0,2}`, `qkv`, `proj`.

Shapes: B batch, C channels, H W pixels, M windows, N cells of a window, h heads, d = C/h
"""

import math

import torch
from torch import Tensor, nn

from hriusr.blocks.attention_core import attend_shifted, computing_dtype
from hriusr.blocks.cpu_attention_grad import CpuAttention
from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables, runs_by_parts
from hriusr.blocks.linear import Linear, linear
from hriusr.blocks.relative import AxisGeometry, pair_table
from hriusr.blocks.residual import Residual
from hriusr.blocks.unit_vectors import HeadLengths
from hriusr.blocks.window_map import map_windows
from hriusr.blocks.windows import ShiftRegions

_LARGEST_LOGIT_SCALE = math.log(100)
_HIDDEN_FEATURES = 512


def log_spaced_offsets(window_size: int) -> Tensor:
    """Return the offsets between two cells of a window on a log scale, (2w-1, 2w-1, 2), -log2(9)/3 ... log2(9)/3."""
    offset = torch.arange(1 - window_size, window_size, dtype=torch.float32) * 8 / max(window_size - 1, 1)
    log_offset = offset.sign() * torch.log2(1 + offset.abs()) / 3
    return torch.stack(torch.meshgrid(log_offset, log_offset, indexing="ij"), -1)


class CosineWindowAttention(nn.Module):
    """Self-attention inside windows whose scores are scaled cosines of query and key.

    Args:
        dim: channels C, divisible by num_heads.
        window_size: side of a window, pixels.
        num_heads: attention heads.
        qkv_bias: whether queries and values have a bias; keys never have one.
        shift_size: pixels that windows are moved down and right by, 0 to window_size - 1.

    Raises:
        ValueError: dim does not divide by num_heads, or shift_size is out of range.
    """

    takes_residual = True

    def __init__(self, dim: int, window_size: int, num_heads: int, qkv_bias: bool = True, shift_size: int = 0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim (={dim}) must be divisible by num_heads (={num_heads})")
        if not 0 <= shift_size < window_size:
            raise ValueError(f"shift_size (={shift_size}) must be at least 0 and below window_size (={window_size})")
        self.window_size = window_size
        self.num_heads = num_heads
        self.shift_size = shift_size
        self.axis = AxisGeometry(window_size, window_size)
        parts = (("q1",), ("k1",), ("value",))
        self.plan = AttentionPlan(parts, num_heads, dim // num_heads, self.axis, self.axis, 1.0)
        self.logit_scale = nn.Parameter(torch.full((num_heads, 1, 1), math.log(10)))
        self.cpb_mlp = nn.Sequential(
            Linear(2, _HIDDEN_FEATURES), nn.ReLU(inplace=True), Linear(_HIDDEN_FEATURES, num_heads, bias=False)
        )
        self.register_buffer("relative_coords_table", log_spaced_offsets(window_size), persistent=False)
        self.qkv = Linear(dim, 3 * dim, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.proj = Linear(dim, dim)
        self.regions = ShiftRegions((window_size, window_size), (shift_size, shift_size)) if shift_size else None

    def relative_bias(self) -> Tensor:
        """Return the bias of every pair of cells, (h, N, N), 0..16."""
        table_YXh = 16 * torch.sigmoid(self.cpb_mlp(self.relative_coords_table))
        return pair_table(table_YXh.permute(2, 0, 1).unsqueeze(-1), self.axis, self.axis).squeeze(-1)

    def forward(self, x_BHWC: Tensor, residual: Residual | None = None) -> Tensor:
        """Return features of the same shape; H and W are multiples of window_size. Do around it what residual says."""
        grid = (x_BHWC.shape[1] // self.window_size, x_BHWC.shape[2] // self.window_size)
        qkv_bias = None
        if self.q_bias is not None:
            qkv_bias = torch.cat((self.q_bias, torch.zeros_like(self.q_bias), self.v_bias))
        bias_hNN = self.relative_bias()
        gains_h1 = self.logit_scale.clamp(max=_LARGEST_LOGIT_SCALE).exp().squeeze(-1)
        query_lengths = HeadLengths(gains_h1, self.plan.head_dim)
        key_lengths = HeadLengths(torch.ones_like(gains_h1), self.plan.head_dim)

        def project(x_MNC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            q_MNC, k_MNC, v_MNC = linear(x_MNC, self.qkv.weight, qkv_bias).chunk(3, -1)
            return query_lengths(q_MNC), key_lengths(k_MNC), v_MNC

        window, shift = (self.window_size,) * 2, (self.shift_size,) * 2
        if runs_by_parts(x_BHWC):
            bias_hNN = bias_hNN - bias_hNN.mean((1, 2), keepdim=True)  # so that exponentials are near 1
            tables = RelativeTables(bias_hNN.to(computing_dtype(x_BHWC)))
            attend = CpuAttention(self.plan, tables, self.regions, grid)

            def attend_cells(x_MNC: Tensor, numbers: range) -> Tensor:
                return self.proj(attend(project(x_MNC), numbers))

            at_once = attend.windows_at_once
            return map_windows(x_BHWC, window, shift, attend_cells, residual, windows_at_once=at_once)

        def attend_cells_whole(x_MNC: Tensor, numbers: range) -> Tensor:
            heads = (x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2) for x in project(x_MNC))  # MhNd each
            y_MhNd = attend_shifted(*heads, bias_hNN, self.regions, numbers, grid)
            return self.proj(y_MhNd.transpose(1, 2).flatten(2))

        return map_windows(x_BHWC, window, shift, attend_cells_whole, residual)
