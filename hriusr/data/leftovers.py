"""What a killed process has left behind: the temporary files and folders that bear its number."""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Set
from pathlib import Path

_QUIET = 60  # seconds; a database that is written on another machine, whose processes are not seen here, grows


def remove_leftover_files(folder: Path, name: str | None = None) -> None:
    """Remove `.<name>.<process>.tmp`, which writing atomically leaves when it is killed, of processes that are gone.

    Args:
        folder: where to look.
        name: of the file that was to be written; None: any.
    """
    pattern = re.compile(rf"\.{'.*' if name is None else re.escape(name)}\.(\d+)\.tmp")
    for path in folder.glob(".*.tmp"):
        match = pattern.fullmatch(path.name)
        if match and not _is_running(int(match[1])) and not path.is_dir():
            path.unlink(missing_ok=True)


def remove_leftover_folders(target: Path, names: Set[str]) -> None:
    """Remove `.<target>.<process>.tmp` and `.old.tmp` of processes that are gone, where nothing was written lately.

    Args:
        target: the folder that was to be made.
        names: files that it consists of; a folder with others in it stays.
    """
    pattern = re.compile(rf"\.{re.escape(target.name)}\.(\d+)(\.old)?\.tmp")
    for path in target.parent.glob(".*.tmp"):
        match = pattern.fullmatch(path.name)
        if match is None or _is_running(int(match[1])) or not path.is_dir() or path.is_symlink():
            continue
        if match[2] and not target.exists():  # the process ended between two renames: there is no other copy
            continue
        with contextlib.suppress(OSError):
            files = list(path.iterdir())
            newest = max(file.stat().st_mtime for file in (path, *files))
            if {file.name for file in files} <= names and time.time() - newest > _QUIET:
                shutil.rmtree(path)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's; no number of a process
        return True
    return True
