"""Checkpoints of a run: written whole, found again, checked, the newest good one taken.

A checkpoint is models/net_g_<iteration>.pth (weights, running mean, constructor arguments) and, written after it,
training_states/<iteration>.state (all else). Where the .state is, the checkpoint is complete. Torch's files carry a
CRC-32 for each tensor; reading verifies it.
"""

import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hriusr.archs.weights import load_torch_file
from hriusr.atomic_file import write_atomically
from hriusr.errors import HriusrError, WeightsError
from hriusr.models.sr_model import RestorationModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read.

    Attributes:
        state_path: its .state.
        weights_path: its .pth.
        state: content of the .state.
    """

    state_path: Path
    weights_path: Path
    state: dict[str, Any]


def save_checkpoint(model: RestorationModel, iteration: int, extra: Mapping[str, Any]) -> Path:
    """Write a checkpoint.

    Args:
        model: its options name the folders.
        iteration: number of steps done.
        extra: what the loop keeps: tensors and plain types.

    Returns:
        The path of the .state.

    Raises:
        HriusrError: the disk is full; checkpoints from before are intact.
    """
    state_path = None
    try:
        for path, content in model.checkpoint_files(0, iteration, extra).items():
            write_atomically(path, content)
            state_path = path
    except HriusrError as error:
        raise HriusrError(
            f"the checkpoint of iteration {iteration} was not saved, training stops: {error}. Earlier checkpoints are "
            "intact: make room and go on with --auto_resume"
        ) from error
    return state_path


def find_checkpoint(opt: Mapping[str, Any]) -> Checkpoint | None:
    """Read the checkpoint that a run goes on from.

    Args:
        opt: options in BasicSR's form: auto_resume takes the newest good checkpoint of the run's own folder,
            path.resume_state names one.

    Returns:
        None: the run starts anew.

    Raises:
        WeightsError: path.resume_state is missing or damaged, or every checkpoint of the folder is.
    """
    if opt.get("auto_resume"):
        folder = Path(opt["path"]["training_states"])
        paths = [path for path in folder.glob("*.state") if path.stem.isdigit()]
        paths.sort(key=lambda path: int(path.stem), reverse=True)
        for path in paths:
            try:
                return read_checkpoint(path)
            except WeightsError as error:
                logger.warning("%s; going back to the checkpoint before", error)
        if paths:
            raise WeightsError(
                f"none of the {len(paths)} checkpoints in {folder} can be read; start without --auto_resume"
            )
    if opt["path"].get("resume_state"):
        return read_checkpoint(Path(opt["path"]["resume_state"]))
    return None


def read_checkpoint(state_path: Path) -> Checkpoint:
    """Read and verify one checkpoint.

    Args:
        state_path: a .state of ours or of BasicSR; its weights are looked for beside its folder, in models/.

    Raises:
        WeightsError: a file is missing, damaged or no training state.
    """
    if not state_path.is_file():
        raise WeightsError(f"no training state {state_path}; check path.resume_state (relative to where you run)")
    state = load_torch_file(state_path)
    if not isinstance(state, Mapping) or not {"iter", "optimizers", "schedulers"} <= set(state):
        raise WeightsError(
            f"{state_path} is no training state; give one of experiments/<name>/training_states/ as path.resume_state"
        )
    weights_path = state_path.parent.parent / "models" / f"net_g_{state['iter']}.pth"
    if not weights_path.is_file():
        raise WeightsError(f"{state_path} has no weights beside it: {weights_path} is missing")
    load_torch_file(weights_path)  # verifies
    return Checkpoint(state_path, weights_path, dict(state))


def point_to_weights(opt: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Let the model load the checkpoint's weights, whatever the options start from; opt is changed."""
    if opt["path"].get("pretrain_network_g"):
        logger.info("path.pretrain_network_g is not used: the run goes on from %s", checkpoint.state_path)
    opt["path"].update(pretrain_network_g=str(checkpoint.weights_path), param_key_g="params", strict_load_g=True)


def link_latest(weights_path: Path) -> Path:
    """Give the last weights the name net_g_latest.pth too, as BasicSR's test options expect it."""
    latest = weights_path.with_name("net_g_latest.pth")
    temporary = latest.with_name(f".{latest.name}.{os.getpid()}.tmp")
    temporary.unlink(missing_ok=True)
    try:
        os.link(weights_path, temporary)
    except OSError:  # a file system without hard links
        shutil.copyfile(weights_path, temporary)
    os.replace(temporary, latest)
    return latest
