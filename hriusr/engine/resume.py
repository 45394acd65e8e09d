"""Whether a run goes on, and from where: one rule, so that the command that started a run also continues it.

| path.resume_state | the run's own folder | what happens |
|---|---|---|
| unset or auto | an unfinished run with the same options | it goes on from its newest good checkpoint |
| | anything else | it is kept under another name, a new run starts; the log says why |
| new | anything | it is kept under another name, a new run starts |
| a .state | an unfinished run with the same options, this one too | it goes on from its newest good checkpoint |
| | that .state is its newest | the run goes on from it in the same folder |
| | anything else | it is kept under another name, a run starts from that .state |
| --auto_resume | checkpoints of any options | it goes on from the newest good one, finished or not |

Options are the same if all that decides on what is learned is; how it is recorded, validated and loaded may change.
A run is finished when its summary.json says so: one that was killed after its last step still has to be validated.
Processes that torchrun or SLURM restarted follow the same rule, but go on with what they began by `new`, and do not do
a finished run again.
"""

import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from hriusr.engine.checkpoint import Checkpoint, newest_checkpoint, read_checkpoint
from hriusr.engine.distributed import Processes
from hriusr.engine.same_command import AUTO, NEW
from hriusr.errors import OptionsError, WeightsError

logger = logging.getLogger(__name__)

_NOT_LEARNED_FROM = {
    *("base", "name", "logger", "val", "tile", "num_gpu", "dist_params", "parallel", "find_unused_parameters"),
    *("auto_resume", "rank", "world_size", "dist", "root_path", "is_train"),
}
_LOADING_ONLY = {"num_worker_per_gpu", "pin_memory", "prefetch_mode", "num_prefetch_queue", "cache", "name"}
_STARTING_POINT = {f"{key}_{kind}" for key in ("pretrain_network", "param_key", "strict_load") for kind in "gd"}
_STARTING_POINT |= {"resume_state"}


class Start(NamedTuple):
    """How a run starts."""

    checkpoint: Checkpoint | None
    """What it goes on from; None: the first step."""
    keeps_folder: bool
    """The run's folder, where there is one, is used on; else it is kept under another name."""


def find_start(
    opt: Mapping[str, Any], resolved_yaml: str, *, is_seed_drawn: bool = False, is_restart: bool = False
) -> Start:
    """Read the checkpoint that a run goes on from, by the rule above.

    Args:
        opt: options in BasicSR's form.
        resolved_yaml: all options in force, as options_in_force.yml keeps them.
        is_seed_drawn: manual_seed is a new one at each start, so it says nothing.
        is_restart: a launcher started the processes once more, with what the first ones were given.

    Raises:
        OptionsError: --auto_resume and resume_state new contradict each other.
        WeightsError: a .state that was named is missing or damaged, or every checkpoint of the folder is.
    """
    wanted = opt["path"].get("resume_state") or AUTO
    if wanted == NEW:
        if opt.get("auto_resume"):
            raise OptionsError(f"--auto_resume contradicts path.resume_state: {NEW}; leave one out")
        if not (is_restart and _was_begun_anew(Path(opt["path"]["experiments_root"]))):
            return Start(None, keeps_folder=False)
        wanted = AUTO
    states = Path(opt["path"]["training_states"])
    checkpoint = newest_checkpoint(states) if opt.get("auto_resume") else None
    start = Start(checkpoint, keeps_folder=True)
    if checkpoint is None:
        start = _own_start(opt, resolved_yaml, is_seed_drawn, is_restart)
    if start.checkpoint is None and wanted != AUTO:
        keeps_folder = start.keeps_folder or _is_newest(Path(wanted), states)
        return Start(read_checkpoint(Path(wanted)), keeps_folder=keeps_folder)
    return start


def find_common_start(opt: Mapping[str, Any], resolved_yaml: str, processes: Processes, **arguments: bool) -> Start:
    """Let process 0 find the start, and all read the same checkpoint; all call, with find_start's arguments.

    Raises:
        OptionsError, WeightsError: as find_start does; or this machine does not see the checkpoint.
    """
    found: list[Start] = []

    def find() -> str | None:
        found.append(find_start(opt, resolved_yaml, **arguments))
        return str(found[0].checkpoint.state_path) if found[0].checkpoint else None

    path = processes.from_first(find)
    if processes.is_first:
        return found[0]
    if path is None:
        return Start(None, keeps_folder=True)
    if not Path(path).is_file():
        raise WeightsError(
            f"{path}, from which process 0 goes on, is not on this machine: keep experiments/ on a shared disk"
        )
    return Start(read_checkpoint(Path(path)), keeps_folder=True)


