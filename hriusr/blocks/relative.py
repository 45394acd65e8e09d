"""Relative tables: one learned entry an offset between a target cell o and a source cell i of the same window.

Per axis, with source side w, target side p, u = max(p // w, 1), e = max(w // p, 1), the table has
T = 2 max(w, p) - max(u, e) entries and the pair (o, i) reads entry e o + u (w - 1 - i).
Equal sides give Swin's o - i + w - 1 (arXiv:2103.14030). A source window that overlaps its neighbours (HAT's OCAB)
keeps the target's pixel pitch: u = e = 1, T = w + p - 1.

A pair table is read as a sliding window over the flipped table: a view of the live parameter, so that its gradient
needs no scatter and no index can go stale.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class AxisGeometry:
    """How the offsets of one axis map to table entries.

    Args:
        source: cells of a source window along the axis.
        target: cells of a target window along the axis; a multiple or a divisor of source.
        is_overlap: the source window is larger because it overlaps its neighbours; any sides with source >= target.
    """

    source: int
    target: int
    is_overlap: bool = False

    def __post_init__(self) -> None:
        if self.is_overlap:
            if not 1 <= self.target <= self.source:
                raise ValueError(
                    f"an overlapping window (side {self.source}) must hold its target (side {self.target})"
                )
        elif self.source < 1 or self.target < 1 or max(self.source, self.target) % min(self.source, self.target):
            raise ValueError(
                f"window side {self.source} cannot be imprinted onto {self.target}: "
                "one must be a whole multiple of the other"
            )

    @property
    def target_stride(self) -> int:
        """Entries between neighbouring target cells (e)."""
        return 1 if self.is_overlap else max(self.source // self.target, 1)

    @property
    def source_stride(self) -> int:
        """Entries between neighbouring source cells (u)."""
        return 1 if self.is_overlap else max(self.target // self.source, 1)

    @property
    def table_size(self) -> int:
        """Entries of the table (T)."""
        if self.is_overlap:
            return self.source + self.target - 1
        return 2 * max(self.source, self.target) - max(self.source_stride, self.target_stride)

    def index(self, target: int, source: int) -> int:
        """Entry that the pair of a target and a source cell reads."""
        return self.target_stride * target + self.source_stride * (self.source - 1 - source)

    def pairs(self, table: Tensor, dim: int) -> Tensor:
        """Read the table for all pairs of an axis.

        Args:
            table: any shape with T entries along `dim`.
            dim: the axis of the entries, counted from the front.

        Returns:
            The table with (target) in place of its entries and (source) as a new last axis.
        """
        span = self.source_stride * (self.source - 1) + 1
        # Flipped, entry T-1 - index(o, i) = e (p-1-o) + u i: windows with step e, counted backwards by o.
        windows = table.flip(dim).unfold(dim, span, self.target_stride)[..., :: self.source_stride]
        return windows.flip(dim)


def pair_table(table_hYXd: Tensor, rows: AxisGeometry, columns: AxisGeometry) -> Tensor:
    """Read a full table for all pairs of cells.

    Args:
        table_hYXd: entries a head and offset, Y and X the table sizes of the two axes.
        rows: geometry of the vertical axis.
        columns: geometry of the horizontal axis.

    Returns:
        pairs_hPNd, cells row-major.
    """
    pairs = columns.pairs(rows.pairs(table_hYXd, 1), 2)  # h, oy, ox, d, iy, ix
    return pairs.permute(0, 1, 2, 4, 5, 3).flatten(3, 4).flatten(1, 2)
