"""Run a network over tiles of equal shape, in batches, and survive what goes wrong on real machines.

| happening | answer |
|---|---|
| out of memory with several tiles | half as many at once, from then on; finished tiles stay |
| out of memory with one tile | that tile is handed to `compute_in_parts`, and so are all later ones of its size |
| NaN or Inf under bf16 or fp16 | that tile again in float32 |
| NaN or Inf in float32 | an error: the weights or the picture are broken, and a black tile would hide it |

Shapes: N tiles, C channels, H W pixels of the low-resolution tile
"""

import contextlib
import copy
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from hriusr.errors import HriusrError
from hriusr.models.precision import Precision

logger = logging.getLogger(__name__)

# How PyTorch's allocators, cuDNN and oneDNN say that a tensor is too large, where they don't raise their own class.
_OUT_OF_MEMORY_WORDS = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "CUDNN_STATUS_ALLOC_FAILED",
    "could not create a primitive",  # oneDNN
    "could not create a memory",
    "canUse32BitIndexMath",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception means that less work at a time could succeed."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OUT_OF_MEMORY_WORDS)


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode and give each of its modules its own mode back."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


class Watcher(Protocol):
    """Who is told of each pass through the network."""

    def begin_part(self, pictures: Sequence[int]) -> None:
        """Take the numbers of the pictures that the pass has, each the place of a picture in its tile (n, C, H, W)."""

    def end_part(self, is_finite_N: Tensor) -> None:
        """Take which of them came out finite; the others are computed again. Not called where memory ran out."""


