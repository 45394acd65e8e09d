"""Window attention with relative terms on a CPU, a few windows at a time.

What blocks/attention_core.py and blocks/relative_scores.py say, in buffers that every part of the windows uses again:
they stay in the cache, and views of them are made once. cpu_attention_grad.py has the backward pass.

- Involution is more channels of queries and keys, one product for all (relative_scores.py). Imprinting is the same from
  the keys' side; in half precision it is computed so, else adding whole rows of scores costs less.
- Without relative terms, and where nobody needs the weights, torch's scaled_dot_product_attention does it all on the
  processors that it is faster on.
- Where nobody needs the weights they are exponentials as they are: a channel of ones behind the values gives their sum
  with the product, outputs are divided by it. Softmax reads scores twice more; it comes in for fp16, and once a sum has
  left what _SUMS says for all that follows in the same pass: so a window's last digits may depend on those before it.
- Scores in float32 are made in units of ln 2: PyTorch's powers of 2 are faster than MKL's of e, on an AMD EPYC 4 times.
- MKL multiplies by 30 columns at half the speed of 32, and by 10 at a quarter of 16: channels are padded for it.
  oneDNN, which computes half precision, does not mind, but copies what is not contiguous.

Shapes: M windows, m of them at a time, h heads, P target cells (p_y, p_x), N source cells (w_y, w_x), d head channels,
B = h m, C = h d, k parts of a projection, T table entries of both axes and padding, c channels of a product.
"""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hriusr.blocks.cpu_attention_addends import Addends, Biases, aligned, imprints_by_channels
from hriusr.blocks.cpu_attention_plan import PARTS, TERMS, AttentionPlan, RelativeTables
from hriusr.blocks.processor import is_intels
from hriusr.blocks.relative import RelativeTerm

