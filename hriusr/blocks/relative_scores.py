"""The score of HRIU: attention + involution + imprinting + relative bias, for every pair of a window.

    s[o,h,i] = q1[o].k1[i] + q2[o].K2[h,o-i] + Q3[h,o-i].k3[i] + b[h,o-i]

Tables K2, Q3 are either full, one vector an offset (dy, dx), or axial, K2[o-i] = Ky[oy-iy] + Kx[ox-ix]. Axial terms
have low rank: q2[o].Kx[ox-x] for every column x, against a one-hot of the key's column, is the term itself. So they
become 2w more channels of query and key each, and the whole score is one product with a bias that all windows share.
Crossed tables are axial with half of them: K2[o-i] = Ky[oy-iy] and Q3[o-i] = Qx[ox-ix], w more channels for each term;
where one of both terms is missing they are axial.

Shapes: M windows, h heads, d head channels, P = p_y p_x target cells, N = w_y w_x source cells, c score channels,
Y, X table sizes along rows and columns.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hriusr.blocks.relative import AxisGeometry, RelativeTerm, pair_table, relative_terms

TERMS = "anm"
TABLES = ("axial", "crossed", "full")
_AXES = ("rows", "columns")


def check_terms(terms: str, name: str = "terms") -> None:
    """Refuse letters of a score that are none, or that come twice.

    Raises:
        ValueError: naming the argument, its value and what fits.
    """
    if not terms or set(terms) - set(TERMS) or len(set(terms)) != len(terms):
        raise ValueError(f"{name} (={terms!r}) must be some of the letters {TERMS!r}, each at most once")


class ScoreParts(NamedTuple):
    """Score = query . key + bias."""

    query_MhPc: Tensor
    key_MhNc: Tensor
    bias: Tensor  # (h, P, N), or (M, h, P, N) with full tables


class PreparedTables(NamedTuple):
    """Tables as the score reads them, times the scale of scores."""

    bias: Tensor  # (h, P, N)
    # (h, d, Y + X) axial; (h, d, Y) and (h, d, X) crossed; full: (h, P, N, d), or by column (h, x, d, Y x')
    involution: Tensor | None
    imprinting: Tensor | None


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
            tables: "axial", "crossed" or "full".

        Raises:
            ValueError: tables, by name.
        """
        super().__init__()
        if tables not in TABLES:
            raise ValueError(f"tables (={tables!r}) must be one of {', '.join(TABLES)}")
        self.rows, self.columns = rows, columns
        self.terms, self.tables = terms, tables
        self.is_crossed = tables == "crossed" and {"n", "m"} <= set(terms)
        self.involution_term, self.imprinting_term = relative_terms(rows, columns, is_crossed=self.is_crossed)
        self.scale = head_dim**-0.5
        num_rows, num_columns = rows.table_size, columns.table_size
        sources, targets = rows.source * columns.source, rows.target * columns.target
        self.bias_table = nn.Parameter(torch.empty(num_heads, num_rows, num_columns))
        _init_uniform(self.bias_table, sources, targets, 1)
        shapes = {"rows": (num_heads, num_rows, head_dim), "columns": (num_heads, num_columns, head_dim)}
        if tables == "full":
            shapes = {"table": (num_heads, num_rows, num_columns, head_dim)}
        for letter, name, term in self._relative():
            for part, shape in shapes.items():
                is_there = letter in terms and (tables == "full" or part in _names(term))
                table = nn.Parameter(torch.empty(shape)) if is_there else None
                if table is not None:
                    _init_uniform(table, sources, targets, head_dim)
                self.register_parameter(f"{name}_{part}", table)
        self.register_buffer("source_one_hot_Ns", self.involution_term.one_hots(), persistent=False)
        self.register_buffer("target_one_hot_Pt", self.imprinting_term.one_hots(), persistent=False)

    def _relative(self) -> tuple[tuple[str, str, RelativeTerm], ...]:
        return ("n", "involution", self.involution_term), ("m", "imprinting", self.imprinting_term)

    def relative_bias(self) -> Tensor:
        """Return bias_hPN, the learned bias of each head and pair of cells."""
        return pair_table(self.bias_table.unsqueeze(-1), self.rows, self.columns).squeeze(-1)

    def prepare(self, dtype: torch.dtype) -> PreparedTables:
        """Read the tables, scaled, for any number of calls of forward: the work that all windows share.

        Args:
            dtype: of queries and keys.
        """
        tables = {}
        for letter, name, term in self._relative():
            if letter not in self.terms:
                continue
            if self.tables == "full":
                scaled = (getattr(self, f"{name}_table") * self.scale).to(dtype)
                tables[letter] = pair_table(scaled, self.rows, self.columns)
            else:
                axes = [getattr(self, f"{name}_{axis}") for axis in _names(term)]
                # Flipped, entry T-1 - index(o, i) = e (p-1-o) + u i: it grows with i, as imprinting's grows with o
                table_hTd = torch.cat([axis.flip(1) for axis in axes] if letter == "n" else axes, 1)
                tables[letter] = (table_hTd * self.scale).to(dtype).transpose(1, 2)
        return PreparedTables(self.relative_bias().to(dtype), tables.get("n"), tables.get("m"))

    def prepare_by_column(self, dtype: torch.dtype) -> PreparedTables:
        """Read the tables for blocks/cpu_attention.py, scaled; axial ones as prepare does.

        Args:
            dtype: of queries and keys.

        Returns:
            Full tables as (h, x, d, Y x'): for each column x of cells with a vector all rows of the table, and the
            columns x' of those that read it; rows lie so that they grow with the reader.
        """
        if self.tables != "full":
            return self.prepare(dtype)
        tables = {}
        for letter, name, _ in self._relative():
            if letter in self.terms:
                table_hYXd = getattr(self, f"{name}_table") * self.scale
                pairs_hYode = self.columns.pairs(table_hYXd, 2)  # o target column, e source column
                order = (0, 2, 3, 1, 4) if letter == "n" else (0, 4, 3, 1, 2)
                pairs_hYode = pairs_hYode.flip(1) if letter == "n" else pairs_hYode
                tables[letter] = pairs_hYode.permute(order).flatten(3).to(dtype).contiguous()
        return PreparedTables(self.relative_bias().to(dtype), tables.get("n"), tables.get("m"))

    def forward(
        self,
        q1: Tensor | None,
        q2: Tensor | None,
        k1: Tensor | None,
        k3: Tensor | None,
        prepared: PreparedTables | None = None,
    ) -> ScoreParts:
        """Turn queries and keys into factors of the score.

        Args:
            q1: (M, h, P, d) queries of attention, with term a.
            q2: (M, h, P, d) queries of involution, with term n.
            k1: (M, h, N, d) keys of attention, with term a.
            k3: (M, h, N, d) keys of imprinting, with term m.
            prepared: what prepare returned; None: prepared here.
        """
        source = next(x for x in (k1, k3, q1, q2) if x is not None)  # without a and m the windows are equal
        dtype, shape = source.dtype, source.shape[:2]
        bias, involution, imprinting = self.prepare(dtype) if prepared is None else prepared
        queries, keys = [], []
        if "a" in self.terms:
            queries.append(q1 * self.scale)
            keys.append(k1)
        if "n" in self.terms:
            if self.tables != "full":
                queries += _read(q2, involution, self.involution_term)
                keys.append(self.source_one_hot_Ns.to(dtype).expand(*shape, -1, -1))
            else:
                bias = bias + torch.einsum("mhpd,hpnd->mhpn", q2, involution)
        if "m" in self.terms:
            if self.tables != "full":
                queries.append(self.target_one_hot_Pt.to(dtype).expand(*shape, -1, -1))
                keys += _read(k3, imprinting, self.imprinting_term)
            else:
                bias = bias + torch.einsum("mhnd,hpnd->mhpn", k3, imprinting)
        if not queries:  # only full relative terms: a product of nothing
            queries.append(bias.new_zeros(*shape, self.rows.target * self.columns.target, 1))
            keys.append(bias.new_zeros(*shape, self.rows.source * self.columns.source, 1))
        return ScoreParts(_join(queries), _join(keys), bias)


def _read(x_MhNd: Tensor, table_hdT: Tensor, term: RelativeTerm) -> list[Tensor]:
    """Score each cell against each row (M, h, N, rows), each column (M, h, N, columns), of the cells that read it.

    One product with the whole table, and then strided views: nothing is gathered, so the gradient needs no scatter.
    """
    product = torch.bmm(x_MhNd.transpose(0, 1).flatten(1, 2), table_hdT)
    views = term.axial_views(product.unflatten(1, (x_MhNd.shape[0], *term.cells)))
    return [view.transpose(0, 1).flatten(2, 3) for view in views]


def _names(term: RelativeTerm) -> list[str]:
    return [_AXES[axis] for axis in term.axes]


def _join(channels: list[Tensor]) -> Tensor:
    return channels[0] if len(channels) == 1 else torch.cat(channels, -1)


def _init_uniform(table: Tensor, sources: int, targets: int, vector_size: int) -> None:
    """Draw a slice of a relative table from U(-b, b), b = sqrt(6 / (N v + P)), as HRIU-net does."""
    bound = math.sqrt(6 / (sources * vector_size + targets))
    nn.init.uniform_(table, -bound, bound)
