"""The backward pass of blocks/cpu_attention.py.

Weights are what is kept of the size of scores; all else that size lives in a buffer that every part of the windows uses
again. The gradient of a one-hot channel is nobody's: the products leave it out.

Shapes: see blocks/cpu_attention.py.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from hriusr.blocks.attention_core import MASKED
from hriusr.blocks.cpu_attention import FullTerm, WindowBuffers, WindowScorer, by_head
from hriusr.blocks.cpu_attention_addends import aligned, padded
from hriusr.blocks.cpu_attention_plan import PARTS, TERMS, AttentionPlan, RelativeTables
from hriusr.blocks.windows import ShiftRegions

Masks = Callable[[range], Mapping[int, Tensor]]


class CpuAttention:
    """Attention for the windows of maps, which may be rolled: few at a time without gradients, else differentiable."""

    def __init__(
        self, plan: AttentionPlan, tables: RelativeTables, regions: ShiftRegions | None, grid: tuple[int, int]
    ) -> None:
        """Prepare for one forward pass.

        Args:
            plan: see there.
            tables: see there.
            regions: where the cut of rolled maps goes; None for maps that are not rolled.
            grid: windows down and across a map.
        """
        self.plan, self.tables = plan, tables
        self.masks = None if regions is None else partial(regions.masks, grid=grid, penalty=MASKED)
        self.scorer = None if torch.is_grad_enabled() else WindowScorer(plan, tables)

    @property
    def windows_at_once(self) -> int | None:
        """How many windows should come at a time; None for all."""
        return None if self.scorer is None else self.plan.windows_at_once(self.tables.bias_hPN.itemsize)

    def __call__(self, projections: Sequence[Tensor], numbers: range) -> Tensor:
        """Attend in the windows of these numbers; see attend_by_parts."""
        if self.scorer is None:
            return attend_by_parts(projections, self.plan, self.tables, self.masks)
        return self.scorer.attend(projections, self.masks(numbers) if self.masks else {})


def attend_by_parts(
    projections: Sequence[Tensor], plan: AttentionPlan, tables: RelativeTables, masks: Masks | None = None
) -> Tensor:
    """Weight values by softmax(scale q1.k1 + involution + imprinting + bias), differentiably, in whole maps of windows.

    Args:
        projections: (M, cells, k C) each, as plan.parts says.
        plan: see there.
        tables: see there; in the projections' number format.
        masks: numbers of windows -> index into them -> (P, N) to add to a window's scores; None for none.

    Returns:
        y_MPC.
    """
    if torch.is_grad_enabled():
        return _AttendByParts.apply(plan, masks, *tables, *projections)
    return _attend(projections, plan, tables, masks, None)


class _AttendByParts(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, plan: AttentionPlan, masks: Masks | None, *tensors: Tensor | None) -> Tensor:
        tables, projections = RelativeTables(*tensors[:3]), tensors[3:]
        weights = tables.bias_hPN.new_empty(len(projections[0]) * tables.bias_hPN.numel())
        y_MPC = _attend(projections, plan, tables, masks, weights)
        ctx.plan = plan
        ctx.save_for_backward(weights, *tensors)
        return y_MPC

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_MPC: Tensor) -> tuple[Tensor | None, ...]:
        weights, *tensors = ctx.saved_tensors
        projections, plan = tensors[3:], ctx.plan
        gradients = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in projections]
        with torch.autocast("cpu", enabled=False):
            sums = _TableGradients(plan, RelativeTables(*tensors[:3]))
            for part in _parts(len(dy_MPC), plan, weights.itemsize):
                part_weights = _weights_of(part, weights, plan)
                to = _PartGradients(plan, [x[part] for x in gradients])
                sums.add(plan.split([x[part] for x in projections]), part_weights, dy_MPC[part], to)
        return None, None, *sums.gradients(), *gradients


class _BackwardFrame(WindowBuffers):
    """What the backward pass of some windows is computed in."""

    def __init__(self, plan: AttentionPlan, tables: RelativeTables, num_windows: int) -> None:
        super().__init__(plan, tables.bias_hPN, num_windows)
        has_involution, has_imprinting = tables.axial(1) is not None, tables.axial(2) is not None
        self.full_terms = {n: self.full_term(n, tables[n]) for n in TERMS if tables.full(n) is not None}
        self.query = self.long(plan.num_targets, *[(self.imprinting_term, True)] * has_imprinting)
        self.key = self.long(plan.num_sources, *[(self.involution_term, True)] * has_involution)
        self.value_BNc = self.new(plan.num_sources, aligned(plan.head_dim, self.like.dtype))
        self.value_mNhd = self.cells_first(self.value_BNc)
        self.dy_BPc = self.new(plan.num_targets, aligned(plan.head_dim, self.like.dtype))
        self.dy_mPhd = self.cells_first(self.dy_BPc)
        self.dscores_BPN = self.empty(plan.num_targets, plan.num_sources)
        # entries that are read have one reader each; the others stay 0
        if has_involution:
            self.involution = self.product(self.involution_term, tables.involution)
        if has_imprinting:
            self.imprinting = self.product(self.imprinting_term, tables.imprinting)


class _PartGradients:
    """Where the gradients of some windows' parts go; what terms share gets the sum of theirs."""

    def __init__(self, plan: AttentionPlan, projections: Sequence[Tensor]) -> None:
        self._where, self._parts = plan.where, plan.split(projections)
        self._written: set[tuple[int, int]] = set()

    def write(self, name: str, gradient: Tensor) -> None:
        """Take the gradient of a part, (m, cells, h, d), or cells as rows and columns."""
        to, place = self._parts[name].unflatten(1, gradient.shape[1:-2]), self._where[name]
        if place in self._written:
            to += gradient
        else:
            to.copy_(gradient)
            self._written.add(place)


