"""How far a tiled result is from the whole picture's, where it could differ most: at crossings of seams.

Around each crossing the network is run once more on a region that reaches CONTEXT pixels farther, and what it gives
is compared with the pixels that were written. Costs a few tiles, whatever the size of the picture.

Shapes: C channels, H W pixels of the result
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
import torch

from hriusr.upscaling.blending import Block
from hriusr.upscaling.picture_rows import PictureRows
from hriusr.upscaling.tile_plan import AxisPlan
from hriusr.upscaling.tile_runner import evaluating
from hriusr.upscaling.tiling import TiledUpscale

CONTEXT = 192  # low-resolution pixels beyond what is compared
COMPARED = 8  # beyond the fade, each side
_NUM_CROSSINGS = 4


@dataclass(frozen=True)
class SeamReport:
    """What was found.

    Attributes:
        num_crossings: how many were looked at.
        max_difference: of any value, in levels of 8 bits (255 from black to white).
        mean_difference: of all values compared, likewise.
        psnr: between both, dB; None where they are equal.
        context: CONTEXT.
    """

    num_crossings: int
    max_difference: float
    mean_difference: float
    psnr: float | None
    context: int = CONTEXT

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)

    def __str__(self) -> str:
        psnr = "equal" if self.psnr is None else f"PSNR {self.psnr:.1f} dB"
        return (
            f"seams: at {self.num_crossings} crossing(s), against {self.context} pixels more of context, differences "
            f"of at most {self.max_difference:.2f} of 255, {self.mean_difference:.4f} in the mean, {psnr}"
        )


def compare_at_seams(
    tiled: TiledUpscale, rows: PictureRows, read_result: Callable[[int, int], np.ndarray]
) -> SeamReport | None:
    """Compare a result with one of larger tiles.

    Args:
        tiled: how it was computed; its means of global pools are used.
        rows: the picture.
        read_result: rows start..stop of the result -> (n, W, channels).

    Returns:
        None where there is but one tile.
    """
    if tiled.num_tiles == 1:
        return None
    scale = tiled.scale
    differences = []
    with evaluating(tiled.network), tiled.statistics.held():
        for row_span, column_span in _crossings(tiled.rows, tiled.columns):
            (first_row, last_row), (first_column, last_column) = (
                _with_context(span, plan.size, tiled.alignment)
                for span, plan in ((row_span, tiled.rows), (column_span, tiled.columns))
            )
            region_BCHW = rows.read(first_row, last_row)[..., first_column:last_column]
            sr_BCHW = torch.cat(list(tiled.run([region_BCHW])))
            top, left = (row_span[0] - first_row) * scale, (column_span[0] - first_column) * scale
            height, width = (row_span[1] - row_span[0]) * scale, (column_span[1] - column_span[0]) * scale
            block = Block(
                row_span[0] * scale, column_span[0] * scale, sr_BCHW[..., top : top + height, left : left + width]
            )
            expected_HWC = rows.to_pixels(block, scale)
            written_HWC = read_result(block.top, block.top + height)[:, block.left : block.left + width]
            differences.append(_levels(written_HWC) - _levels(expected_HWC))
    joined = np.concatenate([difference.ravel() for difference in differences])
    mean_square = float(np.mean(joined**2))
    return SeamReport(
        len(differences),
        float(np.abs(joined).max()),
        float(np.abs(joined).mean()),
        None if mean_square == 0 else 10 * math.log10(255**2 / mean_square),
    )


def _crossings(rows: AxisPlan, columns: AxisPlan) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """Return (rows, columns) spans around crossings of seams, spread over the picture."""
    crossings = list(product(_spans(rows), _spans(columns)))
    count = min(_NUM_CROSSINGS, len(crossings))
    return [crossings[(2 * number + 1) * len(crossings) // (2 * count)] for number in range(count)]


def _spans(plan: AxisPlan) -> list[tuple[int, int]]:
    """Return the spans around an axis' seams; where it has none, one in its middle."""
    zones = plan.zones or ((plan.size // 2, plan.size // 2),)
    return [(max(0, start - COMPARED), min(plan.size, stop + COMPARED)) for start, stop in zones]


def _with_context(span: tuple[int, int], size: int, alignment: int) -> tuple[int, int]:
    """Return a larger span whose ends fall on windows as the picture's do, also where it is turned or flipped."""
    start, stop = max(0, span[0] - CONTEXT), min(size, span[1] + CONTEXT)
    return start // alignment * alignment, stop + (size - stop) % alignment


def _levels(pixels_HWC: np.ndarray) -> np.ndarray:
    greatest = np.iinfo(pixels_HWC.dtype).max if pixels_HWC.dtype.kind == "u" else 1.0
    return pixels_HWC.astype(np.float64) * (255 / greatest)
