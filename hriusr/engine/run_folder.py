"""A run's folder: made, archived when its name is used again, and told what made it."""

import json
import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hriusr.atomic_file import write_atomically
from hriusr.engine.versions import collect_versions, uncommitted_changes
from hriusr.errors import HriusrError

logger = logging.getLogger(__name__)


def archive_folder(folder: Path) -> Path | None:
    """Rename a folder out of the way, as BasicSR does.

    Args:
        folder: may be absent.

    Returns:
        Its new name, with a time stamp; None where there was none.

    Raises:
        HriusrError: it cannot be renamed.
    """
    if not folder.exists():
        return None
    stamp = f"{folder.name}_archived_{time_stamp()}"
    archived, count = folder.with_name(stamp), 1
    while archived.exists():  # two starts within a second
        count += 1
        archived = folder.with_name(f"{stamp}_{count}")
    try:
        folder.rename(archived)
    except OSError as error:
        raise HriusrError(f"cannot rename {folder} to {archived.name}: {error.strerror}; use another name") from error
    logger.info("%s exists; it is kept as %s", folder, archived.name)
    return archived


def make_folders(*folders: str | Path) -> None:
    """Make folders, with those above them.

    Raises:
        HriusrError: one cannot be made.
    """
    for folder in folders:
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise HriusrError(f"cannot make the folder {folder}: {error.strerror}") from error


def record_origin(folder: Path, opt: Mapping[str, Any], option_file: Path | None, resolved_yaml: str) -> None:
    """Write what made a run: the option file as it was, all options in force, versions, hardware, uncommitted changes.

    Args:
        folder: of the run.
        opt: options in BasicSR's form.
        option_file: the user's file, copied under its name; None where the options came from a program.
        resolved_yaml: options with bases merged and defaults filled in.
    """
    if option_file is not None and option_file.is_file():
        write_atomically(folder / option_file.name, option_file.read_bytes())
    write_atomically(folder / "options_in_force.yml", resolved_yaml.encode("utf-8"))
    patch = uncommitted_changes()
    if patch is not None:
        write_atomically(folder / "uncommitted.patch", patch)
    versions = {"time": time.strftime("%Y-%m-%d %H:%M:%S %z"), "seed": opt.get("manual_seed"), **collect_versions()}
    write_atomically(folder / "versions.json", (json.dumps(versions, indent=2) + "\n").encode("utf-8"))
    logger.info("%s", ", ".join(f"{name} {version}" for name, version in versions.items()))


def time_stamp() -> str:
    """Return the local time as BasicSR writes it into file names."""
    return time.strftime("%Y%m%d_%H%M%S")