class TileRunner:
    """A network with all that is needed to run it on tiles.

    Args:
        network: maps (N, C, H, W) to (N, C, H * scale, W * scale); expected in evaluation mode.
        scale: enlargement.
        device: where the network is.
        output_device: where results go.
        precision: fp32, or bf16 / fp16 autocast.
        batch_size: tiles at once, at most.
        compute_in_parts: called as compute_in_parts(self, tile_1CHW) for a tile that is too large by itself; returns
            the result of that tile. None: out of memory is an error.
        watcher: is told of each pass through the network.

    Raises:
        OptionsError: unknown precision.
        ValueError: batch_size below 1.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        scale: int,
        device: torch.device,
        output_device: torch.device,
        precision: str = "fp32",
        batch_size: int = 1,
        compute_in_parts: Callable[["TileRunner", Tensor], Tensor] | None = None,
        watcher: Watcher | None = None,
    ):
        if batch_size < 1:
            raise ValueError(f"batch_size (={batch_size}) must be at least 1")
        self.network = network
        self.scale = scale
        self.device = device
        self.output_device = output_device
        self.precision = Precision(precision, device)
        self.batch_size = batch_size
        self.compute_in_parts = compute_in_parts
        self.watcher = watcher
        self._picture: int | None = None  # whose tile is being cut into parts
        self.too_large: int | None = None  # pixels of the smallest tile that did not fit by itself
        self._float32_network: nn.Module | None = None

    def run(self, tiles: Iterable[Tensor]) -> Iterator[Tensor]:
        """Yield the result of each tile, in order.

        Args:
            tiles: tensors (n, C, H, W) of one shape; n pictures share a tile position.

        Returns:
            Iterator of float32 tensors (n, C, H * scale, W * scale) on the output device.
        """
        waiting: list[Tensor] = []
        for tile in tiles:
            waiting.append(tile)
            if len(waiting) >= self.batch_size:
                yield from self._run_batch(waiting)
                waiting = []
        if waiting:
            yield from self._run_batch(waiting)

    def _run_batch(self, tiles: list[Tensor]) -> tuple[Tensor, ...]:
        lengths = [len(tile) for tile in tiles]
        pictures_N = [number if self._picture is None else self._picture for n in lengths for number in range(n)]
        return torch.split(self._run_images(torch.cat(tiles), pictures_N), lengths)

    def _run_images(self, lr_NCHW: Tensor, pictures_N: list[int]) -> Tensor:
        """Run N tiles with at most batch_size at once, less where memory ends."""
        results: list[Tensor] = []
        position = 0
        while position < len(lr_NCHW):
            count = min(self.batch_size, len(lr_NCHW) - position)
            part = lr_NCHW[position : position + count]
            if self.too_large is not None and part[0, 0].numel() >= self.too_large:
                result = None
                count = 1
            else:
                result = self._attempt(part, pictures_N[position : position + count])
            if result is None and count > 1:
                self.batch_size = count // 2
                logger.warning("out of memory with %d tiles at once; continuing with %d", count, self.batch_size)
                continue
            if result is None:
                result = self._split(part[:1], pictures_N[position])
            results.append(result)
            position += count
        return torch.cat(results) if len(results) > 1 else results[0]

    def _split(self, tile_1CHW: Tensor, picture: int) -> Tensor:
        height, width = tile_1CHW.shape[-2:]
        if self.compute_in_parts is None:
            raise HriusrError(f"out of memory with one tile of {width}x{height} pixels: choose a smaller tile_size")
        if self.too_large is None or height * width < self.too_large:
            self.too_large = height * width
        outer, self._picture = self._picture, picture
        try:
            return self.compute_in_parts(self, tile_1CHW)
        finally:
            self._picture = outer

    def _attempt(self, lr_NCHW: Tensor, pictures_N: list[int]) -> Tensor | None:
        """Return the result, or None when memory ran out; the failed pass's tensors are free again by then."""
        try:
            return self._forward(lr_NCHW, pictures_N)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    @torch.no_grad()
    def _forward(self, lr_NCHW: Tensor, pictures_N: list[int]) -> Tensor:
        lr_NCHW = lr_NCHW.to(self.device, torch.float32)
        with self.precision.autocast():
            sr_NCHW = self._call(self.network, lr_NCHW, pictures_N)
        expected = (*lr_NCHW.shape[:2], lr_NCHW.shape[2] * self.scale, lr_NCHW.shape[3] * self.scale)
        if sr_NCHW.shape != expected:
            raise ValueError(
                f"the network turns {tuple(lr_NCHW.shape)} into {tuple(sr_NCHW.shape)}, expected {expected}: "
                f"scale (={self.scale}) must be the network's"
            )
        finite_N = self._finite(sr_NCHW)
        if not finite_N.all():
            broken_N = ~finite_N
            sr_NCHW = sr_NCHW.float()
            sr_NCHW[broken_N] = self._recompute(
                lr_NCHW[broken_N],
                [picture for picture, is_broken in zip(pictures_N, broken_N, strict=True) if is_broken],
            )
        return sr_NCHW.to(self.output_device, torch.float32)

    def _call(self, network: nn.Module, lr_NCHW: Tensor, pictures_N: list[int]) -> Tensor:
        if self.watcher is not None:
            self.watcher.begin_part(pictures_N)
        weight = next(network.parameters(), None)
        if weight is not None and weight.is_floating_point():
            lr_NCHW = lr_NCHW.to(weight.dtype)  # a network in .half() or .bfloat16()
        return network(lr_NCHW)

    def _finite(self, sr_NCHW: Tensor) -> Tensor:
        finite_N = torch.isfinite(sr_NCHW).flatten(1).all(dim=1)
        if self.watcher is not None:
            self.watcher.end_part(finite_N)
        return finite_N

    def _recompute(self, lr_NCHW: Tensor, pictures_N: list[int]) -> Tensor:
        """Compute tiles in float32 whatever the precision; NaN there is an error."""
        weight = next(self.network.parameters(), None)
        is_float32 = weight is None or weight.dtype == torch.float32
        if self._float32_network is None:
            self._float32_network = self.network if is_float32 else copy.deepcopy(self.network).float()
        if self.precision.dtype is not None or not is_float32:
            logger.warning("%d tile(s) not finite in half precision; computing in float32", len(lr_NCHW))
            sr_NCHW = self._call(self._float32_network, lr_NCHW, pictures_N)
            if self._finite(sr_NCHW).all():
                return sr_NCHW
        raise HriusrError(
            "the network's output is NaN or infinite even in float32: its weights are broken (or the picture has NaN): "
            "use other weights"
        )
