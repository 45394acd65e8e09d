"""How much memory this machine, or the container around this process, has left."""

from pathlib import Path

import psutil


def available_memory() -> int:
    """Return how many bytes can still be had without swapping, no more than the container's limit leaves."""
    return int(min(psutil.virtual_memory().available, container_bytes()))


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
