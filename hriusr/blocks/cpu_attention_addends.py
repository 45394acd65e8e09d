"""What the scores of window attention on a CPU are sums of: in buffers, scaled and padded as products want them.

Shapes: see blocks/cpu_attention.py.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables

_ALIGNMENT, _FEWEST = 8, 16  # columns of a product in float32: a multiple, and no fewer


def aligned(num_columns: int, dtype: torch.dtype) -> int:
    """Round up to the next number of columns that products are fast with."""
    if dtype.itemsize == 2:
        return num_columns
    return max(num_columns + -num_columns % _ALIGNMENT, _FEWEST)


def imprints_by_channels(dtype: torch.dtype) -> bool:
    """Whether imprinting is more channels of queries and keys, rather than rows of scores."""
    return dtype.itemsize == 2


def padded(x: Tensor | None) -> Tensor | None:
    """Put zero columns behind axial tables, to an aligned number of them; others, and None, stay."""
    if x is None or x.dim() == 4:
        return x
    return F.pad(x, (0, aligned(x.shape[2], x.dtype) - x.shape[2]))


class Addends(NamedTuple):
    """What scores are sums of, all times one factor: the bias, products with tables, and scale times q.k."""

    scale: float
    bias_h1PN: Tensor
    bias_h1yxN: Tensor
    tables: RelativeTables

    @classmethod
    def of(cls, plan: AttentionPlan, tables: RelativeTables, factor: float = 1.0) -> "Addends":
        """Multiply and pad; channels behind queries and keys are scaled by their product, with all others."""
        bias_hPN, *others = (x if x is None or factor == 1 else x * factor for x in tables)
        involution, imprinting = others
        if tables.axial(1) is not None:
            involution = tables.involution / plan.scale
        if tables.axial(2) is not None and imprints_by_channels(bias_hPN.dtype):
            imprinting = tables.imprinting / plan.scale
        target_sides = (plan.rows.target, plan.columns.target)
        bias_h1PN = bias_hPN.unsqueeze(1)
        return cls(
            plan.scale * factor,
            bias_h1PN,
            bias_h1PN.unflatten(2, target_sides),
            RelativeTables(bias_hPN, padded(involution), padded(imprinting)),
        )


class Biases:
    """The bias of every window, and room for that of windows with masks."""

    def __init__(self, bias_hPN: Tensor) -> None:
        self._bias_hPN = bias_hPN.contiguous()
        self._room_mhPN = bias_hPN.new_empty(0, *bias_hPN.shape)

    @contextlib.contextmanager
    def of(self, num_windows: int, masks: Mapping[int, Tensor]) -> Iterator[Tensor]:
        """Give what is added to scores: (1, h, P, N), or (m, h, P, N) with masks."""
        if not masks:
            yield self._bias_hPN[None]
            return
        if num_windows > len(self._room_mhPN):
            self._room_mhPN = self._bias_hPN.repeat(num_windows, 1, 1, 1)
        bias_mhPN = self._room_mhPN[:num_windows]
        for index, mask_PN in masks.items():
            bias_mhPN[index] += mask_PN
        yield bias_mhPN
        for index in masks:
            bias_mhPN[index] = self._bias_hPN
