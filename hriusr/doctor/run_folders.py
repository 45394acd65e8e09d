"""Can the run's folders be made and written? Nothing is tried: permissions are read."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hriusr.doctor.findings import Report
from hriusr.engine.training_setup import tensorboard_folder, uses_tensorboard


def check_folders(opt: Mapping[str, Any], report: Report) -> None:
    """Note folders of a run that cannot be made, renamed or written.

    Args:
        opt: options in BasicSR's form.
        report: where findings go.
    """
    for folder in _folders(opt):
        there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not there.is_dir():
            problem, remedy = f"{there} is no folder", "move it away"
        elif not os.access(there, os.W_OK | os.X_OK):
            problem, remedy = f"{there} must not be written", "give yourself the right to (chmod, chown)"
        else:
            continue
        if all(finding.place != str(there) for finding in report.findings):
            report.add("error", str(there), f"{folder} cannot be made: {problem}", f"{remedy}, or start elsewhere")


def _folders(opt: Mapping[str, Any]) -> list[Path]:
    """List what is written to; the folder above too, where an earlier run of the name is renamed."""
    if not opt["is_train"]:
        run = Path(opt["path"]["results_root"]).absolute()
        return [run.parent, run]
    run = Path(opt["path"]["experiments_root"]).absolute()
    folders = [run.parent, *(Path(opt["path"][key]).absolute() for key in ("models", "training_states"))]
    return [*folders, tensorboard_folder(opt).absolute()] if uses_tensorboard(opt) else folders
