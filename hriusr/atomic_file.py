"""Files that are either whole or absent: written beside their place, synced to disk, then renamed over it.

A leaf like errors.py: every layer but blocks may import it.
"""

import hashlib
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch

from hriusr.errors import DataError, HriusrError

_LONGEST_NAME = 255  # bytes: the limit of most file systems


def write_atomically(path: str | Path, content: bytes | memoryview) -> None:
    """Write a file so that a crash, a kill or a full disk leaves the old content (or none), never half of the new.

    Args:
        path: the file's place; its folder is made where it is missing.
        content: all of the file.

    Raises:
        HriusrError: the disk is full, or the folder cannot be written; the message names the file and its size.
    """
    with replacing(path, num_bytes=memoryview(content).nbytes) as file:
        file.write(content)


def check_writable(path: str | Path) -> None:
    """Find a read-only folder before minutes of computing, not after; makes a missing one.

    Args:
        path: of the file that is to be written.

    Raises:
        DataError: naming the folder.
    """
    folder = Path(path).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {folder} ({error.strerror}): choose another output") from None
    if not os.access(folder, os.W_OK):
        raise DataError(f"the folder {folder} is read-only: choose another output")


@contextmanager
def replacing(path: str | Path, *, num_bytes: int | None = None) -> Iterator[BinaryIO]:
    """Give a file to write piece by piece, which takes the path's place when the block ends without an error.

    Args:
        path: the file's place; its folder is made where it is missing.
        num_bytes: how large it will be, for the message of an error.

    Yields:
        A new file beside its place, to be written and read.

    Raises:
        HriusrError: for every OSError, also of the block: the disk is full, or the folder cannot be written.
    """
    path = Path(path)
    temporary = hidden_beside(path, f".{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        _remove(temporary)
        size = "" if num_bytes is None else f" ({num_bytes / 1e6:.1f} MB)"
        raise HriusrError(
            f"cannot write {path}{size}: {error.strerror or error}; what stood there before is untouched"
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def hidden_beside(path: Path, ending: str) -> Path:
    """Name `.<name><ending>` beside a file; a name too long for that is cut, and told apart by its digest."""
    name = f".{path.name}{ending}"
    if len(os.fsencode(name)) > _LONGEST_NAME:
        own = os.fsencode(path.name)
        mark = f"~{hashlib.sha256(own).hexdigest()[:16]}{ending}"
        room = _LONGEST_NAME - len(os.fsencode(f".{mark}"))
        name = f".{own[:room].decode(errors='ignore')}{mark}"
    return path.with_name(name)


def _remove(temporary: Path) -> None:
    with suppress(OSError):  # the folder may be what cannot be reached
        temporary.unlink(missing_ok=True)


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
