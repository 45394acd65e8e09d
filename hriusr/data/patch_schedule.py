"""Patches that grow while training: which gt_size and how many patches each step has (progressive learning).

Small patches first, many a batch, then larger and fewer ones (Restormer, arXiv:2111.09881, section 3.3). A stage
is a function of the step's number, so a resumed run takes the samples that an uninterrupted one would have.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Sampler

from hriusr.data.sampler import ResumableSampler, SampleKey


@dataclass(frozen=True)
class PatchStage:
    """Steps alike.

    Attributes:
        first_step: its first one, from 1.
        gt_size: side of a patch, pixels of gt; None: the dataset's.
        batch_size: patches a step and process.
    """

    first_step: int
    gt_size: int | None
    batch_size: int


class PatchSchedule:
    """Stages of a run, in their order; the first begins at step 1."""

    def __init__(self, stages: Sequence[PatchStage]):
        self.stages = list(stages)

    @classmethod
    def from_options(cls, dataset_opt: Mapping[str, Any]) -> "PatchSchedule":
        """Read batch_size_per_gpu and progressive of a training set.

        Args:
            dataset_opt: progressive: list of {iter, gt_size, batch_size}; a stage begins after `iter` steps, what
                it leaves out stays as it was.
        """
        stages = [PatchStage(1, None, int(dataset_opt["batch_size_per_gpu"]))]
        for entry in dataset_opt.get("progressive") or ():
            before = stages[-1]
            gt_size, batch_size = entry.get("gt_size") or before.gt_size, entry.get("batch_size") or before.batch_size
            stages.append(PatchStage(int(entry["iter"]) + 1, gt_size, int(batch_size)))
        return cls(stages)

    def at(self, step: int) -> PatchStage:
        """Return the stage of a step, from 1."""
        return next(stage for stage in reversed(self.stages) if stage.first_step <= step)


class ScheduledBatches(Sampler[list[SampleKey]]):
    """Yields the keys of one batch after the other, without end.

    Args:
        sampler: its keys, standing at the first sample of first_step.
        schedule: how many keys a batch has, and their gt_size.
        first_step: number of the first batch, from 1.
    """

    def __init__(self, sampler: ResumableSampler, schedule: PatchSchedule, first_step: int):
        self.sampler = sampler
        self.schedule = schedule
        self.first_step = first_step

    def __iter__(self) -> Iterator[list[SampleKey]]:
        keys, step = iter(self.sampler), self.first_step
        while True:
            stage = self.schedule.at(step)
            yield [next(keys)._replace(gt_size=stage.gt_size) for _ in range(stage.batch_size)]
            step += 1
