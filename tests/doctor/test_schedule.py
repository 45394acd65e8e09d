"""The learning-rate curve, and what is odd about it."""

import pytest
import torch

from hriusr.doctor.schedule import plot


def test_rates_at_milestones_are_those_of_torch(diagnose):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [500, 800], gamma=0.5)
    rates = []
    for _ in range(1000):
        rates.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    measured = diagnose().measured["learning_rate"]["at"]
    assert {int(mark): rate for mark, rate in measured.items()} == {
        mark: pytest.approx(rates[mark - 1]) for mark in (1, 500, 501, 800, 801, 1000)
    }


@pytest.mark.parametrize(
    ("overrides", "place", "words"),
    [
        (["train:warmup_iter=900"], "train.warmup_iter", "takes 900 of 1000 iterations"),
        (
            ["train:warmup_iter=300", "train:scheduler:milestones=[200, 800]"],
            "train.warmup_iter",
            "the first milestone (=200) lies in the warm-up",
        ),
        (["train:scheduler={type: CosineAnnealingLR, T_max: 600}"], "train.scheduler.T_max", "ends at 600 of 1000"),
        (["train:scheduler:gamma=0.0001"], "train.scheduler", "below a thousandth"),
        (["logger:save_checkpoint_freq=2000"], "logger.save_checkpoint_freq", "no checkpoint before the end"),
        (["val:val_freq=1000"], "val.val_freq", "no validation before the end"),
    ],
)
def test_odd_schedule_is_warned_of(diagnose, overrides, place, words):
    found = [finding for finding in diagnose(*overrides).findings if finding.place == place]
    assert len(found) == 1
    assert words in found[0].message
    assert found[0].remedy


def test_milestones_beyond_the_end_are_warned_of_once(diagnose):
    (finding,) = [finding for finding in diagnose("train:total_iter=700").findings if finding.level == "warning"]
    assert "milestones (=[500, 800]) reach beyond train.total_iter (=700)" in finding.message


def test_plot_is_as_high_as_its_values():
    rows = [row.partition("|")[2] for row in plot([0.0, 0.25, 0.5, 1.0])]
    heights = [sum(row[column] == "█" for row in rows) for column in range(4)]
    assert heights == [0, 2, 4, 8]
