"""What a pass of a network costs on this machine: seconds and memory, measured in a process of its own.

A fresh process holds nothing else, so that its peak is the network's. See cost_process.py for what is measured how.
"""

import contextlib
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hriusr.errors import HriusrError

Progress = Callable[[str, int, int], None]  # pass, runs done, runs in all


@dataclass(frozen=True)
class PassCost:
    """One kind of pass, measured several times.

    Attributes:
        seconds: wall-clock time of each run.
        cpu_seconds: processor time of each run, of all threads; what other work on the machine does not change much.
        pass_bytes: peak memory beyond the loaded network.
        peak_bytes: peak memory of the process (CPU: with Python and PyTorch; CUDA: what the allocator gave out).
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    pass_bytes: int
    peak_bytes: int

    def as_dict(self) -> dict[str, Any]:
        """Return everything, with the median time, for JSON."""
        return {"median_seconds": statistics.median(self.seconds), **asdict(self)}


@dataclass(frozen=True)
class MeasuredCost:
    """What measure_cost found; train is None unless it was asked for."""

    device: str
    threads: int
    forward: PassCost
    train: PassCost | None


def measure_cost(
    network: Mapping[str, Any] | Path,
    height: int,
    width: int,
    *,
    batch_size: int = 1,
    precision: str = "fp32",
    device: str = "cpu",
    threads: int | None = None,
    runs: int = 5,
    with_training: bool = False,
    progress: Progress | None = None,
) -> MeasuredCost:
    """Measure a forward pass, and forward and backward pass, of random pictures.

    Args:
        network: a `network_g` section, or a weights file.
        height: rows of the low-resolution picture.
        width: columns of it.
        batch_size: pictures at once.
        precision: fp32, or bf16 / fp16 (autocast).
        device: cpu, cuda, cuda:1 ...
        threads: of PyTorch; None for its own choice.
        runs: timed runs of each kind, after one that is not timed.
        with_training: also measure forward and backward pass together, in training mode.
        progress: called after each run.

    Raises:
        HriusrError: the network cannot be built, there is no such device, or memory runs out.
    """
    order = {
        "network": {"weights": str(network)} if isinstance(network, Path) else {"network_g": dict(network)},
        "shape": [batch_size, height, width],
        "precision": precision,
        "device": device,
        "threads": threads,
        "runs": runs,
        "with_training": with_training,
    }
    found: dict[str, Any] = {}
    passes: dict[str, PassCost] = {}
    for message in _messages(order):
        match message:
            case {"error": text}:
                raise HriusrError(text)
            case {"pass": name, "done": done}:
                if progress is not None:
                    progress(name, done, runs + 1)
            case {"pass": name, **cost}:
                cost |= {key: tuple(cost[key]) for key in ("seconds", "cpu_seconds")}
                passes[name] = PassCost(**cost)
            case _:
                found = message
    return MeasuredCost(found["device"], found["threads"], passes["forward"], passes.get("train"))


def _messages(order: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    """Run the measuring process and yield what it says, one JSON object a line."""
    # in a file, not a pipe that nobody reads: a long warning must not block the process
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "hriusr.analysis.cost_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        with process:
            try:
                with contextlib.suppress(BrokenPipeError):  # it ended early; its status says more
                    process.stdin.write(json.dumps(order))
                    process.stdin.close()
                for line in process.stdout:
                    yield json.loads(line)
            except BaseException:
                process.kill()
                raise
        if process.returncode == -signal.SIGKILL:
            raise HriusrError("the measuring process was killed, most likely for want of memory: take a smaller --size")
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"the measuring process ended with status {process.returncode}:\n{errors.read()}")
