"""The process that measure_cost starts: reads one order as JSON from stdin, writes what it measures as lines of JSON.

Time: wall clock and processor time of each run, behind one run that is not counted. Memory on a CPU: the high-water
mark of resident memory (what the kernel really handed out), against what was resident with the network loaded; on
CUDA: what the allocator had given out at its peak, weights and pictures included.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from hriusr.analysis.memory_use import peak_bytes, reset_peak, resident_bytes, synchronize
from hriusr.archs.registry import build_network
from hriusr.archs.weights import network_from_weights
from hriusr.errors import HriusrError
from hriusr.models.precision import Precision
from hriusr.upscaling.tile_runner import is_out_of_memory


def measure(order: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what measure_cost reads."""
    if order["threads"] is not None:
        torch.set_num_threads(order["threads"])
    device = _checked_device(order["device"])
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    yield {"device": name, "threads": torch.get_num_threads()}
    torch.manual_seed(0)
    if "weights" in order["network"]:
        network = network_from_weights(order["network"]["weights"])
    else:
        network = build_network(order["network"]["network_g"])
    network = network.to(device)
    precision = Precision(order["precision"], device)
    batch_size, height, width = order["shape"]
    lr_BCHW = torch.rand(batch_size, getattr(network, "in_chans", 3), height, width, device=device)

    def forward() -> None:
        try:
            with torch.inference_mode(), precision.autocast():
                network(lr_BCHW)
        except (RuntimeError, AssertionError, ValueError, IndexError) as error:
            if is_out_of_memory(error):
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise HriusrError(
                f"the network does not take pictures of {width}x{height} pixels ({reason}): try another --size"
            ) from error

    def train() -> None:
        with precision.autocast():
            sr_BCHW = network(lr_BCHW)
        precision.scaler.scale(sr_BCHW.float().abs().mean()).backward()
        network.zero_grad()

    loaded = resident_bytes(device)
    yield from _measure_pass("forward", forward, network.eval(), device, order["runs"], loaded)
    if order["with_training"]:
        yield from _measure_pass("train", train, network.train(), device, order["runs"], loaded)


def _measure_pass(
    name: str, work: Callable[[], None], network: nn.Module, device: torch.device, runs: int, loaded: int
) -> Iterator[dict[str, Any]]:
    reset_peak(device)
    seconds, cpu_seconds = [], []
    for number in range(runs + 1):
        synchronize(device)
        start, cpu_start = time.perf_counter(), time.process_time()
        work()
        synchronize(device)
        if number:
            seconds.append(time.perf_counter() - start)
            cpu_seconds.append(time.process_time() - cpu_start)
        yield {"pass": name, "done": number + 1}
    peak = peak_bytes(device)
    yield {
        "pass": name,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "pass_bytes": max(peak - loaded, 0),
        "peak_bytes": peak,
    }


def _checked_device(name: str) -> torch.device:
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise HriusrError(f"--device {name}: {str(error).splitlines()[0]}; cpu is always there") from error
    return device


def main() -> None:
    """Measure what stdin orders."""
    try:
        for message in measure(json.loads(sys.stdin.read())):
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()
    except HriusrError as error:
        sys.stdout.write(json.dumps({"error": str(error)}) + "\n")
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f"the memory is not enough: {str(error).splitlines()[0]}; try a smaller --size or --batch-size"
        sys.stdout.write(json.dumps({"error": reason}) + "\n")


if __name__ == "__main__":
    main()
