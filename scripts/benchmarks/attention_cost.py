"""What HRIU costs beside plain window attention: time and peak memory, each as a ratio, in one run.

    python scripts/benchmarks/attention_cost.py --threads 1

Units run in turn; a ratio is the median over the turns, so a machine whose speed drifts disturbs all alike. CPU seconds
of the process are compared on a CPU, seconds of work waited for on a GPU. "sdpa" is Swin's attention in the usual few
lines around torch's scaled_dot_product_attention, "ours" is blocks/window_attention.py; ratios are to either. "shared"
is HRIU with one query and one key for its terms (blocks/shared_hriu.py), as in HRIUSR-fast; "crossed" the same with
half of the tables; "cosine" with cosines. Memory is the most that is held during a pass beyond what was held before:
resident on a CPU, allocated on a GPU. bf16 is autocast.
"""

import argparse
import ctypes
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.analysis.memory_use import peak_bytes, reset_peak, resident_bytes, synchronize
from hriusr.blocks.hriu import HRIU
from hriusr.blocks.relative import AxisGeometry, pair_table
from hriusr.blocks.shared_hriu import SharedHRIU
from hriusr.blocks.window_attention import WindowAttention
from hriusr.blocks.windows import window_merge, window_partition

SHAPES = [  # channels, window, heads, height and width of the map
    (48, 8, 3, 128),
    (60, 8, 6, 128),
    (180, 16, 6, 96),
]
PEERS = ("sdpa", "ours")


class SdpaAttention(nn.Module):
    """Window attention with a relative bias, straightforwardly."""

    def __init__(self, dim: int, window_size: int, num_heads: int) -> None:
        super().__init__()
        self.window_size, self.num_heads = window_size, num_heads
        self.axis = AxisGeometry(window_size, window_size)
        self.bias_table = nn.Parameter(torch.zeros(num_heads, self.axis.table_size, self.axis.table_size, 1))
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        x_MNC = window_partition(x_BHWC, self.window_size)
        q, k, v = self.qkv(x_MNC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        bias_1hNN = pair_table(self.bias_table, self.axis, self.axis).squeeze(-1)[None].to(q.dtype)
        y_MhNd = F.scaled_dot_product_attention(q, k, v, attn_mask=bias_1hNN)
        return window_merge(self.proj(y_MhNd.transpose(1, 2).flatten(2)), self.window_size, *x_BHWC.shape[1:3])


def candidates(dim: int, window: int, heads: int) -> dict[str, nn.Module]:
    """Return the units that are compared."""
    return {
        "sdpa": SdpaAttention(dim, window, heads),
        "ours": WindowAttention(dim, window, heads),
        "nm": HRIU(dim, heads, window, terms="nm"),
        "anm": HRIU(dim, heads, window),
        "shared": SharedHRIU(dim, heads, window),
        "crossed": SharedHRIU(dim, heads, window, tables="crossed"),
        "cosine": SharedHRIU(dim, heads, window, similarity="cosine"),
        "anm full": HRIU(dim, heads, window, tables="full"),
        "sh. full": SharedHRIU(dim, heads, window, tables="full"),
    }


def run(unit: nn.Module, x: Tensor, dtype: torch.dtype, with_gradients: bool) -> None:
    """Make one pass."""
    unit.zero_grad()
    with torch.set_grad_enabled(with_gradients):
        with torch.autocast(x.device.type, dtype=dtype, enabled=dtype != torch.float32):
            y = unit(x)
        if with_gradients:
            y.float().square().sum().backward()


def seconds(unit: nn.Module, x: Tensor, dtype: torch.dtype, with_gradients: bool) -> float:
    """Time one pass."""
    synchronize(x.device)
    clock = time.perf_counter if x.is_cuda else time.process_time
    start = clock()
    run(unit, x, dtype, with_gradients)
    synchronize(x.device)
    return clock() - start


def peak_megabytes(unit: nn.Module, x: Tensor, dtype: torch.dtype, with_gradients: bool) -> float:
    """Return what one pass holds at most, beyond what is held before."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what was freed counts as free
    reset_peak(x.device)
    before = resident_bytes(x.device)
    run(unit, x, dtype, with_gradients)
    return (peak_bytes(x.device) - before) / 1e6


def main() -> None:
    """Print one table a shape and number format."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--channels", type=int, nargs="+", default=[shape[0] for shape in SHAPES])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    print(f"torch {torch.__version__}, {device} ({where}), {arguments.threads} threads, {arguments.turns} turns")
    for dim, window, heads, side in SHAPES:
        if dim not in arguments.channels:
            continue
        units = {name: unit.to(device) for name, unit in candidates(dim, window, heads).items()}
        x = torch.randn(1, side, side, dim, device=device)
        for dtype in (torch.float32, torch.bfloat16):
            print(f"\nC={dim} window={window} heads={heads} map {side}x{side} {str(dtype).split('.')[1]}")
            print(f"{'':10}{'forward':^41}{'forward + backward':^41}")
            print(f"{'unit':10}" + f"{'ms':>8}{'/sdpa':>7}{'/ours':>7}{'MB':>7}{'/sdpa':>6}{'/ours':>6}" * 2)
            times = {(name, grad): [] for name in units for grad in (False, True)}
            for turn in range(arguments.turns + 1):
                for name, grad in times:
                    elapsed = seconds(units[name], x, dtype, grad)
                    if turn:  # the first turn warms up
                        times[name, grad].append(elapsed)
            memory = {key: peak_megabytes(units[key[0]], x, dtype, key[1]) for key in times}
            for name in units:
                row = f"{name:10}"
                for grad in (False, True):
                    own = times[name, grad]
                    row += f"{statistics.median(own) * 1e3:8.1f}"
                    for peer in PEERS:
                        row += f"{statistics.median(a / b for a, b in zip(own, times[peer, grad], strict=True)):7.2f}"
                    row += f"{memory[name, grad]:7.1f}"
                    for peer in PEERS:
                        row += f"{memory[name, grad] / memory[peer, grad]:6.2f}"
                print(row, flush=True)


if __name__ == "__main__":
    main()
