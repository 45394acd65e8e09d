"""The score of HRIU: attention + involution + imprinting + relative bias, for every pair of a window.

    s[o,h,i] = q1[o].k1[i] + q2[o].K2[h,o-i] + Q3[h,o-i].k3[i] + b[h,o-i]

Tables K2, Q3 are either full, one vector an offset (dy, dx), or axial, K2[o-i] = Ky[oy-iy] + Kx[ox-ix]. Axial terms
have low rank: q2[o].Kx[ox-x] for every column x, against a one-hot of the key's column, is the term itself. So they
become 2w more channels of query and key each, and the whole score is one product with a bias that all windows share.

Shapes: M windows, h heads, d head channels, P = p_y p_x target cells, N = w_y w_x source cells, c score channels,
Y, X table sizes along rows and columns.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hriusr.blocks.relative import AxisGeometry, pair_table

TERMS = "anm"
TABLES = ("axial", "full")


class ScoreParts(NamedTuple):
    """Score = query . key + bias."""

    query_MhPc: Tensor
    key_MhNc: Tensor
    bias: Tensor  # (h, P, N), or (M, h, P, N) with full tables


class RelativeScores(nn.Module):
    """One set of relative tables and what it makes of queries and keys."""

    def __init__(
        self,
        num_heads: int,
        head_dim: int,
        rows: AxisGeometry,
        columns: AxisGeometry,
        terms: str = TERMS,
        tables: str = "axial",
    ) -> None:
        """Build the tables.

        Args:
            num_heads: attention heads.
            head_dim: channels of a head.
            rows: geometry along the vertical axis.
            columns: geometry along the horizontal axis.
            terms: any of the letters a (attention), n (involution), m (imprinting); the bias is always there.
            tables: "axial" or "full".
        """
        super().__init__()
        self.rows, self.columns = rows, columns
        self.terms, self.tables = terms, tables
        self.scale = head_dim**-0.5
        num_rows, num_columns = rows.table_size, columns.table_size
        sources, targets = rows.source * columns.source, rows.target * columns.target
        self.bias_table = nn.Parameter(torch.empty(num_heads, num_rows, num_columns))
        _init_uniform(self.bias_table, sources, targets, 1)
        shapes = {
            "axial": {"rows": (num_heads, num_rows, head_dim), "columns": (num_heads, num_columns, head_dim)},
            "full": {"table": (num_heads, num_rows, num_columns, head_dim)},
        }[tables]
        for letter, name in (("n", "involution"), ("m", "imprinting")):
            for part, shape in shapes.items():
                table = nn.Parameter(torch.empty(shape)) if letter in terms else None
                if table is not None:
                    _init_uniform(table, sources, targets, head_dim)
                self.register_parameter(f"{name}_{part}", table)
        self.register_buffer("source_one_hot_Ns", _one_hot_cells(rows.source, columns.source), persistent=False)
        self.register_buffer("target_one_hot_Pt", _one_hot_cells(rows.target, columns.target), persistent=False)

    def relative_bias(self) -> Tensor:
        """Return bias_hPN, the learned bias of each head and pair of cells."""
        return pair_table(self.bias_table.unsqueeze(-1), self.rows, self.columns).squeeze(-1)

    def forward(self, q1: Tensor | None, q2: Tensor | None, k1: Tensor | None, k3: Tensor | None) -> ScoreParts:
        """Turn queries and keys into factors of the score.

        Args:
            q1: (M, h, P, d) queries of attention, with term a.
            q2: (M, h, P, d) queries of involution, with term n.
            k1: (M, h, N, d) keys of attention, with term a.
            k3: (M, h, N, d) keys of imprinting, with term m.
        """
        source = next(x for x in (k1, k3, q1, q2) if x is not None)  # without a and m the windows are equal
        dtype, shape = source.dtype, source.shape[:2]
        bias = self.relative_bias().to(dtype)
        queries, keys = [], []
        if "a" in self.terms:
            queries.append(q1 * self.scale)
            keys.append(k1)
        if "n" in self.terms:
            if self.tables == "axial":
                queries.append(self._involve(q2 * self.scale))
                keys.append(self.source_one_hot_Ns.to(dtype).expand(*shape, -1, -1))
            else:
                table_hPNd = pair_table(self.involution_table.to(dtype), self.rows, self.columns)
                bias = bias + torch.einsum("mhpd,hpnd->mhpn", q2 * self.scale, table_hPNd)
        if "m" in self.terms:
            if self.tables == "axial":
                queries.append(self.target_one_hot_Pt.to(dtype).expand(*shape, -1, -1))
                keys.append(self._imprint(k3 * self.scale))
            else:
                table_hPNd = pair_table(self.imprinting_table.to(dtype), self.rows, self.columns)
                bias = bias + torch.einsum("mhnd,hpnd->mhpn", k3 * self.scale, table_hPNd)
        if not queries:  # only full relative terms: a product of nothing
            queries.append(bias.new_zeros(*shape, self.rows.target * self.columns.target, 1))
            keys.append(bias.new_zeros(*shape, self.rows.source * self.columns.source, 1))
        return ScoreParts(_join(queries), _join(keys), bias)

    def _involve(self, q2_MhPd: Tensor) -> Tensor:
        """Score of each target cell against each source row, then each source column: (M, h, P, w_y + w_x)."""
        # Flipped, entry T-1 - index(o, i) = e (p-1-o) + u i: it grows with i
        tables = (self.involution_rows.flip(1), self.involution_columns.flip(1))
        products = _products(q2_MhPd, tables, (self.rows.target, self.columns.target))
        rows, columns = self.rows, self.columns
        by_row = _slide(products[0], 2, rows.target, -rows.target_stride, rows.source, rows.source_stride)
        by_column = _slide(
            products[1], 3, columns.target, -columns.target_stride, columns.source, columns.source_stride
        )
        return torch.cat((by_row, by_column), -1).permute(1, 0, 2, 3, 4).flatten(2, 3)

    def _imprint(self, k3_MhNd: Tensor) -> Tensor:
        """Score of each source cell against each target row, then each target column: (M, h, N, p_y + p_x)."""
        tables = (self.imprinting_rows, self.imprinting_columns)
        products = _products(k3_MhNd, tables, (self.rows.source, self.columns.source))
        rows, columns = self.rows, self.columns
        by_row = _slide(products[0], 2, rows.source, -rows.source_stride, rows.target, rows.target_stride)
        by_column = _slide(
            products[1], 3, columns.source, -columns.source_stride, columns.target, columns.target_stride
        )
        return torch.cat((by_row, by_column), -1).permute(1, 0, 2, 3, 4).flatten(2, 3)


def _products(x_MhNd: Tensor, tables_hTd: tuple[Tensor, ...], cells: tuple[int, int]) -> tuple[Tensor, ...]:
    """Multiply every cell by every entry of the tables: one (h, M, y, x, T) tensor a table, views of one product."""
    num_windows = x_MhNd.shape[0]
    table_hdT = torch.cat(tables_hTd, 1).to(x_MhNd.dtype).transpose(1, 2)
    product = torch.bmm(x_MhNd.transpose(0, 1).flatten(1, 2), table_hdT)
    product = product.unflatten(1, (num_windows, *cells))
    return product.split([table.shape[1] for table in tables_hTd], -1)


def _slide(product_hMyxT: Tensor, dim: int, num_cells: int, step: int, length: int, stride: int) -> Tensor:
    """Read entries start, start + stride, ... of the last axis, with a start that moves by `step` a cell of `dim`.

    The last cell starts at entry 0 (step < 0), as the geometry of relative.py has it. A strided view: nothing is
    gathered, so the gradient needs no scatter.
    """
    strides = list(product_hMyxT.stride())
    strides[dim] += step
    sizes = [*product_hMyxT.shape[:-1], length]
    offset = product_hMyxT.storage_offset() - step * (num_cells - 1)
    return product_hMyxT.as_strided(sizes, [*strides[:-1], stride], offset)


def _join(channels: list[Tensor]) -> Tensor:
    return channels[0] if len(channels) == 1 else torch.cat(channels, -1)


def _one_hot_cells(height: int, width: int) -> Tensor:
    """Return (height*width, height + width): one-hot of each cell's row, then of its column."""
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    cells = torch.zeros(height * width, height + width)
    cells[torch.arange(height * width), row.flatten()] = 1
    cells[torch.arange(height * width), height + column.flatten()] = 1
    return cells


def _init_uniform(table: Tensor, sources: int, targets: int, vector_size: int) -> None:
    """Draw a slice of a relative table from U(-b, b), b = sqrt(6 / (N v + P)), as HRIU-net does."""
    bound = math.sqrt(6 / (sources * vector_size + targets))
    nn.init.uniform_(table, -bound, bound)
