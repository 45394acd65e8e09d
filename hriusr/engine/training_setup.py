"""What a training run needs before its first step: data, counters, folder."""

import logging
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import DataLoader, Dataset

from hriusr.data.loader import build_val_loader
from hriusr.engine.build import build_dataset
from hriusr.engine.checkpoint import Checkpoint, keep_in_reach
from hriusr.engine.logging_setup import RunLog
from hriusr.engine.run_folder import archive_folder, make_folders, record_origin, time_stamp
from hriusr.engine.run_state import Protocols, RunState
from hriusr.errors import OptionsError
from hriusr.options.basicsr_form import phase_of

if TYPE_CHECKING:
    from hriusr.options import Options

logger = logging.getLogger(__name__)

_WHICH_PICTURES = ("dataroot_gt", "dataroot_lq", "meta_info_file")


@dataclass(frozen=True)
class TrainingData:
    """Pictures of a run.

    Attributes:
        train_set: what is trained on.
        train_opt: its options; batch_size_per_gpu is that of a whole step, all accumulated parts together.
        val_loaders: dataset's name -> one picture a batch.
    """

    train_set: Dataset
    train_opt: dict[str, Any]
    val_loaders: dict[str, DataLoader]


def build_data(opt: Mapping[str, Any]) -> TrainingData:
    """Build the training set and the validation sets.

    Raises:
        OptionsError: no training set, or two validation sets of one name.
        DataError: what the datasets find wrong with the pictures.
    """
    train_set, train_opt = None, {}
    val_loaders: dict[str, DataLoader] = {}
    for entry, dataset_opt in opt["datasets"].items():
        phase = dataset_opt.get("phase", phase_of(entry))
        if phase == "train":
            train_set, train_opt = build_dataset(entry, dataset_opt), dict(dataset_opt)
        elif phase == "val" and opt.get("val"):
            if dataset_opt["name"] in val_loaders:
                raise OptionsError(f"datasets.{entry}.name: two validation sets are called {dataset_opt['name']!r}")
            val_loaders[dataset_opt["name"]] = build_val_loader(
                build_dataset(entry, dataset_opt), rank=opt.get("rank", 0), world_size=opt.get("world_size", 1)
            )
    if train_set is None:
        raise OptionsError("datasets.train is missing: name the pictures to train on")
    accumulation = opt["train"].get("accumulation") or 1
    train_opt["batch_size_per_gpu"] *= accumulation
    train_opt["progressive"] = [
        {**stage, "batch_size": stage["batch_size"] * accumulation} if stage.get("batch_size") else stage
        for stage in train_opt.get("progressive") or ()
    ]
    return TrainingData(train_set, train_opt, val_loaders)


def start_state(
    opt: Mapping[str, Any], data: TrainingData, checkpoint: Checkpoint | None, *, is_seed_drawn: bool = False
) -> RunState:
    """Return the counters of a new run, or those of the checkpoint; what makes the resumed run differ is logged."""
    samples_per_step = data.train_opt["batch_size_per_gpu"] * opt.get("world_size", 1)
    seed = opt.get("manual_seed") or 0
    if is_seed_drawn and checkpoint:  # that of the first start stays: the one drawn now was never asked for
        seed = checkpoint.state.get("run", {}).get("seed", seed)
    state = RunState(seed=seed, samples_per_step=samples_per_step, protocols=_protocols(opt))
    for reason in state.load_state_dict(checkpoint.state) if checkpoint else []:
        logger.warning("the resumed run will differ from an uninterrupted one: %s", reason)
    return state


def _protocols(opt: Mapping[str, Any]) -> Protocols:
    """Say what the values of each metric on each validation set depend on, beside the weights."""
    metrics_opt = (opt.get("val") or {}).get("metrics") or {}
    pictures = {
        dataset_opt["name"]: {key: dataset_opt[key] for key in _WHICH_PICTURES if dataset_opt.get(key) is not None}
        for entry, dataset_opt in opt["datasets"].items()
        if dataset_opt.get("phase", phase_of(entry)) == "val"
    }
    return {
        name: {label: {**metric_opt, **which} for label, metric_opt in metrics_opt.items()}
        for name, which in pictures.items()
    }


def with_seed(resolved_yaml: str, seed: int) -> str:
    """Return all options in force with the seed that a resumed run goes on with."""
    return re.sub(r"(?m)^manual_seed:.*$", f"manual_seed: {seed}", resolved_yaml)


def refuse_weights_in(folder: Path, path_opt: Mapping[str, Any]) -> None:
    """Refuse to start from weights in a folder that is about to be kept under another name.

    The same command would not find them again, or find others of their name.

    Args:
        folder: of the run.
        path_opt: options `path`.

    Raises:
        OptionsError: pretrain_network_g or pretrain_network_d lies in it.
    """
    for key in ("pretrain_network_g", "pretrain_network_d"):
        path = Path(path_opt.get(key) or "")
        places = (path.parent.resolve() / path.name, path.resolve())  # a link counts where it is and where it leads
        if path_opt.get(key) and any(place.is_relative_to(folder.resolve()) for place in places):
            copy = folder.parent / f"{folder.name}_{path.name}"
            raise OptionsError(
                f"path.{key} (={str(path)!r}) lies in {folder}, which a new run of this name keeps under another one; "
                f"name a copy (cp {shlex.quote(str(path))} {shlex.quote(str(copy))}), or give the run another name"
            )


def open_folder(
    opt: Mapping[str, Any],
    options: "Options | Mapping[str, Any]",
    resolved_yaml: str,
    log: RunLog,
    *,
    keeps_folder: bool,
    checkpoint: Checkpoint | None = None,
) -> Path | None:
    """Make the run's folders and log file; those of an earlier run of the same name are archived, unless kept.

    Args:
        opt: options in BasicSR's form.
        options: as the user gave them.
        resolved_yaml: all options in force.
        log: told where its file is.
        keeps_folder: go on in the same folders.
        checkpoint: that the run starts from; stays where it is named, also if it is one of the earlier run.

    Returns:
        What the folder of the earlier run is called now; None: there was none, or it is used on.
    """
    folder = Path(opt["path"]["experiments_root"])
    archived = None
    if not keeps_folder:
        archived = archive_folder(folder)
        archive_folder(tensorboard_folder(opt))
    make_folders(folder, opt["path"]["models"], opt["path"]["training_states"])
    if archived and checkpoint:
        keep_in_reach(checkpoint, folder, archived)
    log.write_to(folder / f"train_{opt['name']}_{time_stamp()}.log")
    option_file = None if isinstance(options, Mapping) else options.run.option_file
    record_origin(folder, opt, option_file, resolved_yaml)
    return archived


def tensorboard_folder(opt: Mapping[str, Any]) -> Path:
    """Return where TensorBoard files of a run go."""
    return Path(opt.get("root_path", "."), "tb_logger", opt["name"])


def uses_tensorboard(opt: Mapping[str, Any]) -> bool:
    """Tell whether a run writes TensorBoard files; a debug run does not."""
    return bool(opt["logger"].get("use_tb_logger")) and "debug" not in opt["name"]