_SUMS = (1e-12, 1e12)  # of exponentials: far from where they would lose digits


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
        self.terms = plan.terms
        self.involution_term, self.imprinting_term = plan.terms[1], plan.terms[2]

    def new(self, *shape: int) -> Tensor:
        """Return zeros (B, *shape)."""
        return self.empty(*shape).zero_()

    def empty(self, *shape: int) -> Tensor:
        """Return room (B, *shape) that something else fills."""
        return self.like.new_empty(self.num_windows * self.plan.num_heads, *shape)

    def by_window(self, x_B: Tensor) -> Tensor:
        """View B as (h, m)."""
        return x_B.unflatten(0, (self.plan.num_heads, self.num_windows))

    def cells_first(self, x_BNc: Tensor) -> Tensor:
        """View (B, N, c) as (m, N, h, d), without the channels behind."""
        return self.by_window(x_BNc)[..., : self.plan.head_dim].permute(1, 2, 0, 3)

    def long(self, num_cells: int, *relative: tuple[RelativeTerm, bool]) -> "LongVectors | None":
        """Return room for q1 or k1 and the channels of terms, None where there would be none of both.

        Args:
            num_cells: N or P.
            relative: terms in order, and whether their channels are the one-hots that the other side needs.
        """
        num_used = self.num_shared + sum(sum(term.channels) for term, _ in relative)
        if num_used == 0:
            return None
        vectors_BNc = self.new(num_cells, aligned(num_used, self.like.dtype))
        first = self.num_shared
        for term, is_one_hot in relative:
            end = first + sum(term.channels)
            if is_one_hot:
                vectors_BNc[..., first:end] = term.one_hots().to(vectors_BNc.dtype)
            first = end
        shared = self.cells_first(vectors_BNc) if self.num_shared else None
        return LongVectors(vectors_BNc, vectors_BNc[..., :num_used], shared)

    def relative_channels(self, vectors_BNc: Tensor, term: RelativeTerm, behind: int = 0) -> Sequence[Tensor]:
        """View a term's channels: (h, m, y, x, rows) and (h, m, y, x, columns), or one of them.

        Args:
            vectors_BNc: queries or keys with channels.
            term: whose channels.
            behind: channels of another term between q1 or k1 and these.
        """
        cells_hmyxc = self.by_window(vectors_BNc).unflatten(2, term.cells)[..., self.num_shared + behind :]
        return cells_hmyxc[..., : sum(term.channels)].split(term.channels, -1)

    def product(self, term: RelativeTerm, table_hdT: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return room for products of cells and a table (h, S, T), and what a term's readers read of it."""
        product_BNT = self.new(term.cells[0] * term.cells[1], table_hdT.shape[2])
        product_hmyxT = self.by_window(product_BNT).unflatten(2, term.cells)
        return product_hmyxT.flatten(1, 3), term.axial_views(product_hmyxT)

    def full_term(self, number: int, table_hxdE: Tensor) -> "FullTerm":
        """Return room for a full table's term."""
        term, (num_heads, num_x, num_channels, num_entries) = self.terms[number], table_hxdE.shape
        rows = self.num_windows * term.cells[0]
        vectors = self.like.new_zeros(num_heads, num_x, self.num_windows, term.cells[0], num_channels)
        product = self.like.new_zeros(num_heads * num_x, rows, num_entries)
        product_hxmyTx = product.view(*vectors.shape[:4], -1, term.readers[1])
        view = term.full_view(product_hxmyTx)
        if term.is_imprinting:
            view = view.permute(0, 1, 4, 5, 2, 3)
        return FullTerm(vectors.view(-1, rows, num_channels), self.by_column(vectors), product, view)

    def by_pair(self, scores_hmPN: Tensor) -> Tensor:
        """View scores as (h, m, y, x, y, x): target cells, then source cells."""
        return scores_hmPN.unflatten(3, self.imprinting_term.cells).unflatten(2, self.involution_term.cells)

    def by_column(self, vectors_hxmyd: Tensor) -> Tensor:
        """View as (m, y, x, h, d)."""
        return vectors_hxmyd.permute(2, 3, 1, 0, 4)


class FullTerm(NamedTuple):
    """Involution or imprinting with a full table: one product for each column of cells, S = m y."""

    vectors_HSd: Tensor  # H = h x
    vectors_myxhd: Tensor  # the same
    product_HSE: Tensor
    scores_hmyxyx: Tensor  # what it gives to each pair: target cells, then source cells


class LongVectors(NamedTuple):
    """Queries or keys with the channels of relative terms behind them."""

    vectors_BNc: Tensor
    used_BNc: Tensor  # without the zero channels
    shared_mNhd: Tensor | None  # the part of q1 or k1


class _Frame(WindowBuffers):
    """What WindowScorer computes in."""

    def __init__(self, plan: AttentionPlan, tables: RelativeTables, num_windows: int) -> None:
        super().__init__(plan, tables.bias_hPN, num_windows)
        self.full_terms = {n: self.full_term(n, tables[n]) for n in TERMS if tables.full(n) is not None}
        has_involution, has_imprinting = tables.axial(1) is not None, tables.axial(2) is not None
        self.imprints_by_channels = has_imprinting and imprints_by_channels(self.like.dtype)
        relative = [(self.involution_term, False)] * has_involution
        relative += [(self.imprinting_term, True)] * self.imprints_by_channels
        self.query = self.long(plan.num_targets, *relative)
        self.key = self.long(plan.num_sources, *((term, not is_one_hot) for term, is_one_hot in relative))
        self.value_BNc = self.new(plan.num_sources, aligned(plan.head_dim + 1, self.like.dtype))
        self.value_BNc[..., plan.head_dim] = 1
        self.value_mNhd = self.cells_first(self.value_BNc)
        self.y_BPc = self.empty(plan.num_targets, self.value_BNc.shape[2])
        self.y_mPhd = self.cells_first(self.y_BPc)
        self.sum_BP = self.y_BPc[..., plan.head_dim]
        self.sum_mPh1 = self.by_window(self.sum_BP).permute(1, 2, 0).unsqueeze(3)
        if has_involution:
            self.involution_product, views = self.product(self.involution_term, tables.involution)
            self.involved = list(
                zip(self.relative_channels(self.query.vectors_BNc, self.involution_term), views, strict=True)
            )
        if has_imprinting:
            self.imprinting_product, views = self.product(self.imprinting_term, tables.imprinting)
            if self.imprints_by_channels:
                behind = sum(self.involution_term.channels) * has_involution
                places = self.relative_channels(self.key.vectors_BNc, self.imprinting_term, behind)
                self.imprinted = list(zip(places, views, strict=True))
            else:  # what imprinting adds for each target row, and each target column
                rows_of_scores = [self.by_window(self.empty(view.shape[4], plan.num_sources)) for view in views]
                self.imprinted = [
                    (to_hmpN.unflatten(3, self.imprinting_term.cells), view_hmyxp.permute(0, 1, 4, 2, 3))
                    for to_hmpN, view_hmyxp in zip(rows_of_scores, views, strict=True)
                ]
                self.addends_hmyxN = [
                    rows_hmpN.unsqueeze(3 - axis)
                    for axis, rows_hmpN in zip(self.imprinting_term.axes, rows_of_scores, strict=True)
                ]

    @cached_property
    def scores(self) -> Tensor:
        """Room for scores, (B, P, N)."""
        return self.empty(self.plan.num_targets, self.plan.num_sources)


class WindowScorer:
    """Attention of a few windows at a time, any number of times."""

    def __init__(self, plan: AttentionPlan, tables: RelativeTables) -> None:
        """Prepare tables.

        Args:
            plan: see there.
            tables: see there.
        """
        self.plan, self._tables = plan, tables
        self._frames: dict[int, _Frame] = {}
        dtype = tables.bias_hPN.dtype
        self._takes_exponentials = dtype != torch.float16  # 65504 is the exponential of 11
        self._takes_powers_of_2 = dtype.itemsize > 2  # in half precision the bias would be rounded once more
        is_plain = tables.involution is None and tables.imprinting is None and "q1" in plan.where
        self._biases = Biases(tables.bias_hPN) if is_plain and _fuses(dtype) else None

    @cached_property
    def _addends(self) -> Addends:
        return Addends.of(self.plan, self._tables)

    @cached_property
    def _addends_by_ln_2(self) -> Addends:
        return Addends.of(self.plan, self._tables, 1 / math.log(2))

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
        if weights_BPN is None and self._biases is not None:
            parts = self.plan.split(projections)
            q, k, v = (parts[name].transpose(1, 2) for name in ("q1", "k1", "value"))
            with self._biases.of(num_windows, masks) as bias:
                y_mhPd = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=self.plan.scale)
            return y_mhPd.transpose(1, 2).flatten(2)
        if num_windows not in self._frames:
            tables = (self._addends_by_ln_2 if self._takes_powers_of_2 else self._addends).tables
            self._frames[num_windows] = _Frame(self.plan, tables, num_windows)
        frame = self._frames[num_windows]
        parts = self.plan.split(projections)
        frame.value_mNhd.copy_(parts["value"])
        if weights_BPN is None:
            weights_BPN = frame.scores
            if self._takes_exponentials and num_windows:
                if self._takes_powers_of_2:
                    self._score(frame, parts, weights_BPN, masks, self._addends_by_ln_2)
                    torch.exp2(weights_BPN, out=weights_BPN)
                else:
                    self._score(frame, parts, weights_BPN, masks, self._addends)
                    torch.exp(weights_BPN, out=weights_BPN)
                torch.bmm(weights_BPN, frame.value_BNc, out=frame.y_BPc)
                least, most = (bound.item() for bound in frame.sum_BP.aminmax())
                self._takes_exponentials = _SUMS[0] <= least and most <= _SUMS[1]  # not where one is NaN
                if self._takes_exponentials:
                    return _divided(frame.y_mPhd, frame.sum_mPh1)
        self._score(frame, parts, weights_BPN, masks, self._addends)
        torch.softmax(weights_BPN, -1, out=weights_BPN)
        torch.bmm(weights_BPN, frame.value_BNc, out=frame.y_BPc)
        return frame.y_mPhd.flatten(2)

    def _score(
        self,
        frame: _Frame,
        parts: Mapping[str, Tensor],
        scores_BPN: Tensor,
        masks: Mapping[int, Tensor],
        addends: Addends,
    ) -> None:
        scores_hmPN, tables = frame.by_window(scores_BPN), addends.tables
        if tables.axial(2) is not None:
            torch.bmm(by_head(parts["k3"]), tables.imprinting, out=frame.imprinting_product)
            for target, source in frame.imprinted:
                target.copy_(source)
        if tables.axial(2) is None or frame.imprints_by_channels:
            scores_hmPN.copy_(addends.bias_h1PN)
        else:
            scores_hmyxN = scores_hmPN.unflatten(2, frame.imprinting_term.readers)
            first_hmyxN, *others = frame.addends_hmyxN
            torch.add(addends.bias_h1yxN, first_hmyxN, out=scores_hmyxN)
            for other_hmyxN in others:
                scores_hmyxN += other_hmyxN
        if frame.key is not None:
            if frame.num_shared:
                frame.query.shared_mNhd.copy_(parts["q1"])
                frame.key.shared_mNhd.copy_(parts["k1"])
            if tables.axial(1) is not None:
                torch.bmm(by_head(parts["q2"]), tables.involution, out=frame.involution_product)
                for target, source in frame.involved:
                    target.copy_(source)
            query_BPc, key_BcN = frame.query.used_BNc, frame.key.used_BNc.transpose(1, 2)
            torch.baddbmm(scores_BPN, query_BPc, key_BcN, alpha=addends.scale, out=scores_BPN)
        scores_hmyxyx = frame.by_pair(scores_hmPN)
        for number, term in frame.full_terms.items():
            term.vectors_myxhd.copy_(parts[PARTS[number]].unflatten(1, frame.terms[number].cells))
            torch.bmm(term.vectors_HSd, tables[number].flatten(0, 1), out=term.product_HSE)
            scores_hmyxyx += term.scores_hmyxyx
        for index, mask_PN in masks.items():
            scores_hmPN[:, index] += mask_PN


