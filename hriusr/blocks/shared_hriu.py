"""HRIU with one query and one key for all of its terms, in windows whose keys may be squeezed.

    s[o,h,i] = q[o].k[i] + q[o].K2[h,o-i] + Q3[h,o-i].k[i] + b[h,o-i]

HRIU projects a query and a key a term: two of six projections are saved here, as in disentangled attention
(arXiv:2006.03654). With squeeze_ratio r, keys and values have C / r² channels a pixel, and the r x r pixels of a cell
lie side by side as the channels of one key (SRFormer, arXiv:2303.09735, sec. 3.2): a window of side r w costs a pixel
what one of side w does, and the offsets are HRIU's of a source window that grows by r.

With similarity "cosine" q and k are vectors of one length, learned for each head: their product is g cos(q, k), g from
10 up to 100, as in Swin V2 (arXiv:2111.09883, eq. 2), whatever the features' size.

Shapes: B batch, C channels, H W pixels, M windows, h heads, d head channels, P target cells (r w)², N source cells w².
"""

import math

import torch
from torch import Tensor, nn

from hriusr.blocks.attention_core import attend_shifted, computing_dtype
from hriusr.blocks.cpu_attention_grad import CpuAttention
from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables, runs_by_parts
from hriusr.blocks.linear import Linear
from hriusr.blocks.relative import AxisGeometry
from hriusr.blocks.relative_scores import TERMS, RelativeScores, check_terms
from hriusr.blocks.residual import Residual
from hriusr.blocks.unit_vectors import HeadLengths
from hriusr.blocks.window_map import map_windows
from hriusr.blocks.windows import ShiftRegions

SIMILARITIES = ("product", "cosine")
_FIRST_GAIN, _LARGEST_GAIN = 10.0, 100.0  # of cosines


class SharedHRIU(nn.Module):
    """Window attention with relative queries and keys, from every pixel to the squeezed cells of its window."""

    takes_residual = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int,
        *,
        squeeze_ratio: int = 1,
        terms: str = TERMS,
        tables: str = "axial",
        similarity: str = "product",
        shift_size: int = 0,
    ) -> None:
        """Build the unit.

        Args:
            dim: channels in and out; a multiple of num_heads and of squeeze_ratio².
            num_heads: attention heads.
            window_size: side of a window in cells; in pixels it is squeeze_ratio times as large.
            squeeze_ratio: pixels of a cell along each side; 1 for none.
            terms: letters of the score, out of "anm".
            tables: relative tables, see blocks/relative_scores.py: "axial", "crossed" (the cheapest) or "full".
            similarity: "product" of queries and keys as they are, or "cosine".
            shift_size: cells that windows are moved down and right by.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"dim (={dim}) must be divisible by num_heads (={num_heads})")
        if squeeze_ratio < 1 or dim % squeeze_ratio**2:
            raise ValueError(f"dim (={dim}) must be divisible by the square of squeeze_ratio (={squeeze_ratio})")
        check_terms(terms)
        if similarity not in SIMILARITIES:
            raise ValueError(f"similarity (={similarity!r}) must be one of {', '.join(SIMILARITIES)}")
        self.num_heads, self.terms = num_heads, terms
        self.squeeze_ratio = squeeze_ratio
        self.source_side, self.target_side = window_size, window_size * squeeze_ratio
        axis = AxisGeometry(self.source_side, self.target_side)
        self.scores = RelativeScores(num_heads, dim // num_heads, axis, axis, terms, tables)
        query = " ".join(["q1"] * ("a" in terms) + ["q2"] * ("n" in terms))
        key = " ".join(["k1"] * ("a" in terms) + ["k3"] * ("m" in terms))
        sources = (key, "value") if key else ("value",)
        both = [(query,)] if query else []
        both += [(part,) for part in sources] if similarity == "cosine" else [sources]  # keys change, values do not
        self.plan = AttentionPlan(
            tuple(both), num_heads, dim // num_heads, axis, axis, self.scores.scale, self.scores.is_crossed
        )
        self.squeezed_dim = dim // squeeze_ratio**2
        self.num_key_parts = len(sources)
        self.query = Linear(dim, dim) if query else None
        self.key_value = Linear(dim, self.squeezed_dim * self.num_key_parts)
        self.project_out = Linear(dim, dim)
        self.logit_scale = None
        if similarity == "cosine":
            self.logit_scale = nn.Parameter(torch.full((num_heads, 1), math.log(_FIRST_GAIN)))
        if not 0 <= shift_size < window_size:
            raise ValueError(f"shift_size (={shift_size}) must be at least 0 and below window_size (={window_size})")
        self.shift_size = (shift_size * squeeze_ratio,) * 2
        sides = ((self.source_side,) * 2, (shift_size,) * 2, (self.target_side,) * 2)
        self.regions = ShiftRegions(*sides) if shift_size else None

    def forward(self, x_BHWC: Tensor, residual: Residual | None = None) -> Tensor:
        """Attend; H and W are multiples of the window. Do around it what residual says. Returns (B, H, W, C)."""
        grid = (x_BHWC.shape[1] // self.target_side, x_BHWC.shape[2] // self.target_side)
        dtype = computing_dtype(x_BHWC)
        lengths = self._lengths()
        by_parts, tables = None, None
        if runs_by_parts(x_BHWC):
            tables_by_column = RelativeTables(*self.scores.prepare_by_column(dtype))
            by_parts = CpuAttention(self.plan, tables_by_column, self.regions, grid)
        else:
            tables = self.scores.prepare(dtype)

        def attend_cells(x_MPC: Tensor, numbers: range) -> Tensor:
            projections = [self._squeeze(self.key_value(x_MPC))]
            if lengths is not None and self.num_key_parts == 2:
                key_MNC, value_MNC = projections[0].chunk(2, -1)
                projections = [lengths(key_MNC), value_MNC]
            if self.query is not None:
                query_MPC = self.query(x_MPC)
                projections.insert(0, query_MPC if lengths is None else lengths(query_MPC))
            if by_parts is not None:
                return self.project_out(by_parts(projections, numbers))
            heads = {name: part.transpose(1, 2) for name, part in self.plan.split(projections).items()}
            score = self.scores(*(heads.get(name) for name in ("q1", "q2", "k1", "k3")), tables)
            y_MhPd = attend_shifted(*score[:2], heads["value"], score.bias, self.regions, numbers, grid)
            return self.project_out(y_MhPd.transpose(1, 2).flatten(2))

        limit = None if by_parts is None else by_parts.windows_at_once
        side = (self.target_side, self.target_side)
        return map_windows(x_BHWC, side, self.shift_size, attend_cells, residual, windows_at_once=limit)

    def _lengths(self) -> HeadLengths | None:
        """Return how long queries and keys are: sqrt(g sqrt(d)), as scores are divided by sqrt(d)."""
        if self.logit_scale is None:
            return None
        gain_h1 = self.logit_scale.clamp(max=math.log(_LARGEST_GAIN)).exp()
        return HeadLengths((gain_h1 / self.scores.scale).sqrt(), self.plan.head_dim)

    def _squeeze(self, parts_MPK: Tensor) -> Tensor:
        """Return keys and values of the cells, (M, N, k C): channel = (part, squeezed channel, row, column)."""
        if self.squeeze_ratio == 1:
            return parts_MPK
        side, ratio = self.source_side, self.squeeze_ratio
        cells = parts_MPK.unflatten(1, (side, ratio, side, ratio))
        return cells.permute(0, 1, 3, 5, 2, 4).flatten(3).flatten(1, 2)
