"""Join the results of tiles: neighbours fade into each other, and what no later tile can change comes out at once.

A fade is a cosine ramp between two values, first along a row of tiles, then between rows of tiles. So the weights sum
to 1 at every pixel, the picture's own border included, and two tiles that agree give exactly their value.

Kept between tiles are only the pixels of open fades: the right edge of one tile and the lower edge of one row of tiles.

Shapes: B pictures, C channels, H W pixels of the result
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hriusr.upscaling.tile_plan import AxisPlan


@dataclass(frozen=True)
class Block:
    """Finished pixels of the result.

    Attributes:
        top: first row, pixels of the result.
        left: first column.
        pixels_BCHW: float32; valid until the next block.
    """

    top: int
    left: int
    pixels_BCHW: Tensor

    def place_in(self, sr_BCHW: Tensor) -> None:
        """Write the pixels where they belong."""
        height, width = self.pixels_BCHW.shape[-2:]
        sr_BCHW[..., self.top : self.top + height, self.left : self.left + width] = self.pixels_BCHW


class Blender:
    """Takes tiles row by row, left to right, and gives back blocks that together cover the picture once.

    Args:
        rows: where tiles lie vertically, pixels of the source.
        columns: where they lie horizontally.
        scale: enlargement.
        above: pixels of the fade above the first row of tiles that will come, as `below` had them; for going on.
    """

    def __init__(self, rows: AxisPlan, columns: AxisPlan, scale: int, above: Tensor | None = None):
        self._rows, self._columns, self._scale = rows, columns, scale
        self._left: Tensor | None = None
        self._above = above
        self.below: Tensor | None = None

    def add(self, row: int, column: int, tile_BCHW: Tensor) -> Block:
        """Join one tile; its tensor is changed.

        Args:
            row: number of the row of tiles.
            column: number of the tile in it.
            tile_BCHW: its result, all of it.

        Returns:
            What is finished now. After the last tile of a row, `below` holds the open fade, for all columns.
        """
        (top, end_row, bottom), (left, end_column, right) = (
            tuple(pixel * self._scale for pixel in _extent(plan, index))
            for plan, index in ((self._rows, row), (self._columns, column))
        )
        first_row, first_column = self._rows.origins[row] * self._scale, self._columns.origins[column] * self._scale
        part = tile_BCHW[..., top - first_row : bottom - first_row, left - first_column : right - first_column]
        if column > 0 and self._left is not None:
            _fade(self._left, part, -1)
        self._left = part[..., end_column - left :].clone() if end_column < right else None
        part = part[..., : end_column - left]
        if row > 0 and self._above is not None:
            _fade(self._above[..., left:end_column], part, -2)
        if end_row < bottom:
            if column == 0:
                shape = (*part.shape[:2], bottom - end_row, self._columns.size * self._scale)
                self.below = part.new_empty(shape)
            self.below[..., left:end_column] = part[..., end_row - top :, :]
        if column == len(self._columns.origins) - 1:
            self._above = self.below
        return Block(top, left, part[..., : end_row - top, :])


def _extent(plan: AxisPlan, index: int) -> tuple[int, int, int]:
    """Return first pixel of a tile's share, first of the fade at its end, past-the-end pixel of that."""
    start, stop = plan.kept(index)
    return start, plan.zones[index][0] if index < len(plan.zones) else stop, stop


def _fade(old: Tensor, part: Tensor, axis: int) -> None:
    """Let the first pixels of part, along an axis, come up from those of old."""
    length = old.shape[axis]
    new = part.narrow(axis, 0, length)
    ramp = _ramp(length).to(part.device)
    new.copy_(torch.lerp(old, new, ramp if axis == -1 else ramp[:, None]))


def _ramp(length: int) -> Tensor:
    """Return (length) weights rising smoothly from near 0 to near 1, w[k] + w[-1 - k] = 1."""
    position = (torch.arange(length, dtype=torch.float64) + 0.5) / max(length, 1)
    return (0.5 - 0.5 * torch.cos(math.pi * position)).float()
