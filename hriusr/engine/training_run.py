"""The steps of a training run, and what happens between them: log, checkpoint, validation, leaving.

A checkpoint is written before the validation of the same step; a run that is resumed there validates first. Validation
does not touch random numbers. So an interrupted and resumed run equals one that was never interrupted, bit for bit.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from hriusr.checked_file import link_checked
from hriusr.engine.best_weights import ChosenMetric, best_weights, deciding_metric, is_best_now
from hriusr.engine.checkpoint import drop_old_checkpoints, write_files
from hriusr.engine.checkpoint_writer import CheckpointWriter
from hriusr.engine.distributed import Processes, SharedStop, Silence
from hriusr.engine.progress import TrainingProgress
from hriusr.engine.randomness import untouched_randomness
from hriusr.engine.recorder import Recorder
from hriusr.engine.run_state import BestMetrics, RunState, run_randomness
from hriusr.engine.same_command import same_command
from hriusr.engine.sinks import uses_wandb
from hriusr.engine.speedometer import Speedometer, duration
from hriusr.engine.training_setup import uses_tensorboard
from hriusr.engine.validation import OnPicture, SeenPictures, in_dataset_order, validate
from hriusr.errors import HriusrError
from hriusr.metrics.measure import MetricOptions
from hriusr.metrics.report import PictureRow, dataset_means, format_value
from hriusr.models.sr_model import RestorationModel

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingSummary:
    """What a finished run gives.

    Attributes:
        iteration: steps done.
        seconds: spent training and validating, over all starts.
        metrics: dataset -> label -> value, of the last validation.
        best: dataset -> label -> {"val", "iter", "better"}.
        weights: file of the last weights; on process 0 alone.
        folder: of the run.
    """

    iteration: int
    seconds: float
    metrics: dict[str, dict[str, float]]
    best: BestMetrics
    weights: Path | None
    folder: Path


class _Stopped(Exception):  # noqa: N818 - no error
    """A signal came."""


class TrainingRun:
    """Does steps, and between them logs, saves and validates."""

    def __init__(
        self,
        opt: Mapping[str, Any],
        model: RestorationModel,
        state: RunState,
        batches: Iterator[Mapping[str, Any]],
        val_loaders: Mapping[str, DataLoader],
        *,
        metrics_opt: MetricOptions,
        best_metrics: list[ChosenMetric],
        processes: Processes,
        recorder: Recorder | Silence,
        writer: CheckpointWriter | Silence,
        progress: TrainingProgress,
        stop: SharedStop,
        last_checkpoint: Path | None,
    ):
        """Take over everything a run consists of.

        Args:
            opt: options in BasicSR's form.
            model: standing at state.iteration.
            state: counters.
            batches: endless, from the sample that the next step takes.
            val_loaders: name -> this process's share of the pictures to validate on.
            metrics_opt: label -> metric.
            best_metrics: the first of them that is measured decides on the best weights.
            processes: that train together; all run this, and are at the same step.
            recorder: of measurements; silent but on process 0.
            writer: of checkpoints, beside the training; likewise.
            progress: on the terminal.
            stop: tells when to leave.
            last_checkpoint: the .state the run goes on from.
        """
        self.opt, self.model, self.state = opt, model, state
        self.batches, self.val_loaders, self.metrics_opt = batches, val_loaders, metrics_opt
        self.processes, self.recorder, self.writer = processes, recorder, writer
        self.progress, self.stop = progress, stop
        self.total_iter = int(opt["train"]["total_iter"])
        self.speed = Speedometer(state.iteration, self.total_iter, state.seconds)
        self.best_metrics = best_metrics
        self.going_on = same_command(opt)
        self.last_checkpoint = last_checkpoint
        self.saved_iteration = state.iteration if last_checkpoint else None
        self.last_metrics: dict[str, dict[str, float]] = {}

    def run(self) -> TrainingSummary:
        """Train until total_iter.

        Returns:
            What came out.

        Raises:
            HriusrError, SystemExit: as train does.
        """
        state = self.state
        logger.info("steps %d to %d, %d samples a step", state.iteration + 1, self.total_iter, state.samples_per_step)
        try:
            if state.iteration and self._is_validation_due():  # the run was cut off between checkpoint and validation
                self._validate()
            while state.iteration < self.total_iter:
                self._step()
                self.stop.after_step()
                is_last = state.iteration == self.total_iter
                if state.iteration % self.opt["logger"]["print_freq"] == 0:
                    self._log()
                self._show_histograms()
                if is_last or state.iteration % self.opt["logger"]["save_checkpoint_freq"] == 0:
                    self._save()
                if self._is_validation_due():
                    self._validate()
                if self.stop.number is not None and not is_last:
                    raise _Stopped
        except _Stopped:
            self._leave()
        finally:
            self._end_loading()
        self.stop.end_vote()
        return self._finish()

    def _step(self) -> None:
        iteration = self.state.iteration + 1
        self.writer.check()
        with self.speed.during("data"):
            batch = next(self.batches)
        self.model.update_learning_rate(iteration, self.opt["train"].get("warmup_iter", -1))
        self.model.feed_data(batch)
        self.model.optimize_parameters(iteration)
        self.state.iteration = iteration
        self.state.position += len(batch["lq"] if "lq" in batch else batch["gt"]) * self.processes.count
        self.progress.step(iteration)
        # reading the counters waits for a GPU: not at every step there
        if self.model.device.type == "cpu" or iteration % self.opt["logger"]["print_freq"] == 0:
            self._check_finite()

    def _check_finite(self) -> None:
        counts, iteration = self.model.guard_counters(), self.state.iteration
        in_a_row, most = counts["consecutive"], self.opt["train"].get("max_nonfinite_steps", 100)
        for step in self.model.left_out_steps.take():
            counted = f"not finite: {in_a_row} in a row, {counts['total']} in all"
            if step.is_spike:
                counted = f"spikes: {counts['spikes']['total']} in all"
            logger.warning("%s (%s)", step, counted)
        if in_a_row >= most:
            last = (
                f"the last good checkpoint is {self.last_checkpoint}" if self.last_checkpoint else "none was saved yet"
            )
            raise HriusrError(
                f"iteration {iteration}: {in_a_row} steps in a row had a loss or gradient that is not finite "
                f"(train.max_nonfinite_steps: {most}); {last}. Lower train.optim_g.lr, set train.grad_clip_norm, "
                "use precision bf16 or fp32, or look for faulty pictures"
            )

    def _log(self) -> None:
        iteration, losses = self.state.iteration, self.model.get_current_log()
        rate = self.model.get_current_learning_rate()[0]
        speed = self.speed.read(iteration)
        self.recorder.train(iteration, losses, rate, speed)
        words = "  ".join(f"{label} {value:.4e}" for label, value in losses.items())
        note = f"{words}  lr {rate:.3e}  {speed.iterations_per_second:.2f} it/s"
        self.progress.note(note)
        waiting, left = f"data {speed.data_share:.0%}", f"eta {duration(speed.seconds_left)}"
        logger.info("[%d/%d] %s  %s  %s", iteration, self.total_iter, note, waiting, left)

    def _show_histograms(self) -> None:
        frequency = self.opt["logger"].get("histogram_freq") or 0
        if frequency and self.state.iteration % frequency == 0:
            network = self.model.get_bare_model(self.model.net_g)
            self.recorder.histograms(self.state.iteration, network.named_parameters())

    def _save(self) -> None:
        iteration, path_opt, logger_opt = self.state.iteration, self.opt["path"], self.opt["logger"]
        keep, keep_every = logger_opt.get("keep_checkpoints"), logger_opt.get("keep_every")
        self.state.seconds = self.speed.split()
        with self.speed.during("save"):
            self.writer.wait()  # before copying: two copies at once need not fit into memory
            extra = {**self.state.state_dict(), **run_randomness(self.processes)}
            contents = self.model.checkpoint_files(0, iteration, extra)

        def write() -> None:
            self.last_checkpoint = write_files(contents, f"the checkpoint of iteration {iteration}", self.going_on)
            drop_old_checkpoints(path_opt, iteration, keep, keep_every)

        self.writer.submit(write)
        self.saved_iteration = iteration

    def _is_validation_due(self) -> bool:
        state = self.state
        if not self.val_loaders or state.validated_iteration == state.iteration:
            return False
        return state.iteration % int(self.opt["val"]["val_freq"]) == 0 or state.iteration == self.total_iter

    def _validate(self) -> None:
        metrics = {}
        with untouched_randomness(), self.speed.during("validation"), self.model.validating():
            for name, loader in self.val_loaders.items():
                rows = self._validate_together(name, loader)
                metrics.update({mean.dataset: mean.metrics for mean in dataset_means(rows)})
        for name, values in metrics.items():
            self.state.note_metrics(name, values, self.metrics_opt)
            self.recorder.validation(self.state.iteration, name, values)
            logger.info("validation at %d, %s: %s", self.state.iteration, name, self._in_words(name, values))
        self.last_metrics = metrics
        self.state.validated_iteration = self.state.iteration
        self._save_best()

    def _validate_together(self, name: str, loader: DataLoader) -> list[PictureRow]:
        """Validate on a dataset, each process its share; return the rows of all."""
        seen: list[tuple[str, SeenPictures]] = []
        with self.progress.pictures(name, len(loader.dataset)) as advance:
            try:
                rows: list[PictureRow] | None = validate(
                    self.model,
                    loader,
                    dataset_name=name,
                    metrics_opt=self.metrics_opt,
                    tile_opt=self.opt.get("tile"),
                    save_path=partial(self._saved_picture, name) if self.opt["val"].get("save_img") else None,
                    on_picture=self._watch_pictures(advance, seen),
                )
            except _Stopped:
                rows = None
            shares = self.processes.gather((rows, seen, self.stop.wish or 0))
        self.stop.agree(max(wish for *_, wish in shares))
        if any(rows is None for rows, *_ in shares):
            raise _Stopped
        for label, pictures in in_dataset_order([seen for _, seen, _ in shares]):
            self.recorder.pictures(self.state.iteration, label, pictures)
        return in_dataset_order([rows for rows, *_ in shares])

    def _save_best(self) -> None:
        metric = deciding_metric(self.state, self.best_metrics)
        if not is_best_now(self.state, metric):
            return
        with self.speed.during("save"):
            self.writer.wait()
            contents = best_weights(self.model, self.state, metric)
        words = f"the best weights so far ({'/'.join(metric)}, iteration {self.state.iteration})"
        self.writer.submit(lambda: write_files(contents, words, self.going_on))

    def _watch_pictures(self, advance: Callable[[int], None], seen: list[tuple[str, SeenPictures]]) -> OnPicture:
        """Return what is called after each picture; it puts the first ones of the dataset into seen."""
        rank, count = self.processes.rank, self.processes.count
        is_shown = uses_tensorboard(self.opt) or uses_wandb(self.opt)
        num_shown = self.opt["logger"].get("num_val_images", 3) if is_shown else 0

        def watch(number: int, row: PictureRow, pictures: SeenPictures) -> None:
            advance(number * count)
            if (number - 1) * count + rank < num_shown:
                seen.append((f"{row.dataset}/{row.image}", pictures))
            if self.stop.wish is not None:
                raise _Stopped

        return watch

    def _saved_picture(self, dataset_name: str, image_name: str) -> Path:
        # several sets may have pictures of one name
        ending = f"{dataset_name}_{self.state.iteration}" if len(self.val_loaders) > 1 else self.state.iteration
        return Path(self.opt["path"]["visualization"], image_name, f"{Path(image_name).name}_{ending}.png")

    def _in_words(self, dataset: str, values: Mapping[str, float]) -> str:
        words = []
        for label, value in values.items():
            best = self.state.best[dataset][label]
            words.append(
                f"{label} {format_value(label, value)} (best {format_value(label, best['val'])} @ {best['iter']})"
            )
        return ", ".join(words) or "no metrics"

    def _leave(self) -> None:
        """Save, say how to go on, and leave."""
        self._end_loading()  # first: a loading process that dies now must not disturb the saving
        self.stop.end_vote()
        if self.saved_iteration != self.state.iteration:
            self._save()
        self.writer.wait()
        logger.warning(
            "stopped by %s at iteration %d of %d; start again with %s to go on from %s",
            self.stop.name,
            self.state.iteration,
            self.total_iter,
            self.going_on,
            self.last_checkpoint,
        )
        raise SystemExit(self.stop.exit_status)

    def _end_loading(self) -> None:
        """End the loading processes."""
        if hasattr(self.batches, "close"):
            self.batches.close()

    def _finish(self) -> TrainingSummary:
        """Say what came out and where it lies."""
        state, path_opt = self.state, self.opt["path"]
        self.writer.wait()
        state.seconds = self.speed.split()
        seconds = sum(state.seconds.values())
        weights = Path(path_opt["models"], f"net_g_{state.iteration}.pth")
        is_there = self.processes.is_first and weights.exists()
        weights = link_checked(weights, weights.with_name("net_g_latest.pth")) if is_there else None
        for dataset, values in self.last_metrics.items():
            logger.info("%s: %s", dataset, self._in_words(dataset, values))
        logger.info("weights: %s", weights or self.last_checkpoint)
        logger.info("log, metrics.jsonl and checkpoints: %s", path_opt["experiments_root"])
        folder = Path(path_opt["experiments_root"])
        return TrainingSummary(state.iteration, seconds, self.last_metrics, state.best, weights, folder)
