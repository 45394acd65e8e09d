"""From options to trained weights: put a training run together and let it run.

    options -> checkpoint, data, model -> folder, records -> TrainingRun: [step -> log -> checkpoint -> validation]

Everything is built and checked before anything is written.
"""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from hriusr.data.loader import build_train_loader, telling_of_dead_workers
from hriusr.engine.best_weights import best_in_reach, choose_metrics
from hriusr.engine.build import as_basicsr_dict, build_model, resolved_options
from hriusr.engine.checkpoint import (
    point_to_weights,
    remove_leftovers,
    set_aside_later_checkpoints,
)
from hriusr.engine.checkpoint_writer import CheckpointWriter
from hriusr.engine.distributed import SharedStop, Silence, joined_processes, restart_reason
from hriusr.engine.logging_setup import run_logging
from hriusr.engine.progress import TrainingProgress
from hriusr.engine.randomness import seed_everything
from hriusr.engine.recorder import Recorder
from hriusr.engine.resume import find_common_start, repeats_until
from hriusr.engine.run_state import RunState, restore_run_randomness
from hriusr.engine.run_summary import summarised
from hriusr.engine.same_command import same_command
from hriusr.engine.sinks import import_wandb, open_sinks, uses_wandb
from hriusr.engine.stop_signal import StopSignal
from hriusr.engine.training_run import TrainingRun, TrainingSummary
from hriusr.engine.training_setup import (
    build_data,
    open_folder,
    refuse_weights_in,
    start_state,
    tensorboard_folder,
    uses_tensorboard,
    with_seed,
)
from hriusr.folder_lock import FolderLock, one_at_a_time
from hriusr.metrics.measure import check_metrics

if TYPE_CHECKING:
    from hriusr.options import Options

logger = logging.getLogger(__name__)


def train(options: "Options | Mapping[str, Any]") -> TrainingSummary:
    """Train a network as the options say; writes experiments/<name>/ and tb_logger/<name>/.

    Args:
        options: of a training; or their dict in BasicSR's form.

    Returns:
        What came out.

    Raises:
        OptionsError, DataError, WeightsError: before anything is written, where it can be seen then.
        HriusrError: the disk is full, or too many steps in a row were not finite.
        SystemExit: SIGINT (130) or SIGTERM (143), after a checkpoint was saved.
    """
    opt = as_basicsr_dict(options)
    rank = opt.get("rank", 0)
    with (
        run_logging(rank) as log,
        joined_processes(opt) as processes,
        StopSignal(is_quiet=rank != 0) as signals,
        FolderLock() as lock,
    ):
        stop = SharedStop(signals, processes)
        restart = restart_reason() if opt.get("dist") else None
        if restart:
            logger.info("%s: going on from the newest checkpoint, if this run has one", restart)
        folder = Path(opt["path"]["experiments_root"])
        if processes.is_first:
            lock.take(folder)
        resolved_yaml = resolved_options(options)
        is_seed_drawn = not isinstance(options, Mapping) and options.run.is_seed_drawn
        told = {"is_seed_drawn": is_seed_drawn, "is_restart": bool(restart)}
        checkpoint, keeps_folder = find_common_start(opt, resolved_yaml, processes, **told)
        if not keeps_folder:
            refuse_weights_in(folder, opt["path"])
        if checkpoint:
            point_to_weights(opt, checkpoint)
        if uses_wandb(opt):
            import_wandb()  # its absence is said before anything is written
        metrics_opt = check_metrics((opt.get("val") or {}).get("metrics"))
        data = build_data(opt)
        best_metrics = choose_metrics((opt.get("val") or {}).get("best_metric"), data.val_loaders, metrics_opt)
        state = start_state(opt, data, checkpoint, is_seed_drawn=is_seed_drawn)
        opt["manual_seed"] = state.seed
        if is_seed_drawn:  # one that was given stays in the record, by which the same command is known again
            resolved_yaml = with_seed(resolved_yaml, state.seed)
        seed_everything(state.seed + rank)
        model = build_model(opt)
        if checkpoint:
            model.resume_training(checkpoint.state)

        archived, repeated = None, -1
        processes.wait_for_all()  # none reads any more what process 0 is about to rename
        if processes.is_first:
            with one_at_a_time(folder):
                lock.take(folder)  # once more: another process may have made it since
                if checkpoint:
                    repeated = repeats_until(folder, resolved_yaml, opt, state.iteration)
                archived = open_folder(
                    opt, options, resolved_yaml, log, keeps_folder=keeps_folder, checkpoint=checkpoint
                )
                lock.take(folder)
            remove_leftovers(opt["path"])
            set_aside_later_checkpoints(opt["path"], state.iteration)
        if checkpoint:
            others = [checkpoint.weights_path.parent, *([archived / "models"] if archived else [])]
            models = Path(opt["path"]["models"])
            state.best = processes.from_first(
                lambda: best_in_reach(state, best_metrics, models, others, repeats_until=repeated)
            )
        torch.backends.cudnn.benchmark = not torch.are_deterministic_algorithms_enabled()
        with (
            _open_recorder(opt, state) if processes.is_first else Silence() as recorder,
            TrainingProgress(log.console, int(opt["train"]["total_iter"]), state.iteration) as progress,
            CheckpointWriter() if processes.is_first else Silence() as writer,
        ):
            batches = build_train_loader(
                data.train_set,
                data.train_opt,
                seed=state.seed,
                rank=rank,
                world_size=processes.count,
                start_position=state.position,
                start_iteration=state.iteration,
            )
            if checkpoint:  # last of all: what is built before may draw random numbers
                restore_run_randomness(checkpoint.state, processes, state.seed)
                logger.info("going on from iteration %d of %s", state.iteration, checkpoint.state_path)
            run = TrainingRun(
                opt,
                model,
                state,
                batches,
                data.val_loaders,
                metrics_opt=metrics_opt,
                best_metrics=best_metrics,
                processes=processes,
                recorder=recorder,
                writer=writer,
                progress=progress,
                stop=stop,
                last_checkpoint=checkpoint.state_path if checkpoint else None,
            )
            is_told = summarised(run, resolved_yaml) if processes.is_first else contextlib.nullcontext()
            with is_told, telling_of_dead_workers():
                return run.run()


def _open_recorder(opt: Mapping[str, Any], state: RunState) -> Recorder:
    folder = Path(opt["path"]["experiments_root"])
    tensorboard = tensorboard_folder(opt) if uses_tensorboard(opt) else None
    sinks = open_sinks(opt, folder, tensorboard, state.iteration)
    return Recorder(folder, state, sinks, going_on=same_command(opt))
