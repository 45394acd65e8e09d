"""HRIU, the Hyperbolic Relative Imprinting Unit: window attention with learned relative queries and keys.

    y[o,h] = sum_i renorm_i(s)[o,h,i] v[i],   out = Linear(concat_h y),   s as in relative_scores.py

With equal source and target windows all terms are there. With different ones the target cells have no queries, so only
imprinting (learned relative queries against keys) is left; it can shrink or grow a map by any whole ratio.
`HRIU(terms="a")` is Swin's window attention.

Shapes: B batch, C channels, H W pixels, M windows, h heads, d head channels, N source and P target cells of a window.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import (
    MASKED,
    attend,
    computing_dtype,
    in_parts,
    take,
)
from hriusr.blocks.cpu_attention_grad import CpuAttention
from hriusr.blocks.cpu_attention_plan import AttentionPlan, RelativeTables, runs_by_parts
from hriusr.blocks.linear import Linear
from hriusr.blocks.relative import AxisGeometry
from hriusr.blocks.relative_scores import TERMS, PreparedTables, RelativeScores, ScoreParts, check_terms
from hriusr.blocks.residual import Residual
from hriusr.blocks.window_map import map_windows
from hriusr.blocks.windows import ShiftRegions, pair, roll_windows, window_merge, window_partition

RENORMS = ("softmax", "l2")


class Memory(NamedTuple):
    """Keys and values of each window, for a decoder over the same grid of windows."""

    k1: Tensor | None  # (M, h, N, d) keys of attention, with term a
    k3: Tensor | None  # (M, h, N, d) keys of imprinting, with term m
    value: Tensor  # (M, h, N, d)
    valid_MN: Tensor | None  # 1 for keys that count; None when all do


class HRIU(nn.Module):
    """Window attention whose score joins attention, involution, imprinting and a relative bias."""

    takes_residual = True

    def __init__(
        self,
        dim: int,
        num_heads: int,
        window_size: int | tuple[int, int],
        target_size: int | tuple[int, int] | None = None,
        *,
        out_dim: int | None = None,
        head_dim: int | None = None,
        terms: str | None = None,
        tables: str = "axial",
        renorm: str = "softmax",
        shift_size: int = 0,
        dropout: float = 0.0,
        with_memory: bool = False,
    ) -> None:
        """Build the unit.

        Args:
            dim: channels in.
            num_heads: attention heads.
            window_size: side of a source window, or (height, width), pixels of the map.
            target_size: side of the window it becomes, or (height, width); None for the same. Each axis is a whole
                multiple or fraction of the source's.
            out_dim: channels out; None for dim.
            head_dim: channels of a head; None for dim / num_heads.
            terms: letters of the score, out of "anm"; None for all, or "m" when the windows differ.
            tables: relative tables, see blocks/relative_scores.py: "axial", "crossed" (the cheapest) or "full".
            renorm: "softmax", or "l2" (signed weights t / (||t|| + 1)).
            shift_size: source pixels that windows are moved down and right by; what the target moves must be whole.
            dropout: share of keys left out at random, a window and step, in training.
            with_memory: decoder: attend to the windows of a Memory too, with queries and tables of their own.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        super().__init__()
        if head_dim is None and dim % num_heads:
            raise ValueError(f"dim (={dim}) must be divisible by num_heads (={num_heads}), or head_dim be given")
        self.source_size = pair(window_size)
        self.target_size = self.source_size if target_size is None else pair(target_size)
        if min(self.source_size) < 1:
            raise ValueError(f"window_size (={window_size}) must be at least 1")
        self.is_resizing = self.source_size != self.target_size
        self.terms = _checked_terms(terms, self.is_resizing)
        if renorm not in RENORMS:
            raise ValueError(f"renorm (={renorm!r}) must be one of {', '.join(RENORMS)}")
        self.source_shift, self.target_shift = self._checked_shift(shift_size)
        self.num_heads = num_heads
        self.head_dim = dim // num_heads if head_dim is None else head_dim
        self.renorm = renorm
        self.dropout = dropout
        axes = [AxisGeometry(s, t) for s, t in zip(self.source_size, self.target_size, strict=True)]
        self.scores = RelativeScores(num_heads, self.head_dim, *axes, self.terms, tables)
        self.memory_scores = None
        query_parts = ["q1"] * ("a" in self.terms) + ["q2"] * ("n" in self.terms)
        key_parts = ["k1"] * ("a" in self.terms) + ["k3"] * ("m" in self.terms)
        self.parts = [*query_parts, *key_parts, "value"]
        if with_memory:
            self.memory_scores = RelativeScores(num_heads, self.head_dim, *axes, self.terms, tables)
            self.parts += [f"memory_{name}" for name in query_parts]
        self.plan = AttentionPlan(
            (tuple(self.parts),), num_heads, self.head_dim, *axes, self.scores.scale, self.scores.is_crossed
        )
        inner_dim = num_heads * self.head_dim
        self.project_in = Linear(dim, inner_dim * len(self.parts))
        self.project_out = Linear(inner_dim, dim if out_dim is None else out_dim)
        has_shift = any(self.source_shift)
        self.regions = ShiftRegions(self.source_size, self.source_shift, self.target_size) if has_shift else None

    def forward(
        self,
        x_BHWC: Tensor,
        valid_BHW: Tensor | None = None,
        memory: Memory | None = None,
        *,
        residual: Residual | None = None,
    ) -> Tensor:
        """Attend inside windows.

        Args:
            x_BHWC: features of any size; what is missing to whole windows is padded and masked.
            valid_BHW: 1 for cells that count as keys, 0 for others; None when all count.
            memory: keys and values for a unit built with_memory.
            residual: what to do around that, where in and out have the same shape; None for nothing.

        Returns:
            y_BHWC: (B, ceil(H p / w), ceil(W p / w), out_dim). A cell without any key gets the output's bias.
        """
        if (memory is not None) != (self.memory_scores is not None):
            raise ValueError("memory must be given to a unit built with_memory=True, and to no other")
        is_plain = valid_BHW is None and memory is None and not (self.training and self.dropout)
        is_whole = all(size % side == 0 for size, side in zip(x_BHWC.shape[1:3], self.source_size, strict=True))
        if runs_by_parts(x_BHWC) and is_plain and is_whole and self.renorm == "softmax":
            return self._run_in_parts(x_BHWC, residual)
        n_BHWC = x_BHWC if residual is None else residual.before(x_BHWC)
        y_BHWC = self._run(n_BHWC, valid_BHW, memory)[0]
        return y_BHWC if residual is None else residual.after(y_BHWC, x_BHWC)

    def encode(self, x_BHWC: Tensor, valid_BHW: Tensor | None = None) -> tuple[Tensor, Memory]:
        """Attend as forward does, and return the keys and values for a decoder too."""
        return self._run(x_BHWC, valid_BHW, None, keeps_memory=True)

    def _run_in_parts(self, x_BHWC: Tensor, residual: Residual | None) -> Tensor:
        """Do what _run does for whole, valid windows, some at a time: what lies between stays in the cache."""
        grid = (x_BHWC.shape[1] // self.source_size[0], x_BHWC.shape[2] // self.source_size[1])
        tables = RelativeTables(*self.scores.prepare_by_column(computing_dtype(x_BHWC)))
        attend = CpuAttention(self.plan, tables, self.regions, grid)

        def attend_cells(x_MNC: Tensor, numbers: range) -> Tensor:
            return self.project_out(attend([self.project_in(x_MNC)], numbers))

        return map_windows(
            x_BHWC,
            self.source_size,
            self.source_shift,
            attend_cells,
            residual,
            target_size=self.target_size,
            windows_at_once=attend.windows_at_once,
        )

    def _project(self, x_MNC: Tensor) -> dict[str, Tensor]:
        """Return the parts by name, (M, h, N, d) each."""
        projected = self.project_in(x_MNC).unflatten(-1, (len(self.parts), self.num_heads, self.head_dim))
        return dict(zip(self.parts, projected.permute(2, 0, 3, 1, 4).unbind(0), strict=True))

    def _run(
        self, x_BHWC: Tensor, valid_BHW: Tensor | None, memory: Memory | None, keeps_memory: bool = False
    ) -> tuple[Tensor, Memory | None]:
        height, width = x_BHWC.shape[1:3]
        x_BHWC, valid_BHW = _pad_to_windows(x_BHWC, valid_BHW, self.source_size)
        grid = (x_BHWC.shape[1] // self.source_size[0], x_BHWC.shape[2] // self.source_size[1])
        x_MNC = window_partition(roll_windows(x_BHWC, self.source_shift, -1), self.source_size)
        valid_MN = None
        if valid_BHW is not None:
            valid_BHW1 = roll_windows(valid_BHW.unsqueeze(-1), self.source_shift, -1)
            valid_MN = window_partition(valid_BHW1, self.source_size).squeeze(-1).to(x_MNC.dtype)
        dtype = computing_dtype(x_MNC)
        tables = self.scores.prepare(dtype)
        if keeps_memory or memory is not None or self.scores.tables == "full":
            # full tables are far larger than the scores of a window: read once, not once a part
            y_MPC, own = self._attend_windows(x_MNC, valid_MN, memory, tables, grid, None)
        else:
            own, scores_per_window = None, self.num_heads * len(self.scores.target_one_hot_Pt) * x_MNC.shape[1]

            def attend_part(part: slice | None) -> Tensor:
                return self._attend_windows(take(x_MNC, part), take(valid_MN, part), None, tables, grid, part)[0]

            y_MPC = in_parts(attend_part, x_MNC.shape[0], scores_per_window, dtype, x_MNC.device)

        map_size = (grid[0] * self.target_size[0], grid[1] * self.target_size[1])
        y_BHWC = roll_windows(window_merge(y_MPC, self.target_size, *map_size), self.target_shift, 1)
        out_height, out_width = self.output_size(height, width)
        if (out_height, out_width) != map_size and not torch.compiler.is_exporting():
            y_BHWC = y_BHWC[:, :out_height, :out_width]
        return y_BHWC, own

    def _attend_windows(
        self,
        x_MNC: Tensor,
        valid_MN: Tensor | None,
        memory: Memory | None,
        tables: PreparedTables,
        grid: tuple[int, int],
        part: slice | None,
    ) -> tuple[Tensor, Memory]:
        """Attend in some windows, those of `part` of the batch (None: all); return y_MPC, and their keys and values."""
        parts = self._project(x_MNC)
        own = Memory(parts.get("k1"), parts.get("k3"), parts["value"], valid_MN)
        score = self.scores(parts.get("q1"), parts.get("q2"), own.k1, own.k3, tables)
        value, key_valid_MN = own.value, self._drop_keys(valid_MN, own.value)
        if memory is not None:
            queries = (parts.get("memory_q1"), parts.get("memory_q2"))
            score = _join_scores(score, self.memory_scores(*queries, memory.k1, memory.k3))
            value = torch.cat((value, memory.value), 2)
            key_valid_MN = _join_masks(key_valid_MN, memory.valid_MN, own.value, memory.value)
        y_MhPd = self._attend(score, value, key_valid_MN, grid, part)
        return self.project_out(y_MhPd.transpose(1, 2).flatten(2)), own

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size of the map that an input of height x width becomes: ceil(side * target / source)."""
        (source_y, source_x), (target_y, target_x) = self.source_size, self.target_size
        return -(-height * target_y // source_y), -(-width * target_x // source_x)

    def output_valid(self, valid_BHW: Tensor) -> Tensor:
        """Return the mask of the output: the same for equal windows, else any-valid a window.

        Windows are counted without their shift, so that masks stay put on the map.
        """
        if not self.is_resizing:
            return valid_BHW
        height, width = valid_BHW.shape[1:]
        padded = F.pad(valid_BHW, (0, -width % self.source_size[1], 0, -height % self.source_size[0]))
        any_valid_BYX = window_partition(padded.unsqueeze(-1), self.source_size).amax((1, 2))
        grid = (-1, padded.shape[1] // self.source_size[0], padded.shape[2] // self.source_size[1])
        cells = any_valid_BYX.unflatten(0, grid).repeat_interleave(self.target_size[0], 1)
        cells = cells.repeat_interleave(self.target_size[1], 2)
        out_height, out_width = self.output_size(height, width)
        return cells[:, :out_height, :out_width]

    def _attend(
        self,
        score: ScoreParts,
        value: Tensor,
        key_valid_MN: Tensor | None,
        grid: tuple[int, int],
        part: slice | None,
    ) -> Tensor:
        query, key = score.query_MhPc, score.key_MhNc
        keep_MPN = None
        if key_valid_MN is not None or (self.regions is not None and self.renorm == "l2"):
            keep_MPN = self._keep(key_valid_MN, grid, query.shape[0], key.shape[2], part)
        if self.renorm == "l2":
            return attend(query, key, value, score.bias, renorm="l2", keep_MPN=keep_MPN)
        if self.regions is not None:
            query, key = self.regions.extend(query, key, grid, MASKED, part)
        if key_valid_MN is not None:
            invalid_MhN1 = ((1 - key_valid_MN) * MASKED)[:, None, :, None].expand(-1, self.num_heads, -1, -1)
            query = F.pad(query, (0, 1), value=1.0)
            key = torch.cat((key, invalid_MhN1.to(key.dtype)), -1)
        y_MhPd = attend(query, key, value, score.bias)
        return y_MhPd if keep_MPN is None else y_MhPd * keep_MPN.amax(-1)[:, None, :, None].to(y_MhPd.dtype)

    def _keep(
        self,
        key_valid_MN: Tensor | None,
        grid: tuple[int, int],
        num_windows: int,
        num_keys: int,
        part: slice | None,
    ) -> Tensor:
        """Return keep_MPN: 1 where a key is valid and lies in the target's region."""
        num_targets = self.target_size[0] * self.target_size[1]
        if self.regions is None:
            return key_valid_MN[:, None].expand(-1, num_targets, -1)
        sides_MP4 = self.regions.batch_channels(grid, 1.0, num_windows, part)
        keep_MPN = (sides_MP4 @ self.regions.key_channels().T == 0).float()
        keep_MPN = keep_MPN.repeat(1, 1, num_keys // keep_MPN.shape[2])  # memory lies in the same windows
        return keep_MPN if key_valid_MN is None else keep_MPN * key_valid_MN[:, None]

    def _drop_keys(self, valid_MN: Tensor | None, value: Tensor) -> Tensor | None:
        """Leave out keys at random in training; the mask that came in stays as it is."""
        if not self.training or self.dropout == 0:
            return valid_MN
        num_windows, _, num_keys, _ = value.shape
        kept_MN = (torch.rand(num_windows, num_keys, device=value.device) >= self.dropout).to(value.dtype)
        return kept_MN if valid_MN is None else kept_MN * valid_MN

    def _checked_shift(self, shift_size: int) -> tuple[tuple[int, int], tuple[int, int]]:
        source_shift, target_shift = [], []
        for source, target in zip(self.source_size, self.target_size, strict=True):
            shift = shift_size if source > 1 else 0  # a window of one row cannot move by less than itself
            if not 0 <= shift < source or shift * target % source:
                raise ValueError(
                    f"shift_size (={shift_size}) must be at least 0, below the window's side (={source}) "
                    f"and move the target window (side {target}) by whole pixels"
                )
            source_shift.append(shift)
            target_shift.append(shift * target // source)
        return tuple(source_shift), tuple(target_shift)


def _checked_terms(terms: str | None, is_resizing: bool) -> str:
    if terms is None:
        return "m" if is_resizing else TERMS
    check_terms(terms)
    if is_resizing and terms != "m":
        raise ValueError(
            f"terms (={terms!r}) must be 'm' when source and target windows differ: target cells have no queries"
        )
    return terms


def _pad_to_windows(
    x_BHWC: Tensor, valid_BHW: Tensor | None, window_size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Complete the windows right and bottom with cells that do not count."""
    height, width = x_BHWC.shape[1:3]
    if torch.compiler.is_exporting():  # networks pad before; a branch on a dynamic size would not export
        return x_BHWC, valid_BHW
    pad_bottom, pad_right = -height % window_size[0], -width % window_size[1]
    if pad_bottom or pad_right:
        if valid_BHW is None:
            valid_BHW = x_BHWC.new_ones(x_BHWC.shape[:3])
        valid_BHW = F.pad(valid_BHW, (0, pad_right, 0, pad_bottom))
        x_BHWC = F.pad(x_BHWC, (0, 0, 0, pad_right, 0, pad_bottom))
    return x_BHWC, valid_BHW


def _join_scores(own: ScoreParts, memory: ScoreParts) -> ScoreParts:
    """Set two scores of the same targets side by side: each query part meets only its own keys."""
    own_channels, memory_channels = own.query_MhPc.shape[-1], memory.query_MhPc.shape[-1]
    query = torch.cat((own.query_MhPc, memory.query_MhPc), -1)
    key = torch.cat((F.pad(own.key_MhNc, (0, memory_channels)), F.pad(memory.key_MhNc, (own_channels, 0))), 2)
    return ScoreParts(query, key, torch.cat((own.bias, memory.bias), -1))


def _join_masks(own: Tensor | None, memory: Tensor | None, own_value: Tensor, memory_value: Tensor) -> Tensor | None:
    """Set the masks of two sets of keys side by side, in the order of the keys."""
    if own is None and memory is None:
        return None
    masks = [
        value.new_ones(len(value), value.shape[2]) if mask is None else mask
        for mask, value in ((own, own_value), (memory, memory_value))
    ]
    return torch.cat(masks, 1)
