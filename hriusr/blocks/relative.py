"""Relative tables: one learned entry an offset between a target cell o and a source cell i of the same window.

Per axis, with source side w, target side p, u = max(p // w, 1), e = max(w // p, 1), the table has
T = 2 max(w, p) - max(u, e) entries and the pair (o, i) reads entry e o + u (w - 1 - i).
Equal sides give Swin's o - i + w - 1 (arXiv:2103.14030). A source window that overlaps its neighbours (HAT's OCAB)
keeps the target's pixel pitch: u = e = 1, T = w + p - 1.

An axial term multiplies each cell's vector by all entries first; what a pair reads of the products is a view, too.
Tables of two terms are crossed where involution knows the offset of rows alone, and imprinting that of columns.

A pair table is read as a sliding window over the flipped table: a view of the live parameter, so that its gradient
needs no scatter and no index can go stale.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
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


@dataclass(frozen=True)
class RelativeTerm:
    """How involution, or imprinting, reads the products of cells with the entries of a table.

    Args:
        rows: geometry of the vertical axis.
        columns: geometry of the horizontal axis.
        is_imprinting: the products are those of source cells, and read by targets; else the other way round.
        axes: which the term's axial tables are of: 0 rows, 1 columns.
    """

    rows: AxisGeometry
    columns: AxisGeometry
    is_imprinting: bool
    axes: tuple[int, ...] = (0, 1)

    @property
    def cells(self) -> tuple[int, int]:
        """Rows and columns of the cells that have a vector."""
        return self._cells(self.is_imprinting)

    @property
    def readers(self) -> tuple[int, int]:
        """Rows and columns of the cells at the other end of a pair."""
        return self._cells(not self.is_imprinting)

    @property
    def channels(self) -> list[int]:
        """Channels that the term puts behind queries and keys, for each of its axes."""
        return [self.readers[axis] for axis in self.axes]

    def one_hots(self) -> Tensor:
        """Return (readers, channels): a one-hot of each reader's row, then of its column."""
        places = torch.meshgrid(*(torch.arange(side) for side in self.readers), indexing="ij")
        one_hots = [F.one_hot(places[axis].flatten(), self.readers[axis]) for axis in self.axes]
        return torch.cat(one_hots, 1).float()

    def axial_views(self, product_hMyxT: Tensor) -> list[Tensor]:
        """Read products as pairs do, without copying.

        Args:
            product_hMyxT: each cell (y, x) times the entries of rows and then of columns; more may follow. First in its
                storage (whose offset a compiler could not ask for).

        Returns:
            (h, M, y, x, rows) and (h, M, y, x, columns), or one of them: what a cell has for each row and column of
            readers. The entries of the table lie so that they grow with the reader: see RelativeScores.prepare.
        """
        views = []
        start = 0
        for dim, axis in ((2 + number, (self.rows, self.columns)[number]) for number in self.axes):
            # The last cell starts at entry 0, the one before it `step` entries later
            step, stride = axis.target_stride, axis.source_stride
            if self.is_imprinting:
                step, stride = stride, step
            if torch.compiler.is_exporting():
                entries = product_hMyxT[..., start : start + axis.table_size]
                views.append(_slide_by_reshaping(entries, dim, step, stride, self.readers[dim - 2]))
                start += axis.table_size
                continue
            strides = list(product_hMyxT.stride())
            offset = (start + step * (self.cells[dim - 2] - 1)) * strides[-1]
            strides[dim] -= step * strides[-1]
            strides[-1] *= stride
            sizes = [*product_hMyxT.shape[:-1], self.readers[dim - 2]]
            views.append(product_hMyxT.as_strided(sizes, strides, offset))
            start += axis.table_size
        return views

    def full_view(self, product_hxMyTx: Tensor) -> Tensor:
        """Read products with a full table as pairs do, without copying.

        Args:
            product_hxMyTx: each cell (y, x) times, for its column x, the entries of all rows (T) and of columns of
                readers; first in its storage.

        Returns:
            (h, M, y, x, rows, columns): what a cell has for each reader; entries lie as for axial_views.
        """
        step, stride = self.rows.target_stride, self.rows.source_stride
        if self.is_imprinting:
            step, stride = stride, step
        h, x, m, y, t, c = product_hxMyTx.stride()
        num_heads, num_x, num_windows, num_y, _, num_columns = product_hxMyTx.shape
        offset = step * (num_y - 1) * t
        sizes = (num_heads, num_windows, num_y, num_x, self.readers[0], num_columns)
        return product_hxMyTx.as_strided(sizes, (h, m, y - step * t, x, stride * t, c), offset)

    def _cells(self, of_sources: bool) -> tuple[int, int]:
        return (self.rows.source, self.columns.source) if of_sources else (self.rows.target, self.columns.target)


def relative_terms(
    rows: AxisGeometry, columns: AxisGeometry, *, is_crossed: bool = False
) -> tuple[RelativeTerm, RelativeTerm]:
    """Return involution and imprinting between the same cells."""
    involution_axes, imprinting_axes = ((0,), (1,)) if is_crossed else ((0, 1), (0, 1))
    return (
        RelativeTerm(rows, columns, is_imprinting=False, axes=involution_axes),
        RelativeTerm(rows, columns, is_imprinting=True, axes=imprinting_axes),
    )


def _slide_by_reshaping(product_hMyxT: Tensor, dim: int, step: int, stride: int, length: int) -> Tensor:
    """Read one axis as RelativeTerm.axial_views does, for a format that knows no strides.

    The T entries of all cells in a line, read anew as rows of T - step: entry e of cell c, which is to be
    step (cells - 1 - c) + l, lies at step (cells - 1) in row c, plus l.
    """
    x = product_hMyxT.transpose(2, 3) if dim == 2 else product_hMyxT
    num_cells, row_length = x.shape[3], x.shape[4] - step
    if num_cells > 1:  # one cell reads all that there is, and rows could be empty
        start = step * (num_cells - 1)
        x = x.flatten(3)[..., start : start + num_cells * row_length].unflatten(3, (num_cells, row_length))
    x = x[..., : stride * (length - 1) + 1 : stride]
    return x.transpose(2, 3) if dim == 2 else x
