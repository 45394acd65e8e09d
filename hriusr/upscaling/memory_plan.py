"""How large tiles may be: what a network needs for a pixel, measured, against the memory that is free.

Measured: peak bytes of one pass over a small picture, divided by its pixels. On CUDA the allocator counts; elsewhere
every tensor that an operation returns is counted while it lives, which leaves out buffers inside operations:
WORKSPACE allows for those. The peak of a windowed or convolutional network grows in proportion to the pixels.
"""

import logging
import weakref
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from hriusr.data.host_memory import available_memory
from hriusr.upscaling.tile_plan import plan_axis
from hriusr.upscaling.tile_runner import TileRunner, evaluating

logger = logging.getLogger(__name__)

PROBE_SIDE = 96  # pixels; large enough that the head outweighs constants, small enough for well under a second
WORKSPACE = (
    2.0  # peak resident memory over counted tensors; measured 0.8 to 1.8 for SwinIR and HAT, fp32 and bf16, on a CPU
)
SHARE = {"cpu": 0.5, "cuda": 0.8}  # of what is free: a CPU's memory is others' too, and its lack kills the process
LARGEST_TILE = {"cpu": 512, "cuda": 1024}  # own pixels a side; beyond, overlap costs little and progress stands still
LARGEST_BATCH = {"cpu": 1, "cuda": 16}  # a CPU's cores are busy with one tile
SMALLEST_TILE = 32


class _LiveBytes(TorchDispatchMode):
    """Count the bytes of all tensors that operations return, as long as they live."""

    def __init__(self) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, num_bytes = storage._cdata, storage.nbytes()
        if key not in self._seen:
            self._seen.add(key)
            self.live += num_bytes
            self.peak = max(self.peak, self.live)
            weakref.finalize(storage, self._forget, key, num_bytes)

    def _forget(self, key: int, num_bytes: int) -> None:
        self._seen.discard(key)
        self.live -= num_bytes


def bytes_per_pixel(network: nn.Module, *, scale: int, device: torch.device, precision: str = "fp32") -> float:
    """Measure the memory that one pass of a network needs at its peak, weights apart.

    Args:
        network: on the device already.
        scale: its enlargement.
        device: where it is.
        precision: fp32, bf16 or fp16 (autocast).

    Returns:
        Bytes for each low-resolution pixel; with what networks inside say (attribute bytes_per_pixel), where PyTorch
        does not compute them and so cannot count. They add up: another runtime keeps its memory after a pass.
    """
    known = sum(getattr(module, "bytes_per_pixel", 0) for module in network.modules())
    if known and next(network.parameters(), None) is None:
        return known
    runner = TileRunner(network, scale=scale, device=device, output_device=device, precision=precision)
    probe = torch.rand(1, getattr(network, "in_chans", 3), PROBE_SIDE, PROBE_SIDE, device=device)
    with evaluating(network):
        if device.type == "cuda":
            before = torch.cuda.memory_allocated(device)
            torch.cuda.reset_peak_memory_stats(device)
            next(runner.run([probe]))
            peak = torch.cuda.max_memory_allocated(device) - before
        else:
            with _LiveBytes() as counter:
                next(runner.run([probe]))
            peak = counter.peak * WORKSPACE
    return peak / PROBE_SIDE**2 + known


def available_bytes(device: torch.device) -> int:
    """Return the memory that is free on a device; on a CPU no more than the container's limit leaves."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return available_memory()


def plan_tiles(
    pixel_bytes: float, budget: float, height: int, width: int, *, tile_overlap: int, alignment: int, device_type: str
) -> tuple[int | None, int]:
    """Choose tile size and batch size for a picture.

    The whole picture at once if it fits and is no larger than the largest tile. Else the largest tile that fits into
    the budget, at most LARGEST_TILE, at least SMALLEST_TILE, then as many at once as fit, at most LARGEST_BATCH.

    Args:
        pixel_bytes: as bytes_per_pixel says.
        budget: bytes that may be used.
        height: of the picture, low resolution.
        width: of the picture, low resolution.
        tile_overlap: as for tile_upscale.
        alignment: as for tile_upscale.
        device_type: "cpu" or "cuda".

    Returns:
        (tile_size, or None for the whole picture; batch_size).
    """
    largest = LARGEST_TILE.get(device_type, LARGEST_TILE["cpu"])
    affordable = max(1.0, budget / pixel_bytes)
    if height * width <= min(affordable, (largest + 2 * tile_overlap) ** 2):
        return None, 1
    own_side = int(affordable**0.5) - 2 * tile_overlap - (alignment - 1)
    tile_size = max(SMALLEST_TILE, alignment, min(largest, own_side // alignment * alignment))
    rows, columns = (plan_axis(size, tile_size, tile_overlap, alignment=alignment) for size in (height, width))
    batch_size = int(affordable // (rows.tile * columns.tile))
    return tile_size, min(
        max(1, batch_size), LARGEST_BATCH.get(device_type, 1), len(rows.origins) * len(columns.origins)
    )
