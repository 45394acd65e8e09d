"""Overlapping cross-attention (HAT, arXiv:2205.04437, sec. 3.2.3) with the score of HRIU.

Windows of side w look at larger windows of side w + o around them. Relative tables span all offsets that occur, and
keys beyond the border are masked (HAT lets their zeros take part).

Shapes: B batch, C channels, H W pixels, M windows, P = w² targets, N = (w + o)² sources, h heads, d head channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import MASKED, attend
from hriusr.blocks.cpu_attention_grad import attend_by_parts
from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables, runs_by_parts
from hriusr.blocks.linear import Linear
from hriusr.blocks.overlap_attention import overlapping_cells
from hriusr.blocks.relative import AxisGeometry
from hriusr.blocks.relative_scores import TERMS, RelativeScores, check_terms
from hriusr.blocks.windows import window_merge, window_partition


class OverlapHRIU(nn.Module):
    """HRIU from each window to the larger window around it."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        overlap_ratio: float = 0.5,
        *,
        terms: str = TERMS,
        tables: str = "axial",
    ) -> None:
        """Build the unit.

        Args:
            dim: channels in and out; a multiple of num_heads.
            num_heads: attention heads.
            window_size: side of a target window, pixels.
            overlap_ratio: how much larger source windows are, in parts of window_size.
            terms: letters of the score, out of "anm".
            tables: relative tables, see blocks/relative_scores.py: "axial", "crossed" (the cheapest) or "full".
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim (={dim}) must be divisible by num_heads (={num_heads})")
        check_terms(terms, "overlap_terms")
        self.window_size = window_size
        self.overlap = int(window_size * overlap_ratio)
        self.num_heads = num_heads
        axis = AxisGeometry(window_size + self.overlap, window_size, is_overlap=True)
        self.scores = RelativeScores(num_heads, dim // num_heads, axis, axis, terms, tables)
        self.query_parts = ["q1"] * ("a" in terms) + ["q2"] * ("n" in terms)
        self.key_parts = ["k1"] * ("a" in terms) + ["k3"] * ("m" in terms) + ["value"]
        parts = tuple(tuple(names) for names in (self.query_parts, self.key_parts) if names)
        self.plan = AttentionPlan(
            parts, num_heads, dim // num_heads, axis, axis, self.scores.scale, self.scores.is_crossed
        )
        self.project_in = Linear(dim, dim * (len(self.query_parts) + len(self.key_parts)))
        self.project_out = Linear(dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Attend; H and W are multiples of the window. Returns (B, H, W, C)."""
        height, width, dim = x_BHWC.shape[1:]
        projected = self.project_in(x_BHWC)
        queries_BHWC, keys_BHWC = projected.split((dim * len(self.query_parts), dim * len(self.key_parts)), -1)
        keys_MNC = overlapping_cells(keys_BHWC, self.window_size, self.overlap)
        queries_MPC = window_partition(queries_BHWC, self.window_size)
        if runs_by_parts(x_BHWC):
            tables = RelativeTables(*self.scores.prepare_by_column(keys_MNC.dtype))
            outside = self._outside(height, width, x_BHWC.device).to(keys_MNC.dtype)

            def masks(numbers: range) -> dict[int, Tensor]:
                at_border = outside[[number % len(outside) for number in numbers]]
                return {index: at_border[index] for index in at_border.any(2).any(1).nonzero().flatten().tolist()}

            projections = [queries_MPC, keys_MNC] if self.query_parts else [keys_MNC]
            y_MPC = attend_by_parts(projections, self.plan, tables, masks)
        else:
            y_MPC = self._attend_whole(queries_MPC, keys_MNC, self._outside(height, width, x_BHWC.device))
        return window_merge(self.project_out(y_MPC), self.window_size, height, width)

    def _attend_whole(self, queries_MPC: Tensor, keys_MNC: Tensor, outside_M1N: Tensor) -> Tensor:
        keys = keys_MNC.unflatten(-1, (len(self.key_parts), self.num_heads, -1))
        parts = dict(zip(self.key_parts, keys.permute(2, 0, 3, 1, 4).unbind(0), strict=True))  # MhNd each
        if self.query_parts:
            queries = queries_MPC.unflatten(-1, (len(self.query_parts), self.num_heads, -1)).permute(2, 0, 3, 1, 4)
            parts |= dict(zip(self.query_parts, queries.unbind(0), strict=True))  # MhPd each
        score = self.scores(parts.get("q1"), parts.get("q2"), parts.get("k1"), parts.get("k3"))
        query, key = score.query_MhPc, score.key_MhNc
        # One more channel: 1 against 0 inside the map and MASKED beyond its border
        num_maps = keys_MNC.shape[0] // outside_M1N.shape[0]  # not len(), which export takes for a constant
        outside_BMhN1 = outside_M1N.transpose(1, 2)[None, :, None].expand(num_maps, -1, self.num_heads, -1, -1)
        query = F.pad(query, (0, 1), value=1.0)
        key = torch.cat((key, outside_BMhN1.flatten(0, 1).to(key.dtype)), -1)
        return attend(query, key, parts["value"], score.bias).transpose(1, 2).flatten(2)

    def _outside(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return what is added to the scores of each window's keys of one map, (M, 1, N): MASKED beyond its border."""
        inside_1HW1 = torch.ones(1, height, width, 1, device=device)
        return (1 - overlapping_cells(inside_1HW1, self.window_size, self.overlap)).transpose(1, 2) * MASKED
