"""Upscale one picture of any size and kind: tiles planned from the memory that is free, pixels to a canvas on disk."""

import logging
import math
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hriusr import __version__
from hriusr.errors import OptionsError, WeightsError
from hriusr.pictures.source import PictureSource
from hriusr.upscaling.canvas import Canvas
from hriusr.upscaling.ensembles import network_scale
from hriusr.upscaling.fingerprint import network_fingerprint
from hriusr.upscaling.memory_plan import PROBE_SIDE, SHARE, available_bytes, bytes_per_pixel, plan_tiles
from hriusr.upscaling.onnx_backend import check_precision
from hriusr.upscaling.picture_rows import ArrayRows, PictureRows
from hriusr.upscaling.pooled_statistics import has_turned_pools, has_unheld_pools
from hriusr.upscaling.receptive_field import receptive_reach
from hriusr.upscaling.seams import SeamReport, compare_at_seams
from hriusr.upscaling.sharing import ALONE, TileSharing
from hriusr.upscaling.tile_plan import default_overlap, network_alignment
from hriusr.upscaling.tiling import TiledUpscale, TileSettings

logger = logging.getLogger(__name__)

FractionDone = Callable[[float], None]


@dataclass(frozen=True)
class TileOptions:
    """What a user may decide about tiles.

    Attributes:
        precision: fp32, bf16 or fp16; a tile that is not finite in half precision is computed again in fp32.
        tile_size: own pixels of a tile, low resolution; None: planned for each picture from free memory; 0: no tiles.
        tile_overlap: pixels read around a tile; None: two windows of the network, 16 to 32, or in exact mode as far as
            the network looks.
        batch_size: tiles at once; None: as many as fit (one on a CPU).
        exact: the result is that of the whole picture, to rounding: cut hard behind what the network can see, global
            pools measured until they settle. Slower. With tile_size 0 a picture that does not fit is an error.
    """

    precision: str = "fp32"
    tile_size: int | None = None
    tile_overlap: int | None = None
    batch_size: int | None = None
    exact: bool = False


