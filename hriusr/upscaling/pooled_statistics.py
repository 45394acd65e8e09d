"""Global average pools (channel attention of HAT, RCAN) under tiles: their means are those of the whole picture.

Such a pool gates every pixel by a mean over the whole input. In a tile it would see the tile only, so that tiles differ
from the whole picture and from each other, whatever the overlap. Here the means of the whole picture are measured
first, from the pixels that each tile keeps, and then held while the tiles are computed.

The first pass measures with each tile's own means in place; the first pool is then right, later ones nearly. A second
pass with those means makes the second pool right, and so on: repeating until nothing moves gives the whole picture's
means exactly. `change` says how far the last pass moved them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hriusr.archs.registry import build_network


@dataclass
class _Sum:
    """Sum over cells, and how many, of one pool."""

    total: Tensor | float = 0.0
    count: int = 0


@dataclass
class PooledStatistics:
    """The global pools of a network, and their means over a whole picture.

    Attributes:
        network: whose pools these are.
        means: (B, C, 1, 1) of each pool, in the order of the network's modules; empty before the first pass.
        change: largest change of a mean in the last pass, in parts of the mean size of that pool's means; None before
            the second pass.
    """

    network: nn.Module
    means: list[Tensor] = field(default_factory=list)
    change: float | None = None

    def __post_init__(self):
        self.pools = [] if _is_out_of_reach(self.network) else global_pools(self.network)
        # Flips and turns (ensembles.py) move a tile's own pixels about: then all of its pixels count
        self._counts_all = _turns_pictures(self.network)
        self._sums: list[_Sum] = []
        self._region: tuple[slice, slice] | None = None

    def __bool__(self) -> bool:
        """Whether the network has global pools at all."""
        return bool(self.pools)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put the means in place of the pools' results, where there are any yet."""
        handles = [pool.register_forward_hook(self._hook(number)) for number, pool in enumerate(self.pools)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def begin_pass(self) -> None:
        """Start to measure."""
        self._sums = [_Sum() for _ in self.pools]

    def measure_next(self, rows: slice, columns: slice) -> None:
        """Say which pixels of the next tile's features count."""
        self._region = (slice(None), slice(None)) if self._counts_all else (rows, columns)

    def sums(self) -> list[tuple[Tensor | float, int]]:
        """Return (sum, count) of each pool in this pass, to be added up over processes."""
        return [(entry.total, entry.count) for entry in self._sums]

    def end_pass(self, sums: list[tuple[Tensor | float, int]]) -> None:
        """Take over the means that were measured.

        Args:
            sums: what sums() returned, or their sum over processes.
        """
        means = [total / max(count, 1) for total, count in sums]
        if self.means:
            moved = [
                ((new - old).abs().max() / old.abs().mean().clamp_min(1e-12)).item()
                for new, old in zip(means, self.means, strict=True)
            ]
            self.change = max(moved)
        self.means, self._sums, self._region = means, [], None

    def _hook(self, number: int) -> Any:
        def replace(_module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
            if self._sums:
                rows, columns = self._region
                cells_BCHW = inputs[0][..., rows, columns]
                entry = self._sums[number]
                entry.total = entry.total + cells_BCHW.sum((2, 3), keepdim=True, dtype=torch.float64).cpu()
                entry.count += cells_BCHW.shape[2] * cells_BCHW.shape[3]
            if not self.means:
                return result
            mean = self.means[number].to(result)
            return mean.repeat(len(result) // len(mean), 1, 1, 1)  # a batch of tiles: picture by picture in each

        return replace


def global_pools(network: nn.Module) -> list[nn.Module]:
    """Return the modules of a network that average over all of their input."""
    return [m for m in network.modules() if isinstance(m, nn.AdaptiveAvgPool2d) and m.output_size in (1, (1, 1))]


def has_unheld_pools(network: nn.Module) -> bool:
    """Whether a network has global pools whose means cannot be held: compiled, or computed by another runtime."""
    if not _is_out_of_reach(network):
        return False
    opts = [opt for opt in (getattr(module, "network_opt", None) for module in network.modules()) if opt]
    with torch.device("meta"):  # for its structure only
        return bool(global_pools(network)) or any(global_pools(build_network(opt)) for opt in opts)


def has_turned_pools(network: nn.Module) -> bool:
    """Whether a network with global pools sees a picture in several orientations: one mean then stands for all."""
    return _turns_pictures(network) and bool(global_pools(network))


def _turns_pictures(network: nn.Module) -> bool:
    return any(getattr(module, "turns_pictures", False) for module in network.modules())


def _is_out_of_reach(network: nn.Module) -> bool:
    """Whether modules inside are not called one by one: hooks would be passed over."""
    return any(hasattr(module, "_orig_mod") or hasattr(module, "fingerprint") for module in network.modules())
