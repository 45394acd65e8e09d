"""The learning rate over the whole run, as a small plot and at the iterations that matter."""

from collections.abc import Mapping
from typing import Any

import torch

from hriusr.doctor.findings import Report
from hriusr.models.schedules import Schedule, build_schedule

_WIDTH, _HEIGHT = 60, 8
_EIGHTHS = " ▁▂▃▄▅▆▇█"


def check_schedule(opt: Mapping[str, Any], report: Report) -> None:
    """Measure the curve and note what is odd about it and about what happens every so many iterations.

    Args:
        opt: options in BasicSR's form.
        report: where findings go.
    """
    train = opt["train"]
    total, warmup = int(train["total_iter"]), int(train.get("warmup_iter") or -1)
    scheduler_opt = train["scheduler"]
    schedule = _schedule(train)
    marks = {1, total}
    marks |= {mark for mark in (warmup, *(scheduler_opt.get("milestones") or ())) if 0 < mark <= total}
    if not scheduler_opt.get("milestones"):
        marks |= {max(1, total // 4), max(1, total // 2), max(1, 3 * total // 4)}
    values = {mark: _rate(schedule, mark, warmup) for mark in sorted(marks)}
    falls = [mark + 1 for mark in scheduler_opt.get("milestones") or () if mark < total]
    values |= {mark: _rate(schedule, mark, warmup) for mark in falls}
    curve = [_rate(schedule, max(1, round((column + 0.5) / _WIDTH * total)), warmup) for column in range(_WIDTH)]
    report.measure("learning_rate", at={str(mark): values[mark] for mark in sorted(values)}, plot=plot(curve))
    _note_odd_schedule(scheduler_opt, total, warmup, curve, report)
    _note_odd_frequencies(opt, total, report)


def plot(values: list[float]) -> list[str]:
    """Draw columns between 0 and the largest value, one line of text a row, the highest first."""
    largest = max(values) or 1.0
    heights = [round(value / largest * _HEIGHT * 8) for value in values]
    rows = []
    for row in reversed(range(_HEIGHT)):
        bars = "".join(_EIGHTHS[min(8, max(0, height - row * 8))] for height in heights)
        label = f"{largest * (row + 1) / _HEIGHT:8.1e}" if row in (_HEIGHT - 1, _HEIGHT // 2 - 1) else " " * 8
        rows.append(f"{label} |{bars}")
    return rows


def _schedule(train: Mapping[str, Any]) -> Schedule:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=float(train["optim_g"]["lr"]))
    warmup_start = train.get("warmup_start_factor") or 0.0
    return build_schedule(optimizer, train["scheduler"], int(train["total_iter"]), warmup_start)


def _rate(schedule: Schedule, iteration: int, warmup: int) -> float:
    schedule.set_iteration(iteration, warmup)
    return float(schedule.optimizer.param_groups[0]["lr"])


def _note_odd_schedule(
    scheduler_opt: Mapping[str, Any], total: int, warmup: int, curve: list[float], report: Report
) -> None:
    milestones = scheduler_opt.get("milestones") or []
    if warmup > total // 2:
        report.add(
            "warning",
            "train.warmup_iter",
            f"the warm-up takes {min(warmup, total)} of {total} iterations",
            "papers warm up for 1 to 5 % of a run; 20000 of 500000",
        )
    elif milestones and warmup > min(milestones):
        report.add(
            "warning",
            "train.warmup_iter",
            f"the first milestone (={min(milestones)}) lies in the warm-up (until {warmup}): no full rate at all",
            "end the warm-up long before the first milestone",
        )
    if scheduler_opt["type"] == "CosineAnnealingLR" and (scheduler_opt.get("T_max") or total) < total:
        report.add(
            "warning",
            "train.scheduler.T_max",
            f"the cosine ends at {scheduler_opt['T_max']} of {total} iterations, the lowest rate stays from there",
            "leave T_max out: it is then total_iter",
        )
    largest = max(curve)
    idle = sum(rate < 1e-3 * largest for rate in curve[_WIDTH // 10 :]) / _WIDTH
    if idle > 0.1:
        report.add(
            "warning",
            "train.scheduler",
            f"for {idle:.0%} of the run the rate is below a thousandth of its maximum: nothing is learnt there",
            "shorten the run, or let the rate fall later",
        )


def _note_odd_frequencies(opt: Mapping[str, Any], total: int, report: Report) -> None:
    logger_opt, val_opt = opt["logger"], opt.get("val")
    if logger_opt["save_checkpoint_freq"] >= total:
        report.add(
            "warning",
            "logger.save_checkpoint_freq",
            f"no checkpoint before the end (every {logger_opt['save_checkpoint_freq']} of {total} iterations)",
            "a run that is interrupted would start anew: lower it",
        )
    if val_opt and int(val_opt["val_freq"]) >= total and total > 1:
        report.add(
            "warning",
            "val.val_freq",
            f"no validation before the end (every {val_opt['val_freq']} of {total} iterations)",
            "lower it, to see early that a run goes wrong",
        )
    if not val_opt:
        report.add(
            "warning", "val", "there is no validation: nobody sees how good the network is", "add val and datasets.val"
        )
    if logger_opt["print_freq"] > total:
        report.add("note", "logger.print_freq", f"no log line: every {logger_opt['print_freq']} of {total} iterations")
