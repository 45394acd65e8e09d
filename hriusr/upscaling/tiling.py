"""Upscale a picture of any size through tiles: neither source nor result need ever be in memory as a whole.

Tiles are cut as tile_plan.py says, run as tile_runner.py says, and joined as blending.py says. What is finished comes
out block by block, in rows of tiles from top to bottom (`TiledUpscale.blocks`); the source is read a row of tiles at a
time. Where the network has global pools, their means are measured before (pooled_statistics.py).

Shapes: B pictures, C channels, H W pixels
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from hriusr.errors import HriusrError
from hriusr.upscaling.blending import Blender, Block
from hriusr.upscaling.pooled_statistics import PooledStatistics
from hriusr.upscaling.sharing import ALONE, TileSharing
from hriusr.upscaling.tile_plan import AxisPlan, default_overlap, network_alignment, plan_axis
from hriusr.upscaling.tile_runner import TileRunner, evaluating

logger = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

SAMPLED_TILES = 16  # of a picture, for the means of global pools where they need not be exact
SETTLED = 1e-5  # relative change of means below which further passes change nothing that 16 bits could show


class RowSource(Protocol):
    """A picture that is read a few rows at a time.

    Attributes:
        shape: (B, C, H, W).
    """

    shape: Sequence[int]

    def read(self, start: int, stop: int) -> Tensor:
        """Return rows (B, C, stop - start, W) float32, 0..1, in any order."""


class TensorRows:
    """A picture in memory as a RowSource."""

    def __init__(self, lr_BCHW: Tensor):
        if lr_BCHW.ndim != 4 or 0 in lr_BCHW.shape:
            raise ValueError(f"lr_BCHW (shape {tuple(lr_BCHW.shape)}) must have 4 dimensions, none of them 0")
        self.shape = lr_BCHW.shape
        self._lr_BCHW = lr_BCHW

    def read(self, start: int, stop: int) -> Tensor:
        """Return a view of the rows."""
        return self._lr_BCHW[..., start:stop, :]


@dataclass(frozen=True)
class TileSettings:
    """How a picture is cut and computed.

    Attributes:
        tile_size: a tile's own pixels (HAT's `tile_size`), on either axis; a tile reads up to tile_size +
            2 * tile_overlap + alignment - 1. None: the whole picture at once.
        tile_overlap: low-resolution pixels that a tile reads beyond its own on each side (HAT's `tile_pad`). None: see
            default_overlap. Where the network sees no farther than tile_overlap - blend pixels, the result equals that
            of the whole picture.
        batch_size: tiles at once. Halved when memory runs out, then tiles are cut smaller.
        blend: half the width of a fade in low-resolution pixels; None: tile_overlap // 2.
        alignment: tile origins are multiples of this; None: the network's `size_multiple` or `window_size`, or 1.
        precision: fp32, or bf16 / fp16 autocast, in which a tile that is not finite is computed again in fp32.
        exact_pools: measure the means of global pools from all tiles, again and again until they settle; else once,
            from SAMPLED_TILES tiles.
        cuts_further: compute a tile that does not fit into memory in parts; else that is an error.
    """

    tile_size: int | None
    tile_overlap: int | None = None
    batch_size: int = 1
    blend: int | None = None
    alignment: int | None = None
    precision: str = "fp32"
    exact_pools: bool = False
    cuts_further: bool = True


class TiledUpscale:
    """One picture on its way through a network.

    Args:
        network: maps (N, C, h, w) to (N, C, h * scale, w * scale) for any h, w >= 1; in evaluation mode meanwhile.
        source: the picture.
        scale: the network's enlargement.
        settings: tiles and precision.
        device: where the network is; None: where its parameters are.
        output_device: where results are joined.
        sharing: the processes that compute tiles together; the first one gets the blocks.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        network: nn.Module,
        source: RowSource,
        *,
        scale: int,
        settings: TileSettings,
        device: torch.device | str | None = None,
        output_device: torch.device | str = "cpu",
        sharing: TileSharing = ALONE,
    ):
        alignment = network_alignment(network) if settings.alignment is None else settings.alignment
        overlap = default_overlap(alignment) if settings.tile_overlap is None else settings.tile_overlap
        self.rows, self.columns = (
            plan_axis(size, settings.tile_size, overlap, blend=settings.blend, alignment=alignment)
            for size in source.shape[-2:]
        )
        if device is None:
            parameter = next(network.parameters(), None)
            device = "cpu" if parameter is None else parameter.device
        self.network, self.source, self.settings, self.sharing = network, source, settings, sharing
        self.scale, self.alignment = scale, alignment
        self.statistics = PooledStatistics(network, num_pictures=source.shape[0])
        self._runner = TileRunner(
            network,
            scale=scale,
            device=torch.device(device),
            output_device=torch.device(output_device),
            precision=settings.precision,
            batch_size=settings.batch_size,
            compute_in_parts=_compute_in_parts(
                settings.tile_size or max(source.shape[-2:]), overlap, settings.blend, alignment
            )
            if settings.cuts_further
            else None,
            watcher=self.statistics,
        )

    @property
    def num_tiles(self) -> int:
        """How many tiles the picture has."""
        return len(self.rows.origins) * len(self.columns.origins)

    def run(self, tiles: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the results of any tiles of one shape, as those of the picture are computed."""
        return self._runner.run(tiles)

    def measure_pools(self, progress: Progress | None = None) -> None:
        """Measure the means of the network's global pools over the whole picture; nothing to do without pools.

        Args:
            progress: called as progress(finished tiles, all tiles) after each tile of each pass.
        """
        if not self.statistics or self.num_tiles == 1:
            return
        step = 1 if self.settings.exact_pools else max(self.num_tiles // SAMPLED_TILES, 1)
        chosen = range(step // 2, self.num_tiles, step)
        num_passes = len(self.statistics.pools) + 1 if self.settings.exact_pools else 1
        batch_size, self._runner.batch_size = self._runner.batch_size, 1  # a tile's own pixels are said before it runs
        with evaluating(self.network), self.statistics.held():
            for number in range(num_passes):
                self.statistics.begin_pass()
                self.statistics.end_pass(self.sharing.add_up(lambda: self._pool_sums(chosen, progress)))
                change = self.statistics.change
                logger.debug("global pools: pass %d over %d tiles, change %s", number + 1, len(chosen), change)
                if change is not None and change < SETTLED:
                    break
        self._runner.batch_size = batch_size

    def blocks(
        self, first_row: int = 0, above: Tensor | None = None, progress: Progress | None = None
    ) -> Iterator[tuple[int, Block]]:
        """Compute tiles and yield (number of the tile, what is finished now); nothing in other processes than 0.

        Args:
            first_row: number of the row of tiles to begin with.
            above: `open_fade` after the row before, to go on with.
            progress: called as progress(finished tiles, all tiles) after each tile.
        """
        blender = Blender(self.rows, self.columns, self._runner.scale, above)
        numbers = range(first_row * len(self.columns.origins), self.num_tiles)
        with evaluating(self.network), self.statistics.held():
            results = self._runner.run(self._tiles(self.sharing.mine(numbers)))
            # closed at once when the caller stops early: the other processes wait to hear of it
            with closing(self.sharing.in_order(results, len(numbers))) as tiles:
                for number, tile in zip(numbers, tiles, strict=False):
                    block = blender.add(*divmod(number, len(self.columns.origins)), tile)
                    self.open_fade = blender.below
                    if progress is not None:
                        progress(number + 1, self.num_tiles)
                    yield number, block

    def _pool_sums(self, chosen: range, progress: Progress | None) -> list[tuple[Tensor, Tensor]]:
        """Run this process's share of the chosen tiles for the sums over their own pixels."""
        num_done = 0
        for _ in self._runner.run(self._tiles(self.sharing.mine(chosen))):
            num_done += self.sharing.count
            if progress is not None:
                progress(min(num_done, len(chosen)), len(chosen))
        return self.statistics.sums()

    def _tiles(self, numbers: range) -> Iterator[Tensor]:
        """Cut tiles; a row of them is read at once, and kept for the next."""
        row_read, strip = -1, None
        for number in numbers:
            row, column = divmod(number, len(self.columns.origins))
            if row != row_read:
                top = self.rows.origins[row]
                row_read, strip = row, self.source.read(top, top + self.rows.tile)
            self.statistics.measure_next(_own(self.rows, row), _own(self.columns, column))
            left = self.columns.origins[column]
            yield strip[..., left : left + self.columns.tile]


def _own(plan: AxisPlan, index: int) -> slice:
    """Return which cells of a tile are its own; at the picture's end with what the network pads."""
    start, stop = plan.kept(index)
    is_last = index == len(plan.origins) - 1
    blend = 0 if is_last else (plan.zones[index][1] - plan.zones[index][0]) // 2
    origin = plan.origins[index]
    first = start - origin + (0 if index == 0 else (plan.zones[index - 1][1] - plan.zones[index - 1][0]) // 2)
    return slice(first, None if is_last else stop - origin - blend)


def _compute_in_parts(
    tile_size: int, tile_overlap: int, blend: int | None, alignment: int
) -> Callable[[TileRunner, Tensor], Tensor]:
    """Return what a TileRunner does with a tile that does not fit: cut it into tiles of half its size."""

    def compute(runner: TileRunner, tile_1CHW: Tensor) -> Tensor:
        height, width = tile_1CHW.shape[-2:]
        half = min(tile_size, max(height, width)) // 2
        limit = height * width if runner.too_large is None else min(height * width, runner.too_large)
        while half >= 1:
            rows, columns = (
                plan_axis(size, half, tile_overlap, blend=blend, alignment=alignment) for size in (height, width)
            )
            if rows.tile * columns.tile < limit:
                break
            half //= 2
        else:
            raise HriusrError(
                f"out of memory with a tile of {width}x{height} pixels, which cannot be cut further with an overlap "
                f"of {tile_overlap}: free memory, or lower tile_overlap"
            )
        shape = (*tile_1CHW.shape[:2], height * runner.scale, width * runner.scale)
        sr_1CHW = torch.empty(shape, dtype=torch.float32, device=runner.output_device)
        blender = Blender(rows, columns, runner.scale)
        parts = (
            tile_1CHW[..., top : top + rows.tile, left : left + columns.tile]
            for top in rows.origins
            for left in columns.origins
        )
        for number, part in enumerate(runner.run(parts)):
            blender.add(*divmod(number, len(columns.origins)), part).place_in(sr_1CHW)
        return sr_1CHW

    return compute


def tile_upscale(
    network: nn.Module,
    lr_BCHW: Tensor,
    *,
    scale: int,
    tile_size: int | None,
    tile_overlap: int | None = None,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    output_device: torch.device | str = "cpu",
    out: Tensor | np.ndarray | None = None,
    blend: int | None = None,
    alignment: int | None = None,
    precision: str = "fp32",
    exact_pools: bool = False,
    progress: Progress | None = None,
) -> Tensor:
    """Upscale pictures in memory through overlapping tiles that fade into each other.

    Without gradients and in evaluation mode; the network's own mode is restored.

    Args:
        network: maps (N, C, h, w) to (N, C, h * scale, w * scale) for any h, w >= 1.
        lr_BCHW: pictures, range 0..1, on any device.
        scale: the network's enlargement.
        tile_size: see TileSettings, as are tile_overlap, batch_size, blend, alignment, precision and exact_pools.
        device: where the network is; default: where its parameters are.
        output_device: where the result is put together.
        out: an array to write to instead of a new one, (B, C, H * scale, W * scale) float32, for instance a
            numpy.memmap.
        progress: called as progress(finished tiles, all tiles) after each tile.

    Returns:
        Upscaled pictures (B, C, H * scale, W * scale) float32 on output_device, not clamped; shares memory with `out`.

    Raises:
        ValueError: a number is out of range, `out` has another shape, or the network another scale.
        HriusrError: not enough memory for the smallest tile, or the result is not finite even in float32.
    """
    source = TensorRows(lr_BCHW)
    shape = (*lr_BCHW.shape[:2], lr_BCHW.shape[-2] * scale, lr_BCHW.shape[-1] * scale)
    if out is None:
        sr_BCHW = torch.empty(shape, dtype=torch.float32, device=output_device)
    else:
        sr_BCHW = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
        if tuple(sr_BCHW.shape) != shape:
            raise ValueError(f"out (shape {tuple(sr_BCHW.shape)}) must have shape {shape}")
        output_device = sr_BCHW.device
    settings = TileSettings(tile_size, tile_overlap, batch_size, blend, alignment, precision, exact_pools)
    tiled = TiledUpscale(network, source, scale=scale, settings=settings, device=device, output_device=output_device)
    tiled.measure_pools()
    for _, block in tiled.blocks(progress=progress):
        block.place_in(sr_BCHW)
    return sr_BCHW
