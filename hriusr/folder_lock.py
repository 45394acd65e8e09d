"""One process a folder: a second start while the first is alive would write over its files.

A leaf like errors.py: every layer but blocks may import it.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from hriusr.errors import FolderBusyError

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]

_NAME = ".lock"


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """Wait until no other process is in this context, for what two must not do at once, such as making a folder.

    Args:
        folder: absent or not; a lock on the folder above it leaves no file there. Without effect where locks are not
            supported.
    """
    descriptor = None
    if fcntl is not None:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(folder.parent, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks, or a folder that may not be made, which is said where it is
            pass
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


class FolderLock:
    """Context that holds a lock on a folder; the system takes it back however the process ends.

    A record lock (lockf): processes that are forked meanwhile, such as those that load data, do not inherit it, so one
    that outlives a killed run does not keep the next one away.
    """

    def __init__(self, activity: str = "being trained") -> None:
        """Hold nothing yet; activity is what an error says is done with the folder."""
        self._activity = activity
        self._file: TextIO | None = None

    def take(self, folder: Path) -> None:
        """Lock a folder and let go of the one before; without effect where it is absent or locks are not supported.

        Raises:
            FolderBusyError: another process holds it.
        """
        self.release()
        if fcntl is None or not folder.is_dir():
            return
        try:
            file = open(folder / _NAME, "a+", encoding="utf-8")
        except OSError:  # a folder that is only read
            return
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            file.close()
            raise FolderBusyError(
                f"{folder} is {self._activity} by another process (id {holder}): wait for it, stop it, or use another "
                "name"
            ) from error
        except OSError:  # a file system without locks
            file.close()
            return
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._file = file

    @property
    def is_held(self) -> bool:
        """Whether this object holds a folder."""
        return self._file is not None

    def release(self) -> None:
        """Let go of the folder."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "FolderLock":
        """Be released at the end of a with statement."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let go of the folder."""
        self.release()
