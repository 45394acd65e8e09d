"""HAT on a CPU: ours beside HAT's own code, with the same weights: CPU seconds, and peak memory.

    pip install spandrel; python scripts/benchmarks/hat_cpu.py --sides 64 128 --threads 1 2

HAT's own code is spandrel's copy of it. The two run in turn on the same picture, and the ratio of CPU seconds is the
median over the turns, so that a machine whose speed drifts disturbs both alike. Memory is the most that a fresh process
holds during one pass, less what it held before. bf16 is autocast, as in `hriusr upscale`; the last columns say how many
times faster ours is than HAT's own code in fp32, the only format that it has, and the largest difference to that, of
255. Weights are random. With several threads set OMP_WAIT_POLICY=PASSIVE: threads that spin while they wait count.
"""

import argparse
import multiprocessing
import statistics
import time

import torch
from spandrel.architectures import HAT
from torch import nn

from hriusr.analysis.memory_use import peak_bytes, reset_peak, resident_bytes
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS

KINDS = ("HAT's own code", "ours")
CPU = torch.device("cpu")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16}


def build(kind: str, variant: str, num_groups: int) -> nn.Module:
    """Build a network of either kind; the same weights for both."""
    network_opt = VARIANTS[variant].network_opt()
    for name in ("depths", "num_heads"):
        network_opt[name] = network_opt[name][: num_groups or None]
    torch.manual_seed(0)
    network = build_network(network_opt).eval().requires_grad_(False)
    if kind == "ours":
        return network
    del network_opt["type"]
    own_code = HAT.HAT(**network_opt).eval().requires_grad_(False)
    own_code.load_state_dict(own_code.state_dict() | network.state_dict())
    return own_code


def run(network: nn.Module, side: int, precision: str) -> torch.Tensor:
    """Enlarge one picture."""
    picture_BCHW = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(1))
    dtype = PRECISIONS[precision]
    with torch.inference_mode(), torch.autocast("cpu", dtype=dtype, enabled=dtype is not None):
        return network(picture_BCHW).float()


def cpu_seconds(network: nn.Module, side: int, precision: str) -> float:
    """Time one pass, all threads together."""
    start = time.process_time()
    run(network, side, precision)
    return time.process_time() - start


def peak_megabytes(arguments: tuple[str, str, int, int, str]) -> float:
    """Return what one pass holds above the network itself; for a process of its own."""
    kind, variant, num_groups, side, precision = arguments
    torch.set_num_threads(1)
    network = build(kind, variant, num_groups)
    run(network, 16, precision)  # what libraries allocate once
    reset_peak(CPU)
    before = resident_bytes(CPU)
    run(network, side, precision)
    return (peak_bytes(CPU) - before) / 1e6


def main() -> None:
    """Print one line a size, number format and number of threads."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variant", default="hat_s_x4", help="a size of HAT that `hriusr list` knows")
    parser.add_argument("--groups", type=int, default=0, help="take only so many of its groups; 0 for all")
    parser.add_argument("--sides", type=int, nargs="+", default=[64, 128], help="rows and columns of the picture")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    groups = f"{arguments.groups} of its groups" if arguments.groups else "whole"
    print(f"{arguments.variant}, {groups}, torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}")
    networks = {kind: build(kind, arguments.variant, arguments.groups) for kind in KINDS}
    print("side format threads  CPU s: own code   ours  ratio  MB: own code   ours  ratio  to own fp32  difference")
    exact_seconds = {}
    for side in arguments.sides:
        for precision in arguments.precisions:
            jobs = [(kind, arguments.variant, arguments.groups, side, precision) for kind in KINDS]
            with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
                own_mb, our_mb = pool.map(peak_megabytes, jobs, chunksize=1)
            exact = run(networks[KINDS[0]], side, "fp32")
            difference = (run(networks["ours"], side, precision) - exact).abs().max() * 255
            for threads in arguments.threads:
                torch.set_num_threads(threads)
                turns = [
                    [cpu_seconds(networks[kind], side, precision) for kind in KINDS] for _ in range(arguments.turns + 1)
                ][1:]  # the first turn warms up
                own, ours = (statistics.median(times) for times in zip(*turns, strict=True))
                ratio = statistics.median(own / ours for own, ours in turns)
                if precision == "fp32":
                    exact_seconds[side, threads] = own
                to_exact = exact_seconds.get((side, threads), float("nan")) / ours
                print(
                    f"{side:4} {precision:6} {threads:7} {own:16.2f} {ours:6.2f} {ratio:6.2f} "
                    f"{own_mb:13.0f} {our_mb:6.0f} {own_mb / our_mb:6.2f} {to_exact:12.2f} {difference:11.3f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
