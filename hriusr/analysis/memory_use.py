"""How much memory this process takes on a device, now and at its peak.

On a CPU the kernel's high-water mark of resident memory, what was really handed out; on CUDA what the allocator gave.
"""

import resource
import sys
from pathlib import Path

import psutil
import torch


def synchronize(device: torch.device) -> None:
    """Wait until a device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def resident_bytes(device: torch.device) -> int:
    """Return what this process holds on a device now: allocated on CUDA, resident elsewhere."""
    return torch.cuda.memory_allocated(device) if device.type == "cuda" else psutil.Process().memory_info().rss


def reset_peak(device: torch.device) -> None:
    """Let the next peak_bytes count from now on."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the high-water mark
    except OSError:  # not Linux, or not allowed: the mark since the start, which loading has not raised by much
        return


def peak_bytes(device: torch.device) -> int:
    """Return the most that this process has held on a device since reset_peak."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
