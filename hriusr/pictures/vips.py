"""The door to libvips: quiet, without a cache of results, one line for each of its errors.

Files go in and out as descriptors that Python has opened: names with brackets, which libvips would read as options, do
no harm, and a missing file or a read-only folder is told by Python's own errors.
"""

import functools
import logging
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np

from hriusr.errors import DataError

Result = TypeVar("Result")

FORMATS = {np.dtype(np.uint8): "uchar", np.dtype(np.uint16): "ushort", np.dtype(np.float32): "float"}
_LOADERS = ("pngload", "jpegload", "webpload", "tiffload", "gifload", "heifload")  # of pixels; no drawings, no text


@functools.cache
def load_vips() -> ModuleType:
    """Import pyvips, once. Its warnings are not shown: what matters of them comes back as an error."""
    logging.getLogger("pyvips").setLevel(logging.CRITICAL)
    import pyvips

    pyvips.cache_set_max(0)  # a file that has been written anew must not be answered from memory
    return pyvips


def run_interruptibly(work: Callable[[], Result], image: Any) -> Result:
    """Let libvips work on another thread, so that Ctrl-C ends it at once: it may take minutes, and knows no signals.

    Args:
        work: reads the image's pixels.
        image: pyvips.Image.
    """
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        try:
            return future.result()
        except (KeyboardInterrupt, SystemExit):
            image.set_kill(True)
            raise


def vips_reason(error: Exception) -> str:
    """Return the most telling line of a libvips error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[1] if len(lines) > 1 else lines[0] if lines else "no reason given"


def find_loader(source) -> str | None:
    """Name the operation that reads a pyvips.Source; None: libvips does not know this format of pixels."""
    vips = load_vips()
    found = vips.vips_lib.vips_foreign_find_load_source(source.pointer)
    if found == vips.ffi.NULL:
        return None
    loader = vips.nickname_find(vips.type_from_name(vips.ffi.string(found).decode())).removesuffix("_source")
    loader = "jpegload" if loader == "uhdrload" else loader  # a JPEG with a gain map is read as the JPEG that it is
    return loader if loader in _LOADERS else None


def open_descriptor(path: Path) -> int:
    """Open a file for reading.

    Raises:
        DataError: it is missing, empty, a folder, a pipe or device, or not readable.
    """
    try:
        # without O_NONBLOCK a pipe that nobody writes to would be waited for
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0))
    except FileNotFoundError:
        raise DataError(f"{path} does not exist: check the path") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its permissions and the disk") from None
    try:
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            raise DataError(f"{path} is a folder, not a picture")
        if not stat.S_ISREG(status.st_mode):
            raise DataError(f"{path} is no regular file: save it to a file first")
        if status.st_size == 0:
            raise DataError(f"{path} is empty (0 bytes): copy it again, or take it out of the folder")
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
