"""Window attention with relative terms on a CPU, a few windows at a time.

What blocks/attention_core.py and blocks/relative_scores.py say, in buffers that every part of the windows uses again:
they stay in the cache, and views of them are made once. cpu_attention_grad.py has the backward pass.

- Involution is more channels of queries and keys, one product for all (relative_scores.py). Imprinting is the same from
  the keys' side, but there it adds whole rows of scores, which costs less than channels.
- MKL multiplies by 30 columns at half the speed of 32, and by 10 at a quarter of 16: channels are padded for it.
  oneDNN, which computes half precision, does not mind, but copies what is not contiguous.

Shapes: M windows, m of them at a time, h heads, P target cells (p_y, p_x), N source cells (w_y, w_x), d head channels,
B = h m, C = h d, k parts of a projection, T table entries of both axes and padding, c channels of a product.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hriusr.blocks.relative import AxialTerm, AxisGeometry, one_hot_cells

_CHUNK_BYTES = 3 << 19  # scores computed at a time: they stay near a core
_ALIGNMENT, _FEWEST = 8, 16  # columns of a product in float32: a multiple, and no fewer


@dataclass(frozen=True)
class AttentionPlan:
    """What the projections hold and how offsets are read.

    Args:
        parts: what each projection holds, in order: "q1", "q2" at the targets, "k1", "k3", "value" at the sources. q1
            and k1 come together; "value" is always there.
        num_heads: h.
        head_dim: d.
        rows: geometry along the vertical axis.
        columns: geometry along the horizontal axis.
        scale: what q1.k1 is multiplied by; tables come scaled.
    """

    parts: tuple[tuple[str, ...], ...]
    num_heads: int
    head_dim: int
    rows: AxisGeometry
    columns: AxisGeometry
    scale: float

    @property
    def num_targets(self) -> int:
        """Target cells of a window (P)."""
        return self.rows.target * self.columns.target

    @property
    def num_sources(self) -> int:
        """Source cells of a window (N)."""
        return self.rows.source * self.columns.source

    @cached_property
    def where(self) -> dict[str, tuple[int, int]]:
        """Return name of a part -> number of its projection, place in it."""
        return {name: (t, k) for t, names in enumerate(self.parts) for k, name in enumerate(names)}

    def split(self, projections: Sequence[Tensor]) -> dict[str, Tensor]:
        """View projections as (m, cells, h, d) by name."""
        by_part = [x.unflatten(-1, (-1, self.num_heads, self.head_dim)).unbind(2) for x in projections]
        return {name: by_part[t][k] for name, (t, k) in self.where.items()}

    def windows_at_once(self, itemsize: int) -> int:
        """Return how many windows are computed at a time (m)."""
        return max(_CHUNK_BYTES // (itemsize * self.num_heads * self.num_targets * self.num_sources), 1)


class AxialTables(NamedTuple):
    """Tables as RelativeScores.prepare gives them: scaled."""

    bias_hPN: Tensor
    involution_hdT: Tensor | None = None
    imprinting_hdT: Tensor | None = None


def runs_by_parts(x: Tensor) -> bool:
    """Whether attention over such a tensor goes through here: on a CPU, eagerly."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def aligned(num_columns: int, dtype: torch.dtype) -> int:
    """Round up to the next number of columns that products are fast with."""
    if dtype.itemsize == 2:
        return num_columns
    return max(num_columns + -num_columns % _ALIGNMENT, _FEWEST)


