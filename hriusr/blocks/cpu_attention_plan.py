"""What window attention on a CPU is told: parts of the projections, cells, relative tables, windows at a time.

Shapes: see blocks/cpu_attention.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from hriusr.blocks.relative import AxisGeometry, RelativeTerm, relative_terms

_CHUNK_BYTES = 3 << 19  # scores computed at a time: they stay near a core


@dataclass(frozen=True)
class AttentionPlan:
    """What the projections hold and how offsets are read.

    Args:
        parts: what each projection holds, in order: "q1", "q2" at the targets, "k1", "k3", "value" at the sources;
            "q1 q2" is one query for both. q1 and k1 come together; "value" is always there.
        num_heads: h.
        head_dim: d.
        rows: geometry along the vertical axis.
        columns: geometry along the horizontal axis.
        scale: what q1.k1 is multiplied by; tables come scaled.
        is_crossed: axial tables of involution are of rows alone, those of imprinting of columns.
    """

    parts: tuple[tuple[str, ...], ...]
    num_heads: int
    head_dim: int
    rows: AxisGeometry
    columns: AxisGeometry
    scale: float
    is_crossed: bool = False

    @cached_property
    def terms(self) -> dict[int, RelativeTerm]:
        """Return involution and imprinting by their numbers."""
        return dict(zip(TERMS, relative_terms(self.rows, self.columns, is_crossed=self.is_crossed), strict=True))

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
        places = (((t, k), part) for t, parts in enumerate(self.parts) for k, part in enumerate(parts))
        return {name: place for place, part in places for name in part.split()}

    def split(self, projections: Sequence[Tensor]) -> dict[str, Tensor]:
        """View projections as (m, cells, h, d) by name."""
        by_part = [x.unflatten(-1, (-1, self.num_heads, self.head_dim)).unbind(2) for x in projections]
        return {name: by_part[t][k] for name, (t, k) in self.where.items()}

    def windows_at_once(self, itemsize: int) -> int:
        """Return how many windows are computed at a time (m)."""
        return max(_CHUNK_BYTES // (itemsize * self.num_heads * self.num_targets * self.num_sources), 1)


class RelativeTables(NamedTuple):
    """Tables as RelativeScores.prepare_by_column gives them: scaled; (h, d, T) axial, (h, x, d, Y x') full."""

    bias_hPN: Tensor
    involution: Tensor | None = None
    imprinting: Tensor | None = None

    def axial(self, number: int) -> Tensor | None:
        """Return a table if it is there and axial; 1 involution, 2 imprinting."""
        return None if self[number] is None or self[number].dim() == 4 else self[number]

    def full(self, number: int) -> Tensor | None:
        """Return a table if it is there and full."""
        return None if self[number] is None or self[number].dim() == 3 else self[number]


TERMS = (1, 2)  # involution and imprinting, as numbers of RelativeTables
PARTS = {1: "q2", 2: "k3"}


def runs_by_parts(x: Tensor) -> bool:
    """Whether attention over such a tensor goes through here: on a CPU, eagerly."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()