class PictureUpscaler:
    """A network on its device, ready for pictures of any size and kind.

    Args:
        network: takes pictures of 1 or 3 channels (attribute in_chans, 3 where it has none), 0..1.
        device: where to compute; the network is moved there.
        options: tiles and precision.
        sharing: the processes that compute each picture's tiles together; each of those on this machine plans with its
            part of the memory, also for what it computes by itself.

    Raises:
        WeightsError: the network takes neither 1 nor 3 channels.
        OptionsError: a precision that an ONNX file cannot have.
        HriusrError: exact with tiles, and the network looks at the whole picture.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        device: torch.device,
        options: TileOptions | None = None,
        sharing: TileSharing = ALONE,
    ):
        self.options = options or TileOptions()
        self.network = network.to(device)
        self.device, self.sharing = device, sharing
        num_devices = torch.cuda.device_count() if device.type == "cuda" else 1
        self._num_beside = math.ceil(sharing.num_local / num_devices)  # processes that compute on this device
        self.num_channels = getattr(network, "in_chans", 3)
        if self.num_channels not in (1, 3):
            raise WeightsError(
                f"the network takes pictures of {self.num_channels} channels; upscaling needs one for 1 or 3"
            )
        check_precision(network, self.options.precision)
        self.has_unheld_pools = has_unheld_pools(network)
        if self.has_unheld_pools and self.options.exact and self.options.tile_size != 0:
            raise OptionsError(
                "exact: the network has global pools, whose means cannot be held when it is compiled or computed by "
                "onnxruntime: leave out exact, or compile and the onnx backend, or use tile_size 0"
            )
        if self.options.exact and self.options.tile_size != 0 and has_turned_pools(network):
            raise OptionsError(
                "exact: the network has global pools, whose means are held for all eight orientations of a "
                "self-ensemble together, so tiles are not exact: leave out exact, or self_ensemble, or use tile_size 0"
            )
        self.alignment = network_alignment(network)
        self.scale = network_scale(network)
        self.tile_overlap = self.options.tile_overlap
        if self.tile_overlap is None:
            is_exact = self.options.exact and self.options.tile_size != 0  # the whole picture is exact by itself
            self.tile_overlap = (
                receptive_reach(network, scale=self.scale) if is_exact else default_overlap(self.alignment)
            )
        self._pixel_bytes: float | None = None
        self._fingerprint = ""

    def identity(self) -> dict[str, Any]:
        """Return plain values that are equal for runs that give the same pixels."""
        self._fingerprint = self._fingerprint or network_fingerprint(self.network)
        facts = {"version": __version__, "network": self._fingerprint, "scale": self.scale}
        return facts | {"overlap": self.tile_overlap} | asdict(self.options)

    def upscale(self, source: PictureSource, canvas: Canvas | None, progress: FractionDone | None = None) -> None:
        """Enlarge all frames of a picture, from where the canvas says on.

        Args:
            source: the picture.
            canvas: where pixels go; only in process 0.
            progress: called with the fraction that is done, 0..1, after each tile.
        """
        position = canvas.position() if canvas is not None else None
        start = self.sharing.from_first(lambda: (position.frame, position.row))
        for frame in range(start[0], source.num_frames):
            first_row = start[1] if frame == start[0] else 0
            rows = self.sharing.together(lambda frame=frame: PictureRows(source, frame, self.num_channels))
            tiled = self._tiled(rows, canvas)
            num_rows, num_columns = len(tiled.rows.origins), len(tiled.columns.origins)
            tiled.measure_pools()
            show = None
            if progress is not None:

                def show(done: int, count: int, frame: int = frame) -> None:
                    progress((frame + done / count) / source.num_frames)

            above = position.above if position is not None and first_row else None
            with closing(tiled.blocks(first_row, above, show)) as blocks:
                for number, block in blocks:
                    canvas.write(frame, block.top, block.left, rows.to_pixels(block, self.scale))
                    row, column = divmod(number, num_columns)
                    if column == num_columns - 1 and row < num_rows - 1:
                        canvas.checkpoint(frame, row + 1, tiled.open_fade)
            if canvas is not None and num_rows * source.num_frames > 1:
                canvas.checkpoint(frame + 1, 0, None)

    def upscale_array(self, pixels_HWC: np.ndarray) -> np.ndarray:
        """Enlarge a picture in memory, (H, W, 1 to 4 channels) of 8 or 16 bits or float, by this process alone."""
        rows = PictureRows(ArrayRows(pixels_HWC), 0, self.num_channels)
        tiled = self._tiled(rows, None, ALONE)
        tiled.measure_pools()
        height, width, num_channels = pixels_HWC.shape
        result_HWC = np.empty((height * self.scale, width * self.scale, num_channels), pixels_HWC.dtype)
        for _, block in tiled.blocks():
            part_HWC = rows.to_pixels(block, self.scale)
            result_HWC[block.top : block.top + part_HWC.shape[0], block.left : block.left + part_HWC.shape[1]] = (
                part_HWC
            )
        return result_HWC

    def check_seams(self, source: PictureSource, canvas: Canvas) -> SeamReport | None:
        """Compare the first frame's result at seams with the same pixels computed amid more of the picture."""
        rows = PictureRows(source, 0, self.num_channels)
        tiled = self._tiled(rows, canvas, ALONE)
        tiled.measure_pools()
        return compare_at_seams(tiled, rows, lambda start, stop: canvas.read(0, start, stop))

    def _tiled(self, rows: PictureRows, canvas: Canvas | None, sharing: TileSharing | None = None) -> TiledUpscale:
        sharing = self.sharing if sharing is None else sharing

        def plan() -> dict[str, Any]:
            if canvas is None:
                return self._plan(*rows.shape[-2:])
            if not canvas.plan:
                canvas.try_plan(self._plan(*rows.shape[-2:], killed=canvas.killed_plan))
            return canvas.plan

        decided = sharing.from_first(plan)
        settings = TileSettings(
            decided["tile_size"],
            self.tile_overlap,
            decided["batch_size"],
            blend=0 if self.options.exact else None,
            alignment=self.alignment,
            precision=self.options.precision,
            exact_pools=self.options.exact,
            cuts_further=not self.options.exact or self.options.tile_size != 0,
        )
        return TiledUpscale(
            self.network, rows, scale=self.scale, settings=settings, device=self.device, sharing=sharing
        )

    def _plan(self, height: int, width: int, killed: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Choose tile_size and batch_size for a picture; smaller than those a run was killed with, if possible."""
        batch_size = self.options.batch_size
        if self.options.tile_size is not None:
            return {"tile_size": self.options.tile_size or None, "batch_size": batch_size or 1}
        if height * width <= PROBE_SIDE**2:
            return {"tile_size": None, "batch_size": batch_size or 1}
        if self._pixel_bytes is None:
            self._pixel_bytes = bytes_per_pixel(
                self.network, scale=self.scale, device=self.device, precision=self.options.precision
            )
        budget = available_bytes(self.device) * SHARE.get(self.device.type, SHARE["cpu"]) / self._num_beside

        def within(budget: float) -> dict[str, Any]:
            tile_size, planned_batch = plan_tiles(
                self._pixel_bytes * (batch_size or 1),
                budget,
                height,
                width,
                tile_overlap=self.tile_overlap,
                alignment=self.alignment,
                device_type=self.device.type,
            )
            return {"tile_size": tile_size, "batch_size": batch_size or planned_batch}

        plan = within(budget)
        if killed:
            too_many = _pixels_at_once(killed, height, width)
            while _pixels_at_once(plan, height, width) >= too_many and budget > self._pixel_bytes:
                budget /= 2
                plan = within(budget)
            logger.warning(
                "an earlier run was killed in its first tiles (%s), perhaps as memory ran out: %s now",
                _plan_in_words(killed),
                _plan_in_words(plan),
            )
        logger.info(
            "%dx%d: %s (%.0f kB a pixel, %.1f GB free to use)",
            width,
            height,
            _plan_in_words(plan),
            self._pixel_bytes / 1e3,
            budget / 1e9,
        )
        return plan


def _pixels_at_once(plan: Mapping[str, Any], height: int, width: int) -> int:
    """Own pixels that a plan computes at once."""
    return (height * width if plan["tile_size"] is None else plan["tile_size"] ** 2) * plan["batch_size"]


def _plan_in_words(plan: Mapping[str, Any]) -> str:
    return f"tiles of {plan['tile_size']}, {plan['batch_size']} at once" if plan["tile_size"] else "whole"
