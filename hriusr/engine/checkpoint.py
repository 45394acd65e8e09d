"""Checkpoints of a run: written whole, found again, checked, the newest good one taken, old ones dropped.

A checkpoint is models/net_g_<iteration>.pth (weights, running mean, constructor arguments) and, written after it,
training_states/<iteration>.state (all else). Where the .state is, the checkpoint is complete. Each file's SHA-256
stands in SHA256SUMS beside it, and torch's files carry a CRC-32 for each tensor; reading verifies both.
"""

import logging
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hriusr.archs.weights import load_torch_file
from hriusr.atomic_file import torch_bytes
from hriusr.checked_file import forget_missing, link_checked, remove_checked, write_checked
from hriusr.errors import HriusrError, WeightsError

logger = logging.getLogger(__name__)

FileContents = Mapping[Path, Mapping[str, Any]]


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


def write_files(contents: FileContents, what: str, going_on: str = "the same command") -> Path:
    """Write files of a checkpoint, in their order.

    Args:
        contents: path -> tensors and plain types, which nothing else changes meanwhile.
        what: for messages and the log.
        going_on: the command that goes on with the run, for messages.

    Returns:
        The last path.

    Raises:
        HriusrError: the disk is full; files from before are intact.
    """
    start, path = time.perf_counter(), None
    try:
        for path, content in contents.items():
            write_checked(path, torch_bytes(content))
    except HriusrError as error:
        raise HriusrError(
            f"{what} was not saved, training stops: {error}. Earlier checkpoints are intact: make room and start again "
            f"with {going_on} to go on"
        ) from error
    logger.info("%s: %s (%.1f s beside the training)", what, path, time.perf_counter() - start)
    return path


def drop_old_checkpoints(path_opt: Mapping[str, str], newest: int, keep: int | None, keep_every: int | None) -> None:
    """Delete checkpoints but for the newest ones; to be called when the newest is on the disk.

    Those after `newest` are of another attempt and are left alone.

    Args:
        path_opt: options `path`: models, training_states.
        newest: iteration of the one that was just written; always kept.
        keep: how many to keep, at least 1; None: all.
        keep_every: those at its multiples are kept besides.
    """
    states = Path(path_opt["training_states"])
    if keep is None:
        return
    iterations = sorted(number for number in _iterations(states) if number <= newest)
    old = [number for number in iterations[:-keep] if not (keep_every and number % keep_every == 0)]
    # the .state last: should a kill come in between, the next call finds it and deletes what is left
    remove_checked(*(path for number in old for path in Path(path_opt["models"]).glob(f"net_*_{number}.pth")))
    remove_checked(*(states / f"{number}.state" for number in old))
    if old:
        logger.info("dropped old checkpoints: %s", ", ".join(map(str, old)))


def newest_checkpoint(folder: Path) -> Checkpoint | None:
    """Read the newest good checkpoint.

    Args:
        folder: training_states of a run; may be absent.

    Returns:
        None: there is none at all.

    Raises:
        WeightsError: every one is damaged.
    """
    iterations = sorted(_iterations(folder), reverse=True)
    for iteration in iterations:
        try:
            return read_checkpoint(folder / f"{iteration}.state")
        except WeightsError as error:
            logger.warning("%s; going back to the checkpoint before", error)
    if iterations:
        raise WeightsError(
            f"none of the {len(iterations)} checkpoints in {folder} can be read; to start anew, keeping them: "
            "--force_yml path:resume_state=new"
        )
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
    told = "give one of experiments/<name>/training_states/ as path.resume_state"
    try:
        state = load_torch_file(state_path)
    except WeightsError as error:
        raise WeightsError(f"path.resume_state: {error}; {told}") from error
    if not isinstance(state, Mapping) or not {"iter", "optimizers", "schedulers"} <= set(state):
        raise WeightsError(f"{state_path} is no training state; {told}")
    weights_path = state_path.parent.parent / "models" / f"net_g_{state['iter']}.pth"
    if not weights_path.is_file():
        raise WeightsError(f"{state_path} has no weights beside it: {weights_path} is missing")
    load_torch_file(weights_path)  # verifies
    if "guard_d" in state:
        discriminator = discriminator_path(weights_path)
        if not discriminator.is_file():
            raise WeightsError(f"{state_path} has no discriminator beside it: {discriminator} is missing")
        load_torch_file(discriminator)
    return Checkpoint(state_path, weights_path, dict(state))


def point_to_weights(opt: dict[str, Any], checkpoint: Checkpoint) -> None:
    """Let the model load the checkpoint's weights, whatever the options start from; opt is changed."""
    if opt["path"].get("pretrain_network_g"):
        logger.info("path.pretrain_network_g is not used: the run goes on from %s", checkpoint.state_path)
    opt["path"].update(pretrain_network_g=str(checkpoint.weights_path), param_key_g="params", strict_load_g=True)

    discriminator = discriminator_path(checkpoint.weights_path)
    if discriminator.is_file():
        opt["path"].update(pretrain_network_d=str(discriminator), param_key_d="params", strict_load_d=True)


def discriminator_path(weights_path: Path) -> Path:
    """Return where the discriminator of a checkpoint is: net_d_<iteration>.pth beside net_g_<iteration>.pth."""
    return weights_path.with_name(weights_path.name.replace("net_g", "net_d", 1))


def set_aside_later_checkpoints(path_opt: Mapping[str, str], iteration: int) -> None:
    """Rename the states after the one that a run goes on from: they are damaged, or of an attempt given up.

    Args:
        path_opt: options `path`: training_states.
        iteration: where the run goes on.
    """
    folder = Path(path_opt["training_states"])
    for number in sorted(number for number in _iterations(folder) if number > iteration):
        path = folder / f"{number}.state"
        aside = path.with_name(f"{path.name}.set_aside")
        path.replace(aside)
        remove_checked(path)
        logger.warning("%s is of after iteration %d and is kept as %s", path, iteration, aside.name)


def keep_in_reach(checkpoint: Checkpoint, folder: Path, archived: Path) -> None:
    """Give a run's folder the checkpoint it starts from, where that went away with the folder before.

    So the same command finds it again, and what was measured until then stays the run's.

    Args:
        checkpoint: whose paths are those from before.
        folder: of the run, with its folders.
        archived: what the folder before is called now.
    """
    if not checkpoint.state_path.resolve().is_relative_to(folder.resolve()):
        return
    weights = checkpoint.weights_path
    for path in (discriminator_path(weights), weights, checkpoint.state_path):
        source = archived / path.resolve().relative_to(folder.resolve())
        if source.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            link_checked(source, path)
    if (archived / "metrics.jsonl").is_file():
        shutil.copyfile(archived / "metrics.jsonl", folder / "metrics.jsonl")


def remove_leftovers(path_opt: Mapping[str, str]) -> None:
    """Delete unfinished files that a killed process left in the folders of checkpoints, and checksums of none."""
    for key in ("models", "training_states"):
        for path in Path(path_opt[key]).glob(".*.tmp"):
            path.unlink(missing_ok=True)
        forget_missing(Path(path_opt[key]))


def _iterations(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.state") if path.stem.isdigit()]
