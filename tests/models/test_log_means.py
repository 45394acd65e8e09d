"""Mean losses between two log lines."""

import math

import pytest
import torch

from hriusr.models.log_means import LogMeans

CPU = torch.device("cpu")


def add(means, is_finite=True, **values):
    means.add({name: torch.tensor(value) for name, value in values.items()}, torch.tensor(is_finite))


@pytest.mark.parametrize("is_resumed", [False, True])
def test_loss_that_begins_between_two_lines_is_averaged_over_its_own_steps(is_resumed):
    means = LogMeans(CPU)
    add(means, a=1.0)
    add(means, a=2.0, is_finite=False)
    add(means, a=3.0, b=5.0)
    if is_resumed:
        state, means = means.state_dict(), LogMeans(CPU)
        means.load_state_dict(state)
    add(means, a=5.0, b=7.0)
    assert means.take() == {"a": 3.0, "b": 6.0}
    add(means, a=1.0, b=2.0)
    assert means.take() == {"a": 1.0, "b": 2.0}
    add(means, a=1.0, is_finite=False)
    assert math.isnan(means.take()["a"])


def test_state_from_before_has_all_losses_in_every_step():
    means = LogMeans(CPU)
    means.load_state_dict({"sums": {"a": 6.0}, "num_steps": 2})
    assert means.take() == {"a": 3.0}
