"""One training step and one validation step for real, with what they take: memory, time, data.

Memory and time are measured at one sample and at two, without accumulation; the wanted batch follows on the line
through both. Where it fits and does not take long it is run as well.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from hriusr.analysis.memory_use import peak_bytes, reset_peak, synchronize
from hriusr.data.loader import build_train_loader
from hriusr.doctor.attempts import AttemptFailedError, attempt
from hriusr.doctor.channels import has_right_channels, has_right_output
from hriusr.doctor.findings import Report
from hriusr.engine.training_setup import TrainingData
from hriusr.engine.validation import validate
from hriusr.metrics.measure import check_metrics
from hriusr.models.sr_model import RestorationModel

_LONGEST_STEP = 30.0  # seconds a full step may take here
_FEW = 5  # names in a message

Batch = Mapping[str, Any]


@dataclass(frozen=True)
class StepCost:
    """What a training step takes, on a line through one and two samples.

    Attributes:
        fixed_bytes: without samples: weights, optimiser, running mean, and on a CPU the program itself.
        sample_bytes: for each sample of a part (batch_size_per_gpu).
        fixed_seconds: without samples.
        sample_seconds: for each sample of a step.
    """

    fixed_bytes: float
    sample_bytes: float
    fixed_seconds: float
    sample_seconds: float


@dataclass(frozen=True)
class DataRate:
    """How fast samples come.

    Attributes:
        samples_per_second: with the configured workers, when nothing else is computed.
        seconds_to_first: from the start to the first batch: filling a cache, starting processes.
    """

    samples_per_second: float
    seconds_to_first: float


def measure_data(data: TrainingData, seed: int, *, seconds: float, report: Report) -> tuple[Batch, DataRate]:
    """Draw batches as training does.

    Args:
        data: training set and its options.
        seed: of order and crops.
        seconds: how long to measure.
        report: gets the measurement.

    Returns:
        The first batch, and the rate.
    """
    batch_size = int(data.train_opt["batch_size_per_gpu"])
    num_workers = int(data.train_opt.get("num_worker_per_gpu") or 0)
    start = time.perf_counter()
    batches = build_train_loader(data.train_set, data.train_opt, seed=seed)
    try:
        first = next(batches)
        to_first = time.perf_counter() - start
        rate = _rate(batches, batch_size, skip=2 * num_workers, seconds=seconds)
    finally:
        if hasattr(batches, "close"):
            batches.close()
    report.measure(
        "data", samples_per_second=round(rate, 2), seconds_to_first_batch=round(to_first, 2), workers=num_workers
    )
    return first, DataRate(rate, to_first)


def batch_of_step(data: TrainingData, seed: int, step: int) -> Batch:
    """Return a batch as large as that of a step, from 1."""
    batches = build_train_loader(
        data.train_set, {**data.train_opt, "num_worker_per_gpu": 0}, seed=seed, start_iteration=step - 1
    )
    try:
        return next(batches)
    finally:
        if hasattr(batches, "close"):
            batches.close()


def _rate(batches: Iterator[Batch], batch_size: int, *, skip: int, seconds: float) -> float:
    """Count samples a second; the first `skip` batches were made ahead, while the first one was waited for."""
    start = last = time.perf_counter()
    for _ in range(skip):
        next(batches)
        if time.perf_counter() - start > 2 * seconds:  # slow: what was made ahead hardly counts
            break
    else:
        start = time.perf_counter()
    count = 0
    while count < 3 or last - start < seconds:
        next(batches)
        count, last = count + 1, time.perf_counter()
    return count * batch_size / (last - start)


def try_steps(model: RestorationModel, batch: Batch, report: Report) -> StepCost:
    """Train a few steps on one sample and on two; note losses and gradients that are not as they should be.

    Raises:
        AttemptFailedError: the output is not of the ground truth's shape; the finding is noted.
    """
    # the model is thrown away: its accumulation may be changed
    accumulation, model.accumulation = model.accumulation, 1
    _feed(model, batch, 1)
    if not has_right_output(model, report):
        raise AttemptFailedError("comparing output and ground truth")
    _step(model, batch, 1)  # allocates the optimiser's state, fills caches
    _check_loss(model, report)
    seconds, peaks = zip(*(_measured_step(model, batch, size) for size in (1, 2)), strict=True)
    _check_gradients(model, report)  # now: behind a layer that starts at 0 there is no gradient in the first step
    model.accumulation = accumulation
    sample_bytes = max(0.0, peaks[1] - peaks[0])
    sample_seconds = max(seconds[1] - seconds[0], 0.1 * seconds[0])
    cost = StepCost(peaks[0] - sample_bytes, sample_bytes, max(0.0, seconds[0] - sample_seconds), sample_seconds)
    report.measure(
        "step",
        device=str(model.device),
        precision=model.precision.name,
        peak_gb_at_1=round(peaks[0] / 1e9, 3),
        peak_gb_at_2=round(peaks[1] / 1e9, 3),
        seconds_at_1=round(seconds[0], 4),
        seconds_at_2=round(seconds[1], 4),
    )
    return cost


def full_step_seconds(model: RestorationModel, batch: Batch, predicted: float, report: Report) -> float:
    """Return the seconds of a whole step, measured where it is not predicted to take long."""
    if predicted > _LONGEST_STEP:
        report.measure("step", seconds_at_full_batch=round(predicted, 3), full_batch_is="predicted")
        return predicted
    try:
        seconds, peak = _measured_step(model, batch, len(batch["gt"]))
    except (torch.OutOfMemoryError, MemoryError):
        report.add("error", "datasets.train.batch_size_per_gpu", "the whole batch ran out of memory", _SMALLER_BATCH)
        return predicted
    report.measure("step", seconds_at_full_batch=round(seconds, 3), full_batch_is="measured")
    report.measure("memory", measured_gb=round(peak / 1e9, 2))
    return seconds


_SMALLER_BATCH = "lower batch_size_per_gpu and set train.accumulation: the same update in smaller parts"


def _feed(model: RestorationModel, batch: Batch, size: int) -> None:
    model.feed_data({key: _first(value, size) for key, value in batch.items()})


def _step(model: RestorationModel, batch: Batch, size: int) -> None:
    _feed(model, batch, size)
    iteration = _full_iteration(model.opt["train"])
    model.update_learning_rate(iteration)
    model.optimize_parameters(iteration)


def _full_iteration(train_opt: Mapping[str, Any]) -> int:
    """Return the first iteration in which everything has begun: each loss, and the generator does not rest."""
    total, every = int(train_opt["total_iter"]), train_opt.get("net_d_iters") or 1
    starts = [loss_opt.get("start_iter") or 0 for loss_opt in (train_opt.get("losses") or {}).values()]
    starts = [1, (train_opt.get("net_d_init_iters") or 0) + 1, *starts]
    last = total // every * every or total  # what begins after the end is not trained
    return min(-(-max(starts) // every) * every, last)


def _first(values: Any, size: int) -> Any:
    """Return the first samples of what a batch holds: a tensor, a list of names, or a named tuple of these."""
    return type(values)(*(value[:size] for value in values)) if hasattr(values, "_fields") else values[:size]


def _measured_step(model: RestorationModel, batch: Batch, size: int) -> tuple[float, int]:
    """Return (seconds, peak bytes) of the quicker of two steps."""
    reset_peak(model.device)
    seconds = []
    for _ in range(2):
        synchronize(model.device)
        start = time.perf_counter()
        _step(model, batch, size)
        synchronize(model.device)
        seconds.append(time.perf_counter() - start)
        if seconds[0] > _LONGEST_STEP / 2:
            break
    return min(seconds), peak_bytes(model.device)


def _check_loss(model: RestorationModel, report: Report) -> None:
    losses = {name: value for name, value in model.get_current_log().items() if name != "nonfinite_steps"}
    report.measure("step", **losses)
    if model.guard_counters()["total"]:
        report.add(
            "error",
            "train",
            "the loss or the gradient of the first step is not finite",
            "use precision bf16 or fp32, lower train.optim_g.lr, check weights that are loaded, and the pictures",
        )


def _check_gradients(model: RestorationModel, report: Report) -> None:
    trained = {name: parameter for name, parameter in model.net_g.named_parameters() if parameter.requires_grad}
    missing = [name for name, parameter in trained.items() if parameter.grad is None]
    idle = [name for name, parameter in trained.items() if parameter.grad is not None and not parameter.grad.any()]
    report.measure(
        "step", parameters=sum(p.numel() for p in trained.values()), parameters_without_gradient=len(missing)
    )
    if missing:
        report.add(
            "warning",
            "network_g",
            f"{len(missing)} of {len(trained)} parameters get no gradient, {_some(missing)}",
            "they are not trained: the network does not use them; with several processes also set "
            "find_unused_parameters: true",
            tuple(missing),
        )
    if idle:
        report.add(
            "note",
            "network_g",
            f"{len(idle)} of {len(trained)} parameters still have gradient 0 after some steps, {_some(idle)}",
            "they are not trained: something they are multiplied with is 0, or an activation is dead",
            tuple(idle),
        )


def _some(names: list[str]) -> str:
    return f"first {', '.join(names[:_FEW])}{' ...' if len(names) > _FEW else ''}"


_VALIDATION_TOO_LARGE = "a picture does not fit into memory", "set tile: {tile_size: 256}"


def try_validation(
    model: RestorationModel, loaders: Mapping[str, Any], opt: Mapping[str, Any], report: Report
) -> float:
    """Validate the first picture of each set.

    Returns:
        Seconds that a whole validation will take, if every picture takes as long as the first of its set.
    """
    metrics_opt = check_metrics((opt.get("val") or {}).get("metrics"))
    total = 0.0
    for name, loader in loaders.items():
        place = f"validation on {name}"
        start = time.perf_counter()
        try:
            with attempt("validating a picture", report, place, too_large=_VALIDATION_TOO_LARGE):
                batch = next(iter(loader))
                if not has_right_channels(model, batch, place, report):
                    continue
                rows = validate(
                    model,
                    [batch],
                    dataset_name=name,
                    metrics_opt=metrics_opt,
                    tile_opt=opt.get("tile"),
                    dataset_opt=loader.dataset.opt,
                )
        except AttemptFailedError:
            continue
        seconds = time.perf_counter() - start
        total += seconds * len(loader)
        metrics = rows[0].metrics
        report.measure(f"validation.{name}", seconds_a_picture=round(seconds, 3), pictures=len(loader), **metrics)
        bad = [label for label, value in metrics.items() if value != value]  # NaN
        if bad:
            report.add("error", f"val.metrics.{bad[0]}", f"is not a number on {rows[0].image}", "check crop_border")
    return total
