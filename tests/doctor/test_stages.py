"""Patches that grow while training: the largest must fit into pictures, the heaviest into memory."""

import pytest

from hriusr.doctor import examine
from hriusr.doctor.stages import heaviest_stage, mean_batch_size, mean_work

GROWING = "datasets:train:progressive=[{iter: 500, gt_size: 128}, {iter: 750, gt_size: 160, batch_size: 1}]"


def opt_with(stages):
    train_opt = {"gt_size": 64, "batch_size_per_gpu": 2, "progressive": stages}
    return {"datasets": {"train": train_opt}, "train": {"total_iter": 1000}}


@pytest.mark.parametrize(
    ("stages", "heaviest", "batch_size", "work"),
    [
        ([], (1, 64, 2), 2, 1),
        ([{"iter": 500, "gt_size": 128}], (501, 128, 2), 2, 0.5 / 4 + 0.5),
        ([{"iter": 250, "gt_size": 128, "batch_size": 1}], (251, 128, 1), 1.25, 0.25 / 2 + 0.75),
        ([{"iter": 2000, "gt_size": 128}], (1, 64, 2), 2, 1),
    ],
    ids=["none", "larger", "larger and fewer", "after the end"],
)
def test_heaviest_stage_and_average(stages, heaviest, batch_size, work):
    opt = opt_with(stages)
    assert tuple(vars(heaviest_stage(opt)).values()) == heaviest
    assert mean_batch_size(opt) == pytest.approx(batch_size)
    assert mean_work(opt) == pytest.approx(work)


def test_pictures_smaller_than_the_largest_patch_are_an_error(diagnose):
    report = diagnose("datasets:train:progressive=[{iter: 500, gt_size: 256}]")
    (finding,) = [finding for finding in report.findings if finding.level == "error"]
    assert "4 of 4 pictures are smaller than gt_size (=256)" in finding.message


def test_step_is_measured_with_the_heaviest_patches(diagnose, monkeypatch):
    seen = []

    def try_steps(model, batch, report):
        seen.append(tuple(batch["gt"].shape))
        return original(model, batch, report)

    original = examine.try_steps
    monkeypatch.setattr(examine, "try_steps", try_steps)
    report = diagnose(GROWING, with_step=True, data_seconds=0.05)
    assert report.is_healthy
    assert seen == [(2, 3, 128, 128)]
    assert report.measured["memory"]["batch_size"] == 2