class WindowBuffers:
    """Room for a given number of windows, and views of it."""

    def __init__(self, plan: AttentionPlan, like: Tensor, num_windows: int) -> None:
        """Prepare.

        Args:
            plan: see there.
            like: a tensor of the number format.
            num_windows: m.
        """
        self.plan, self.like, self.num_windows = plan, like, num_windows
        self.num_shared = plan.head_dim if "q1" in plan.where else 0  # channels of q1 and k1
        self.involution_term = AxialTerm(plan.rows, plan.columns, is_imprinting=False)
        self.imprinting_term = AxialTerm(plan.rows, plan.columns, is_imprinting=True)

    def new(self, *shape: int) -> Tensor:
        """Return zeros (B, *shape)."""
        return self.like.new_zeros(self.num_windows * self.plan.num_heads, *shape)

    def by_window(self, x_B: Tensor) -> Tensor:
        """View B as (h, m)."""
        return x_B.unflatten(0, (self.plan.num_heads, self.num_windows))

    def cells_first(self, x_BNc: Tensor) -> Tensor:
        """View (B, N, c) as (m, N, h, d), without the channels behind."""
        return self.by_window(x_BNc)[..., : self.plan.head_dim].permute(1, 2, 0, 3)

    def long(self, num_cells: int, term: AxialTerm, has_term: bool, has_one_hot: bool) -> "LongVectors | None":
        """Return room for q1 or k1 and the channels of a term, None where there would be none of both."""
        num_relative = sum(term.readers) if has_term else 0
        if self.num_shared + num_relative == 0:
            return None
        num_used = self.num_shared + num_relative
        vectors_BNc = self.new(num_cells, aligned(num_used, self.like.dtype))
        if has_one_hot and has_term:
            one_hot_Nr = one_hot_cells(*term.readers).to(vectors_BNc.dtype)
            vectors_BNc[..., self.num_shared : num_used] = one_hot_Nr
        shared = self.cells_first(vectors_BNc) if self.num_shared else None
        return LongVectors(vectors_BNc, vectors_BNc[..., :num_used], shared)

    def relative_channels(self, vectors_BNc: Tensor, term: AxialTerm) -> tuple[Tensor, Tensor]:
        """View what stands behind q1 or k1: (h, m, y, x, rows) and (h, m, y, x, columns)."""
        cells_hmyxc = self.by_window(vectors_BNc).unflatten(2, term.cells)[..., self.num_shared :]
        rows, columns = term.readers
        return cells_hmyxc[..., :rows], cells_hmyxc[..., rows : rows + columns]

    def product(self, term: AxialTerm, table_hdT: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return room for products of cells and a table (h, S, T), and what a term's readers read of it."""
        product_BNT = self.new(term.cells[0] * term.cells[1], table_hdT.shape[2])
        product_hmyxT = self.by_window(product_BNT).unflatten(2, term.cells)
        return product_hmyxT.flatten(1, 3), term.views(product_hmyxT)


class LongVectors(NamedTuple):
    """Queries or keys with the channels of relative terms behind them."""

    vectors_BNc: Tensor
    used_BNc: Tensor  # without the zero channels
    shared_mNhd: Tensor | None  # the part of q1 or k1


class _Frame(WindowBuffers):
    """What WindowScorer computes in."""

    def __init__(self, plan: AttentionPlan, tables: AxialTables, num_windows: int) -> None:
        super().__init__(plan, tables.bias_hPN, num_windows)
        has_involution = tables.involution_hdT is not None
        self.query = self.long(plan.num_targets, self.involution_term, has_involution, has_one_hot=False)
        self.key = self.long(plan.num_sources, self.involution_term, has_involution, has_one_hot=True)
        self.value_BNc = self.new(plan.num_sources, aligned(plan.head_dim, self.like.dtype))
        self.value_mNhd = self.cells_first(self.value_BNc)
        self.y_BPc = self.new(plan.num_targets, aligned(plan.head_dim, self.like.dtype))
        self.y_mPhd = self.cells_first(self.y_BPc)
        if has_involution:
            self.involution_product, views = self.product(self.involution_term, tables.involution_hdT)
            self.involved = list(
                zip(self.relative_channels(self.query.vectors_BNc, self.involution_term), views, strict=True)
            )
        if tables.imprinting_hdT is not None:
            self.imprinting_product, views = self.product(self.imprinting_term, tables.imprinting_hdT)
            # what imprinting adds for each target row, and each target column
            self.row_hmpN, self.column_hmpN = (
                self.by_window(self.new(view_hmyxp.shape[4], plan.num_sources)) for view_hmyxp in views
            )
            self.imprinted = [
                (to_hmpN.unflatten(3, self.imprinting_term.cells), view_hmyxp.permute(0, 1, 4, 2, 3))
                for to_hmpN, view_hmyxp in zip((self.row_hmpN, self.column_hmpN), views, strict=True)
            ]

    @cached_property
    def scores(self) -> Tensor:
        """Room for scores, (B, P, N)."""
        return self.new(self.plan.num_targets, self.plan.num_sources)


class WindowScorer:
    """Attention of a few windows at a time, any number of times."""

    def __init__(self, plan: AttentionPlan, tables: AxialTables) -> None:
        """Prepare tables.

        Args:
            plan: see there.
            tables: see there.
        """
        self.plan = plan
        bias_h1PN = tables.bias_hPN.unsqueeze(1)
        target_sides = (plan.rows.target, plan.columns.target)
        self.bias_h1PN, self.bias_h1yxN = bias_h1PN, bias_h1PN.unflatten(2, target_sides)
        involution_hdT = tables.involution_hdT
        if involution_hdT is not None:
            involution_hdT = involution_hdT / plan.scale  # the product of queries and keys is scaled, with all channels
        self.tables = AxialTables(tables.bias_hPN, *(padded(x) for x in (involution_hdT, tables.imprinting_hdT)))
        self._frames: dict[int, _Frame] = {}

    def attend(
        self, projections: Sequence[Tensor], masks: Mapping[int, Tensor], weights_BPN: Tensor | None = None
    ) -> Tensor:
        """Attend in some windows.

        Args:
            projections: (m, cells, k C) each.
            masks: index of a window -> (P, N) to add to its scores.
            weights_BPN: filled with the weights; None where nobody needs them.

        Returns:
            y_mPC.
        """
        num_windows = len(projections[0])
        if num_windows not in self._frames:
            self._frames[num_windows] = _Frame(self.plan, self.tables, num_windows)
        frame = self._frames[num_windows]
        parts = self.plan.split(projections)
        if weights_BPN is None:
            weights_BPN = frame.scores
        self._score(frame, parts, weights_BPN, masks)
        torch.softmax(weights_BPN, -1, out=weights_BPN)
        frame.value_mNhd.copy_(parts["value"])
        torch.bmm(weights_BPN, frame.value_BNc, out=frame.y_BPc)
        return frame.y_mPhd.flatten(2)

    def _score(
        self, frame: _Frame, parts: Mapping[str, Tensor], scores_BPN: Tensor, masks: Mapping[int, Tensor]
    ) -> None:
        scores_hmPN = frame.by_window(scores_BPN)
        if self.tables.imprinting_hdT is None:
            scores_hmPN.copy_(self.bias_h1PN)
        else:
            torch.bmm(by_head(parts["k3"]), self.tables.imprinting_hdT, out=frame.imprinting_product)
            for target, source in frame.imprinted:
                target.copy_(source)
            scores_hmyxN = scores_hmPN.unflatten(2, frame.imprinting_term.readers)
            torch.add(self.bias_h1yxN, frame.row_hmpN.unsqueeze(3), out=scores_hmyxN)
            scores_hmyxN += frame.column_hmpN.unsqueeze(2)
        if frame.key is not None:
            if frame.num_shared:
                frame.query.shared_mNhd.copy_(parts["q1"])
                frame.key.shared_mNhd.copy_(parts["k1"])
            if self.tables.involution_hdT is not None:
                torch.bmm(by_head(parts["q2"]), self.tables.involution_hdT, out=frame.involution_product)
                for target, source in frame.involved:
                    target.copy_(source)
            query_BPc, key_BcN = frame.query.used_BNc, frame.key.used_BNc.transpose(1, 2)
            torch.baddbmm(scores_BPN, query_BPc, key_BcN, alpha=self.plan.scale, out=scores_BPN)
        for index, mask_PN in masks.items():
            scores_hmPN[:, index] += mask_PN


def by_head(x_mNhd: Tensor) -> Tensor:
    """Return (h, m N, d) for a product: half precision is copied, which oneDNN would do more slowly."""
    x_hSd = x_mNhd.flatten(0, 1).transpose(0, 1)
    return x_hSd.contiguous() if x_hSd.dtype.itemsize == 2 else x_hSd


def padded(x_hdT: Tensor | None) -> Tensor | None:
    """Put zero columns behind, to an aligned number of them; None stays None."""
    return None if x_hdT is None else F.pad(x_hdT, (0, aligned(x_hdT.shape[2], x_hdT.dtype) - x_hdT.shape[2]))