def _fuses(dtype: torch.dtype) -> bool:
    """Whether torch's own attention is faster without relative terms: on Intel's, in bf16 if they have matrix units."""
    if dtype.itemsize >= 4:
        return is_intels()
    return dtype == torch.bfloat16 and getattr(torch.cpu, "_is_amx_tile_supported", bool)()


def _divided(x_mPhd: Tensor, sum_mPh1: Tensor) -> Tensor:
    """Return vectors divided by the sums of their weights, (m, P, C)."""
    y_mPhd = x_mPhd.new_empty(x_mPhd.shape)
    if y_mPhd.dtype.itemsize > 2:
        torch.div(x_mPhd, sum_mPh1, out=y_mPhd)
    else:  # rounded once, and read where it lies together
        wide_mPhd = y_mPhd.copy_(x_mPhd).float()
        wide_mPhd *= sum_mPh1.float().reciprocal_().expand_as(wide_mPhd).contiguous()
        y_mPhd.copy_(wide_mPhd)
    return y_mPhd.flatten(2)


def by_head(x_mNhd: Tensor) -> Tensor:
    """Return (h, m N, d) for a product: half precision is copied, which oneDNN would do more slowly."""
    x_hSd = x_mNhd.flatten(0, 1).transpose(0, 1)
    return x_hSd.contiguous() if x_hSd.dtype.itemsize == 2 else x_hSd