class _TableGradients:
    """Computes gradients a few windows at a time, and adds up those of the tables."""

    def __init__(self, plan: AttentionPlan, tables: RelativeTables) -> None:
        self.plan, self.given = plan, tables
        self.tables = RelativeTables(tables.bias_hPN, *(padded(x) for x in tables[1:]))
        wide = torch.promote_types(tables.bias_hPN.dtype, torch.float32)
        self.sums = RelativeTables(*(None if x is None else torch.zeros(x.shape, dtype=wide) for x in self.tables))
        # entries first, for gradients of vectors, with zero channels behind
        self.transposed = [None if x is None else padded(x.transpose(-1, -2).contiguous()) for x in self.tables[1:]]
        self._frames: dict[int, _BackwardFrame] = {}

    def add(self, parts: Mapping[str, Tensor], weights_BPN: Tensor, dy_mPC: Tensor, gradients: _PartGradients) -> None:
        """Write the gradients of some windows' parts, and add up those of the tables."""
        plan, num_windows = self.plan, len(dy_mPC)
        if num_windows not in self._frames:
            self._frames[num_windows] = _BackwardFrame(plan, self.tables, num_windows)
        frame = self._frames[num_windows]
        frame.value_mNhd.copy_(parts["value"])
        frame.dy_mPhd.copy_(dy_mPC.unflatten(-1, (plan.num_heads, plan.head_dim)))
        gradients.write("value", frame.cells_first(torch.bmm(weights_BPN.transpose(1, 2), frame.dy_BPc)))
        ds_BPN = torch.bmm(frame.dy_BPc, frame.value_BNc.transpose(1, 2), out=frame.dscores_BPN)
        torch._softmax_backward_data(ds_BPN, weights_BPN, -1, ds_BPN.dtype, grad_input=ds_BPN)
        sum_hPN = self.sums.bias_hPN
        sum_hPN += frame.by_window(ds_BPN).sum(1, dtype=sum_hPN.dtype)
        for shared, other, number in (("q1", frame.key, 1), ("k1", frame.query, 2)):
            if other is None:
                continue
            if frame.num_shared:
                other.shared_mNhd.copy_(parts["k1" if shared == "q1" else "q1"])
            to_sources = ds_BPN if shared == "q1" else ds_BPN.transpose(1, 2)
            gradient_BNc = torch.bmm(to_sources, other.vectors_BNc)
            if frame.num_shared:
                gradients.write(shared, frame.cells_first(gradient_BNc) * plan.scale)
            self._add_axial(frame, number, parts, gradient_BNc, gradients)
        for number, term in frame.full_terms.items():
            self._add_full(frame, number, term, parts, gradients)

    def _add_axial(
        self,
        frame: _BackwardFrame,
        number: int,
        parts: Mapping[str, Tensor],
        gradient_BNc: Tensor,
        gradients: _PartGradients,
    ) -> None:
        """From what flows to a term's readers to its vectors and its table."""
        if self.tables.axial(number) is None:
            return
        term, name = frame.terms[number], PARTS[number]
        dproduct_hST, views = frame.involution if number == 1 else frame.imprinting
        for target, source in zip(views, frame.relative_channels(gradient_BNc, term), strict=True):
            target.copy_(source)
        sum_hdT = self.sums[number]
        sum_hdT += torch.bmm(by_head(parts[name]).transpose(1, 2), dproduct_hST)
        dx_hSc = torch.bmm(dproduct_hST, self.transposed[number - 1])
        gradients.write(name, frame.cells_first(dx_hSc.unflatten(1, (frame.num_windows, -1)).flatten(0, 1)))

    def _add_full(
        self,
        frame: _BackwardFrame,
        number: int,
        term: FullTerm,
        parts: Mapping[str, Tensor],
        gradients: _PartGradients,
    ) -> None:
        """From what flows to the scores to a full table's vectors and to itself."""
        cells, name = frame.terms[number].cells, PARTS[number]
        term.scores_hmyxyx.copy_(frame.by_pair(frame.by_window(frame.dscores_BPN)))
        term.vectors_myxhd.copy_(parts[name].unflatten(1, cells))
        sum_HdE = self.sums[number].flatten(0, 1)
        sum_HdE += torch.bmm(term.vectors_HSd.transpose(1, 2), term.product_HSE)
        dx_HSd = torch.bmm(term.product_HSE, self.transposed[number - 1].flatten(0, 1))
        dx_hxmyd = dx_HSd.unflatten(1, (frame.num_windows, cells[0])).unflatten(0, (frame.plan.num_heads, cells[1]))
        gradients.write(name, frame.by_column(dx_hxmyd))

    def gradients(self) -> list[Tensor | None]:
        """Return the gradients of the tables as they were given."""
        return [
            None if table is None else gradient[..., : table.shape[-1]].to(table.dtype)
            for gradient, table in zip(self.sums, self.given, strict=True)
        ]


