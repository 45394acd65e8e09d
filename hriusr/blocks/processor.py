"""What decides between two ways of computing the same on a CPU: whose processor it is."""

import functools
import platform
from pathlib import Path


@functools.cache
def is_intels() -> bool:
    """Tell whether the processor is Intel's: MKL, which PyTorch has for float32, is at its best on those alone."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:  # not Linux
        return "GenuineIntel" in platform.processor()
