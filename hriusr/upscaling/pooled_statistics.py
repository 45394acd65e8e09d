"""Global average pools (channel attention of HAT, RCAN) under tiles: their means are those of the whole picture.

Such a pool gates every pixel by a mean over the whole input. In a tile it would see the tile only, so that tiles differ
from the whole picture and from each other, whatever the overlap. Here the means of the whole picture are measured
first, from the pixels that each tile keeps, and then held while the tiles are computed.

The first pass measures with each tile's own means in place; the first pool is then right, later ones nearly. A second
pass with those means makes the second pool right, and so on: repeating until nothing moves gives the whole picture's
means exactly. `change` says how far the last pass moved them.

Pictures that share their tiles (colour and alpha, a batch) have means of their own.

Shapes: B pictures, N of them in one pass through the network, C channels of a pool
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from hriusr.archs.registry import build_network


@dataclass
class _Sum:
    """Sum over cells (B, C, 1, 1), and how many (B, 1, 1, 1), of one pool."""

    total: Tensor
    count: Tensor

    def add(self, cells_NC11: Tensor, num_cells: int, pictures_N: Tensor) -> None:
        """Add sums of cells to those of their pictures."""
        zeros = cells_NC11.new_zeros(len(self.total), cells_NC11.shape[1], 1, 1)
        self.total = self.total + zeros.index_add(0, pictures_N, cells_NC11)
        self.count.index_add_(0, pictures_N, torch.full((len(pictures_N), 1, 1, 1), num_cells))


@dataclass
class PooledStatistics:
    """The global pools of a network, and their means over a whole picture.

    Attributes:
        network: whose pools these are.
        num_pictures: B.
        means: (B, C, 1, 1) of each pool, in the order of the network's modules; empty before the first pass.
        change: largest change of a mean in the last pass, in parts of the mean size of that pool's means of that
            picture; None before the second pass.
    """

    network: nn.Module
    num_pictures: int = 1
    means: list[Tensor] = field(default_factory=list)
    change: float | None = None

    def __post_init__(self):
        self.pools = [] if _is_out_of_reach(self.network) else global_pools(self.network)
        # Flips and turns (ensembles.py) move a tile's own pixels about: then all of its pixels count
        self._counts_all = _turns_pictures(self.network)
        self._sums: list[_Sum] = []
        self._region: tuple[slice, slice] | None = None
        self._pictures_N = torch.zeros(1, dtype=torch.int64)
        self._of_part: list[tuple[int, Tensor, int]] = []  # pool, sums of cells (N, C, 1, 1), how many cells

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
        shape = (self.num_pictures, 1, 1, 1)
        self._sums = [
            _Sum(torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.int64)) for _ in self.pools
        ]

    def measure_next(self, rows: slice, columns: slice) -> None:
        """Say which pixels of the next tile's features count."""
        self._region = (slice(None), slice(None)) if self._counts_all else (rows, columns)

    def begin_part(self, pictures: Sequence[int]) -> None:
        """Say which pictures, numbers below num_pictures, the network's next input holds."""
        self._pictures_N, self._of_part = torch.tensor(pictures), []

    def end_part(self, is_finite_N: Tensor) -> None:
        """Say that the network has run, and which of its pictures count; the others are run again."""
        is_finite_N = is_finite_N.cpu()
        for number, cells_NC11, num_cells in self._of_part:
            self._sums[number].add(cells_NC11[is_finite_N], num_cells, self._pictures_N[is_finite_N])
        self._of_part = []

    def sums(self) -> list[tuple[Tensor, Tensor]]:
        """Return (sum, count) of each pool in this pass, to be added up over processes."""
        return [(entry.total, entry.count) for entry in self._sums]

    def end_pass(self, sums: list[tuple[Tensor, Tensor]]) -> None:
        """Take over the means that were measured.

        Args:
            sums: what sums() returned, or their sum over processes.
        """
        means = [total / count.clamp_min(1) for total, count in sums]
        if self.means:
            moved = [
                ((new - old).abs().amax((1, 2, 3)) / old.abs().mean((1, 2, 3)).clamp_min(1e-12)).max().item()
                for new, old in zip(means, self.means, strict=True)
            ]
            self.change = max(moved)
        self.means, self._sums, self._region = means, [], None

    def _hook(self, number: int) -> Any:
        def replace(_module: nn.Module, inputs: tuple[Tensor, ...], result: Tensor) -> Tensor:
            if len(result) != len(self._pictures_N):
                return result  # of windows, not of pictures
            if self._sums:
                rows, columns = self._region
                cells_NCHW = inputs[0][..., rows, columns]
                cells_NC11 = cells_NCHW.sum((2, 3), keepdim=True, dtype=torch.float64).cpu()
                self._of_part.append((number, cells_NC11, cells_NCHW.shape[2] * cells_NCHW.shape[3]))
            return self.means[number][self._pictures_N].to(result) if self.means else result

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
