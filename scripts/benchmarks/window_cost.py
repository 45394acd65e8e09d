"""What attention in windows costs beside attention over the whole map (Swin, arXiv:2103.14030, eq. 1 and 2).

    python scripts/benchmarks/window_cost.py --threads 1

    W-MSA: 4 h w C² + 2 M² h w C        MSA: 4 h w C² + 2 (h w)² C        (h x w map, C channels, window of M x M)

Multiply-adds are counted by running the units and compared with the formulas; seconds are CPU seconds, all sizes in
turns, the median of the turns. The exponent p of cost ~ pixels^p is 1 for a linear cost and 2 for a quadratic one.
"""

import argparse
import math
import statistics
import time

import torch
from torch import Tensor, nn

from hriusr.analysis.complexity import count_multi_adds
from hriusr.blocks.window_attention import WindowAttention


class AsNetwork(nn.Module):
    """An attention unit that takes pictures of C channels, as count_multi_adds wants it."""

    upscale = 1

    def __init__(self, dim: int, window: int, heads: int):
        super().__init__()
        self.in_chans = dim
        self.attention = WindowAttention(dim, window, heads)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.attention(x_BCHW.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def formula(side: int, dim: int, window: int) -> int:
    """Return the multiply-adds by Swin's equations; with window = side they are those of global attention."""
    pixels = side * side
    return 4 * pixels * dim**2 + 2 * window**2 * pixels * dim


def exponent(costs: list[float], sides: list[int]) -> float:
    """Return p of cost ~ pixels^p between the two largest maps."""
    return math.log(costs[-1] / costs[-2]) / math.log((sides[-1] / sides[-2]) ** 2)


def seconds(unit: nn.Module, x_BCHW: Tensor) -> float:
    """Return the CPU seconds of one pass without gradients."""
    start = time.process_time()
    with torch.no_grad():
        unit(x_BCHW)
    return time.process_time() - start


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--dim", type=int, default=60)
    parser.add_argument("--heads", type=int, default=6)
    parser.add_argument("--window", type=int, default=8)
    parser.add_argument("--sides", type=int, nargs="+", default=[16, 32, 64, 96])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    dim, sides = arguments.dim, arguments.sides
    windows = {"W-MSA": [arguments.window] * len(sides), "MSA": sides}
    units = {kind: [AsNetwork(dim, window, arguments.heads) for window in windows[kind]] for kind in windows}
    pictures = [torch.randn(1, dim, side, side) for side in sides]
    times = {(kind, number): [] for kind in units for number in range(len(sides))}
    for turn in range(arguments.turns + 1):
        for kind, number in times:
            elapsed = seconds(units[kind][number], pictures[number])
            if turn:  # the first turn warms up
                times[kind, number].append(elapsed)
    lines = [f"torch {torch.__version__}, {arguments.threads} threads, {arguments.turns} turns, C={dim}, fp32"]
    lines.append("unit   map      counted G  formula G       ms")
    for kind in units:
        counted = [count_multi_adds(unit, side, side) for unit, side in zip(units[kind], sides, strict=True)]
        median = [statistics.median(times[kind, number]) for number in range(len(sides))]
        for side, window, count, spent in zip(sides, windows[kind], counted, median, strict=True):
            giga, expected = count / 1e9, formula(side, dim, window) / 1e9
            lines.append(f"{kind:6} {side:3}x{side:<3} {giga:>10.3f} {expected:>10.3f} {spent * 1e3:>8.1f}")
        powers = exponent(counted, sides), exponent(median, sides)
        lines.append(f"{kind:6} cost ~ pixels^p: p = {powers[0]:.2f} counted, {powers[1]:.2f} in time")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
