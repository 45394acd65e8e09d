"""Patches that grow while training (datasets.train.progressive): the heaviest of them, and a step on average.

Numbers of patches are those of a part: train.accumulation of them make a step.
"""

from collections.abc import Mapping
from typing import Any

from hriusr.data.patch_schedule import PatchSchedule, PatchStage


def stage_shares(opt: Mapping[str, Any]) -> list[tuple[PatchStage, float]]:
    """Return the stages that a run comes to, each with its gt_size, and their shares of its steps; one where none grow.

    Args:
        opt: options in BasicSR's form.
    """
    train_opt, total_iter = opt["datasets"]["train"], int(opt["train"]["total_iter"])
    stages = [stage for stage in PatchSchedule.from_options(train_opt).stages if stage.first_step <= total_iter]
    ends = [stage.first_step - 1 for stage in stages[1:]] + [total_iter]
    return [
        (
            PatchStage(stage.first_step, stage.gt_size or int(train_opt["gt_size"]), stage.batch_size),
            (end - stage.first_step + 1) / total_iter,
        )
        for stage, end in zip(stages, ends, strict=True)
    ]


def heaviest_stage(opt: Mapping[str, Any]) -> PatchStage:
    """Return the stage with the most pixels a step."""
    return max((stage for stage, _ in stage_shares(opt)), key=_pixels)


def mean_batch_size(opt: Mapping[str, Any]) -> float:
    """Return how many patches a step has on average."""
    return sum(share * stage.batch_size for stage, share in stage_shares(opt))


def mean_work(opt: Mapping[str, Any]) -> float:
    """Return the pixels of a step on average over those of the heaviest stage; the time goes with them."""
    return sum(share * _pixels(stage) for stage, share in stage_shares(opt)) / _pixels(heaviest_stage(opt))


def _pixels(stage: PatchStage) -> int:
    return stage.batch_size * stage.gt_size**2
