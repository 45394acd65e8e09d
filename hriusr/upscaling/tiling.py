"""Upscale a picture of any size through tiles: the whole picture is never on the network's device.

Tiles are cut as tile_plan.py says, run as tile_runner.py says, and joined here: tiles of one row fade into each other
to a strip, strips fade into each other to finished rows. A fade is a cosine ramp between two values, so the weights
sum to 1 at every pixel, the picture's own border included, and two tiles that agree give exactly their value.

Finished rows come out from top to bottom (`upscale_rows`), so no more than one strip of the result need be in memory.

Shapes: B pictures, C channels, H W pixels
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from hriusr.errors import HriusrError
from hriusr.upscaling.tile_plan import AxisPlan, default_overlap, network_alignment, plan_axis
from hriusr.upscaling.tile_runner import TileRunner, evaluating

Progress = Callable[[int, int], None]


def _ramp(length: int) -> Tensor:
    """Return (length) weights rising smoothly from near 0 to near 1, w[k] + w[-1 - k] = 1."""
    position = (torch.arange(length, dtype=torch.float64) + 0.5) / max(length, 1)
    return (0.5 - 0.5 * torch.cos(math.pi * position)).float()


def _join_columns(strip: Tensor, tile: Tensor, columns: AxisPlan, index: int, scale: int) -> None:
    """Put a tile's result into its strip, fading from the tile on its left."""
    origin = columns.origins[index] * scale
    start, stop = (pixel * scale for pixel in columns.kept(index))
    if index > 0:
        fade_stop = columns.zones[index - 1][1] * scale
        old, new = strip[..., start:fade_stop], tile[..., start - origin : fade_stop - origin]
        strip[..., start:fade_stop] = torch.lerp(old, new, _ramp(fade_stop - start).to(strip.device))
        start = fade_stop
    strip[..., start:stop] = tile[..., start - origin : stop - origin]


def _join_rows(strips: Iterator[Tensor], rows: AxisPlan, scale: int) -> Iterator[tuple[int, Tensor]]:
    """Fade each strip into the next; yield (first row, finished rows)."""
    previous = None  # the rows of the last zone, as the strip above sees them
    for index, strip in enumerate(strips):
        origin = rows.origins[index] * scale
        start, stop = (row * scale for row in rows.kept(index))
        if previous is not None:
            fade = strip[..., start - origin : start - origin + previous.shape[-2], :]
            fade.copy_(torch.lerp(previous, fade, _ramp(previous.shape[-2]).to(strip.device)[:, None]))
        finished = rows.zones[index][0] * scale if index < len(rows.zones) else stop
        previous = strip[..., finished - origin : stop - origin, :].clone()
        yield start, strip[..., start - origin : finished - origin, :]


def _cut(lr_BCHW: Tensor, rows: AxisPlan, columns: AxisPlan) -> Iterator[Tensor]:
    for top in rows.origins:
        for left in columns.origins:
            yield lr_BCHW[..., top : top + rows.tile, left : left + columns.tile]


def _run_plan(
    runner: TileRunner, lr_BCHW: Tensor, rows: AxisPlan, columns: AxisPlan, progress: Progress | None
) -> Iterator[tuple[int, Tensor]]:
    """Run all tiles of a plan, row by row; yield (first row, finished rows)."""
    scale, count = runner.scale, len(rows.origins) * len(columns.origins)
    results = runner.run(_cut(lr_BCHW, rows, columns))

    def strips() -> Iterator[Tensor]:
        for row in range(len(rows.origins)):
            shape = (*lr_BCHW.shape[:2], rows.tile * scale, columns.size * scale)
            strip = torch.empty(shape, dtype=torch.float32, device=runner.output_device)
            for column in range(len(columns.origins)):
                _join_columns(strip, next(results), columns, column, scale)
                if progress is not None:
                    progress(row * len(columns.origins) + column + 1, count)
            yield strip

    yield from _join_rows(strips(), rows, scale)


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
        for start, finished in _run_plan(runner, tile_1CHW, rows, columns, None):
            sr_1CHW[..., start : start + finished.shape[-2], :] = finished
        return sr_1CHW

    return compute


