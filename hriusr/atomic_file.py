"""Files that are either whole or absent: written beside their place, synced to disk, then renamed over it.

A leaf like errors.py: every layer but blocks may import it.
"""

import io
import os
from pathlib import Path
from typing import Any

import torch

from hriusr.errors import HriusrError


def write_atomically(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file so that a crash, a kill or a full disk leaves the old content (or none), never half of the new.

    Args:
        path: the file's place; its folder is made where it is missing.
        content: all of the file.

    Raises:
        HriusrError: the disk is full, or the folder cannot be written; the message names the file and its size.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        megabytes = memoryview(content).nbytes / 1e6
        raise HriusrError(
            f"cannot write {path} ({megabytes:.1f} MB): {error.strerror or error}; what stood there before is untouched"
        ) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def torch_bytes(content: Any) -> memoryview:
    """Serialise as torch.save does, in memory: an error of the disk then stays apart from one of the content.

    Args:
        content: tensors and plain Python types, nested.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getbuffer()


def _sync_folder(folder: Path) -> None:
    """Make a rename in the folder survive a power cut, where the file system allows syncing folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, some network mounts
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass
    finally:
        os.close(descriptor)
