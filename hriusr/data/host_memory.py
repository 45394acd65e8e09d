"""How much memory this machine, the container around this process, or the limit of the process has left."""

import sys
from pathlib import Path

import psutil


def available_memory() -> int:
    """Return how many bytes can be had without swapping, no more than the limits of container and process leave."""
    return int(min(psutil.virtual_memory().available, container_bytes(), address_bytes()))


def address_bytes() -> float:
    """Return what the limit of this process's address space leaves (ulimit -v), infinity where there is none."""
    if sys.platform == "win32":
        return float("inf")
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    is_limited = limit != resource.RLIM_INFINITY
    return max(0, limit - psutil.Process().memory_info().vms) if is_limited else float("inf")


def container_bytes() -> float:
    """Return what the container's memory limit leaves (cgroup v2 or v1), infinity where there is none."""
    folder = Path("/sys/fs/cgroup")
    for limit, usage in (
        (folder / "memory.max", folder / "memory.current"),
        (folder / "memory/memory.limit_in_bytes", folder / "memory/memory.usage_in_bytes"),
    ):
        try:
            return max(0, int(limit.read_text()) - int(usage.read_text()))
        except (OSError, ValueError):  # no such file, or the word "max"
            continue
    return float("inf")
