"""What HRIU costs beside plain window attention: time as a ratio, in one run, and peak memory of the backward pass.

    python scripts/benchmarks/attention_cost.py --threads 1

Each candidate and the plain unit run in turn; the ratio is the median over the turns, so a machine whose speed drifts
disturbs both alike. CPU seconds of the process are compared on a CPU, device events on a GPU.
"""

import argparse
import statistics
import time

import torch

from hriusr.blocks.hriu import HRIU
from hriusr.blocks.window_attention import WindowAttention

SHAPES = [  # channels, window, heads, height and width of the map
    (48, 8, 3, 128),
    (60, 8, 6, 128),
    (180, 16, 6, 96),
]


def candidates(dim: int, window: int, heads: int) -> dict[str, torch.nn.Module]:
    """Return the units that are compared; the first is the one that the others are measured by."""
    return {
        "plain": WindowAttention(dim, window, heads),
        "a": HRIU(dim, heads, window, terms="a"),
        "nm": HRIU(dim, heads, window, terms="nm"),
        "anm": HRIU(dim, heads, window),
        "anm full": HRIU(dim, heads, window, tables="full"),
    }


def seconds(unit: torch.nn.Module, x: torch.Tensor, with_gradients: bool) -> float:
    """Time one pass."""
    if x.is_cuda:
        torch.cuda.synchronize()
    clock = time.perf_counter if x.is_cuda else time.process_time
    start = clock()
    with torch.set_grad_enabled(with_gradients):
        y = unit(x)
        if with_gradients:
            y.float().square().sum().backward()
    if x.is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def saved_megabytes(unit: torch.nn.Module, x: torch.Tensor) -> float:
    """Return what the backward pass keeps, MB."""
    sizes = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        unit(x)
    return sum(sizes.values()) / 1e6


def main() -> None:
    """Print one table a shape."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    lines = [f"torch {torch.__version__}, {arguments.device}, {arguments.threads} threads, {arguments.turns} turns"]
    for dim, window, heads, side in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.randn(1, side, side, dim, device=arguments.device, dtype=dtype)
            units = {k: u.to(arguments.device, dtype) for k, u in candidates(dim, window, heads).items()}
            times = {(name, grad): [] for name in units for grad in (False, True)}
            for turn in range(arguments.turns + 1):
                for name, grad in times:
                    elapsed = seconds(units[name], x, grad)
                    if turn:  # the first turn warms up
                        times[name, grad].append(elapsed)
            lines.append(f"\nC={dim} window={window} heads={heads} map {side}x{side} {str(dtype).split('.')[1]}")
            lines.append("unit        forward ms  ratio  +backward ms  ratio  kept MB")
            for name, unit in units.items():
                row = f"{name:10}"
                for grad, width in ((False, 11), (True, 13)):
                    median = statistics.median(times[name, grad])
                    pairs = zip(times[name, grad], times["plain", grad], strict=True)
                    ratio = statistics.median(own / plain for own, plain in pairs)
                    row += f" {median * 1e3:>{width}.1f} {ratio:>6.2f}"
                lines.append(f"{row} {saved_megabytes(unit, x):>8.1f}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