def upscale_rows(
    network: nn.Module,
    lr_BCHW: Tensor,
    *,
    scale: int,
    tile_size: int | None,
    tile_overlap: int | None = None,
    batch_size: int = 1,
    device: torch.device | str | None = None,
    output_device: torch.device | str = "cpu",
    blend: int | None = None,
    alignment: int | None = None,
    precision: str = "fp32",
    progress: Progress | None = None,
) -> Iterator[tuple[int, Tensor]]:
    """Upscale through tiles and yield finished rows from top to bottom; arguments as for tile_upscale.

    Yields:
        (first row, rows (B, C, n, W * scale) float32). The rows are valid until the next step of the iterator.
    """
    if lr_BCHW.ndim != 4 or 0 in lr_BCHW.shape:
        raise ValueError(f"lr_BCHW (shape {tuple(lr_BCHW.shape)}) must have 4 dimensions, none of them 0")
    alignment = network_alignment(network) if alignment is None else alignment
    tile_overlap = default_overlap(alignment) if tile_overlap is None else tile_overlap
    rows, columns = (
        plan_axis(size, tile_size, tile_overlap, blend=blend, alignment=alignment) for size in lr_BCHW.shape[-2:]
    )
    if device is None:
        parameter = next(network.parameters(), None)
        device = lr_BCHW.device if parameter is None else parameter.device
    longest = max(lr_BCHW.shape[-2:])
    runner = TileRunner(
        network,
        scale=scale,
        device=torch.device(device),
        output_device=torch.device(output_device),
        precision=precision,
        batch_size=batch_size,
        compute_in_parts=_compute_in_parts(tile_size or longest, tile_overlap, blend, alignment),
    )
    with evaluating(network):
        yield from _run_plan(runner, lr_BCHW, rows, columns, progress)


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
    progress: Progress | None = None,
) -> Tensor:
    """Upscale pictures of any size through overlapping tiles that fade into each other.

    Without gradients and in evaluation mode; the network's own mode is restored.

    Args:
        network: maps (N, C, h, w) to (N, C, h * scale, w * scale) for any h, w >= 1.
        lr_BCHW: pictures, range 0..1, on any device.
        scale: the network's enlargement.
        tile_size: a tile's own pixels (HAT's `tile_size`), on either axis; a tile reads up to
            tile_size + 2 * tile_overlap + alignment - 1. None: the whole picture at once.
        tile_overlap: low-resolution pixels that a tile reads beyond its own on each side (HAT's `tile_pad`). Default:
            see default_overlap. Where the network sees no farther than tile_overlap - blend pixels, the result
            equals that of the whole picture.
        batch_size: tiles at once. Halved when memory runs out, then tiles are cut smaller.
        device: where the network is; default: where its parameters are.
        output_device: where the result is put together.
        out: an array to write to instead of a new one, (B, C, H * scale, W * scale) float32, for instance a
            numpy.memmap.
        blend: half the width of a fade in low-resolution pixels; default tile_overlap // 2.
        alignment: tile origins are multiples of this; default: the network's `size_multiple` or `window_size`, or 1.
        precision: fp32, or bf16 / fp16 autocast, in which a tile that is not finite is computed again in fp32.
        progress: called as progress(finished tiles, all tiles) after each tile.

    Returns:
        Upscaled pictures (B, C, H * scale, W * scale) float32 on output_device, not clamped; shares memory with `out`.

    Raises:
        ValueError: a number is out of range, `out` has another shape, or the network another scale.
        HriusrError: not enough memory for the smallest tile, or the result is not finite even in float32.
    """
    shape = (*lr_BCHW.shape[:2], lr_BCHW.shape[-2] * scale, lr_BCHW.shape[-1] * scale)
    if out is None:
        sr_BCHW = torch.empty(shape, dtype=torch.float32, device=output_device)
    else:
        sr_BCHW = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
        if tuple(sr_BCHW.shape) != shape:
            raise ValueError(f"out (shape {tuple(sr_BCHW.shape)}) must have shape {shape}")
        output_device = sr_BCHW.device
    for start, rows in upscale_rows(
        network,
        lr_BCHW,
        scale=scale,
        tile_size=tile_size,
        tile_overlap=tile_overlap,
        batch_size=batch_size,
        device=device,
        output_device=output_device,
        blend=blend,
        alignment=alignment,
        precision=precision,
        progress=progress,
    ):
        sr_BCHW[..., start : start + rows.shape[-2], :] = rows
    return sr_BCHW