def learned_options(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what decides on what is learned: dotted key -> value, without keys that are unset."""
    kept = {key: value for key, value in values.items() if key not in _NOT_LEARNED_FROM}
    path = {key: value for key, value in (kept.get("path") or {}).items() if key in _STARTING_POINT}
    if path.get("resume_state") in (AUTO, NEW):
        del path["resume_state"]
    train_opt = (kept.get("datasets") or {}).get("train") or {}
    kept["path"] = path
    kept["datasets"] = {"train": {key: value for key, value in train_opt.items() if key not in _LOADING_ONLY}}
    return dict(_flat(kept, ""))


def repeats_until(folder: Path, resolved_yaml: str, opt: Mapping[str, Any], iteration: int) -> float:
    """Return the iteration up to which a run that goes on does again what was done in its folder, validations too.

    Args:
        folder: of the run, as the start before left it.
        resolved_yaml: all options in force now.
        opt: the same as a mapping.
        iteration: of the checkpoint that it goes on from.

    Returns:
        Infinity where it learns and is validated as before; the checkpoint's own iteration where only the validation of
        that one is the first thing to come; else -1.
    """
    if _goes_on_alike(folder, resolved_yaml):
        return math.inf
    is_validated_first = iteration % int((opt.get("val") or {}).get("val_freq", 1)) == 0
    return iteration if is_validated_first else -1


def _goes_on_alike(folder: Path, resolved_yaml: str) -> bool:
    try:
        before = yaml.safe_load((folder / "options_in_force.yml").read_text(encoding="utf-8"))
        now = yaml.safe_load(resolved_yaml)
        return learned_options(before) == learned_options(now) and _validation_of(before) == _validation_of(now)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        return False


def _validation_of(values: Mapping[str, Any]) -> dict[str, Any]:
    datasets = {entry: dataset for entry, dataset in (values.get("datasets") or {}).items() if entry != "train"}
    return {"datasets": datasets, "val": values.get("val"), "tile": values.get("tile")}


def _own_start(opt: Mapping[str, Any], resolved_yaml: str, is_seed_drawn: bool, is_restart: bool) -> Start:
    """Go on in the run's own folder if the run is unfinished and its options are the same."""
    anew, folder = Start(None, keeps_folder=False), Path(opt["path"]["experiments_root"])
    named = opt["path"].get("resume_state")
    instead = "a new run starts" if named in (None, AUTO, NEW) else f"the run starts from {named}"
    states = Path(opt["path"]["training_states"])
    if not folder.exists():
        return anew
    if not (folder / "options_in_force.yml").exists() and newest_checkpoint(states) is None:
        return Start(None, keeps_folder=True)  # killed before the first line was written: nothing to keep apart
    try:
        text = (folder / "options_in_force.yml").read_text(encoding="utf-8")
        before = learned_options(yaml.safe_load(text))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError):
        logger.warning("%s: its options cannot be read, %s; --auto_resume goes on", folder, instead)
        return anew
    now = learned_options(yaml.safe_load(resolved_yaml))
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if is_seed_drawn and "manual_seed" in changed:
        changed.remove("manual_seed")
    if changed:
        told = ", ".join(f"{key} {before.get(key)} -> {now.get(key)}" for key in changed[:5])
        more = f" and {len(changed) - 5} more" if len(changed) > 5 else ""
        logger.warning("options differ (%s%s): %s; --auto_resume goes on with these", told, more, instead)
        return anew
    checkpoint = newest_checkpoint(states)
    total_iter = int(opt["train"]["total_iter"])
    is_at_its_end = checkpoint is not None and checkpoint.state["iter"] >= total_iter
    if is_at_its_end and not is_restart and _is_told_finished(folder, total_iter):
        logger.info("%s is finished: %s", folder, instead)
        return anew
    return Start(checkpoint, keeps_folder=True)


def _was_begun_anew(folder: Path) -> bool:
    """Tell whether a run was started by path.resume_state: new."""
    try:
        values = yaml.safe_load((folder / "options_in_force.yml").read_text(encoding="utf-8"))
        return values["path"]["resume_state"] == NEW
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError):
        return False


def _is_newest(state_path: Path, states: Path) -> bool:
    """Tell whether a state is the last one of a folder, so that nothing is lost where the run goes on from it."""
    numbers = [int(path.stem) for path in states.glob("*.state") if path.stem.isdigit()]
    return bool(numbers) and state_path.resolve() == (states / f"{max(numbers)}.state").resolve()


def _is_told_finished(folder: Path, total_iter: int) -> bool:
    """Tell whether a run's summary says that it came to its end."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return summary.get("status") == "finished" and summary.get("iterations", 0) >= total_iter


def _flat(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", value