def _attend(
    projections: Sequence[Tensor],
    plan: AttentionPlan,
    tables: RelativeTables,
    masks: Masks | None,
    weights: Tensor | None,
) -> Tensor:
    """Attend in all windows, and keep the weights where there is room given for them."""
    num_windows, bias_hPN = len(projections[0]), tables.bias_hPN
    y_MPC = bias_hPN.new_empty(num_windows, plan.num_targets, plan.num_heads * plan.head_dim)
    with torch.autocast("cpu", enabled=False):
        scorer = WindowScorer(plan, tables)
        for part in _parts(num_windows, plan, bias_hPN.itemsize):
            part_masks = masks(range(part.start, part.stop)) if masks else {}
            part_weights = None if weights is None else _weights_of(part, weights, plan)
            y_MPC[part] = scorer.attend([x[part] for x in projections], part_masks, part_weights)
    return y_MPC


def _parts(num_windows: int, plan: AttentionPlan, itemsize: int) -> Iterator[slice]:
    at_once = plan.windows_at_once(itemsize)
    for start in range(0, num_windows, at_once):
        yield slice(start, min(start + at_once, num_windows))


def _weights_of(part: slice, weights: Tensor, plan: AttentionPlan) -> Tensor:
    """View the weights of some windows as (B, P, N); those computed together lie together."""
    per_window = plan.num_heads * plan.num_targets * plan.num_sources
    part_weights = weights[part.start * per_window : part.stop * per_window]
    return part_weights.view(-1, plan.num_targets, plan.num_sources)
