"""Learning rates: BasicSR's values bit for bit, and warm-up without a trace."""

import importlib
import math

import pytest
import torch

from hriusr.errors import OptionsError
from hriusr.models.schedules import build_schedule


def make_optimizer(rate=2e-4):
    return torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=rate)


def rates(scheduler_opt, total_iter, warmup_iter=-1):
    optimizer = make_optimizer()
    schedule = build_schedule(optimizer, scheduler_opt, total_iter)
    values = []
    for iteration in range(1, total_iter + 1):
        schedule.set_iteration(iteration, warmup_iter)
        values.append(optimizer.param_groups[0]["lr"])
    return values


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    "scheduler_opt",
    [
        {"type": "MultiStepLR", "milestones": [5, 8, 12, 12], "gamma": 0.5},
        {"type": "MultiStepRestartLR", "milestones": [3, 10, 14], "restarts": [0, 9], "restart_weights": [1, 0.7]},
        {"type": "CosineAnnealingRestartLR", "periods": [7, 13], "restart_weights": [1, 0.5], "eta_min": 1e-7},
    ],
)
def test_rates_equal_those_of_basicsr(scheduler_opt):
    importlib.import_module("hriusr.basicsr_bridge")  # basicsr cannot be imported before it
    lr_scheduler = importlib.import_module("basicsr.models.lr_scheduler")
    optimizer = make_optimizer()
    arguments = dict(scheduler_opt)
    name = arguments.pop("type").replace("MultiStepLR", "MultiStepRestartLR")
    reference = getattr(lr_scheduler, name)(optimizer, **arguments)
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(19):
        reference.step()
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(scheduler_opt, 20) == expected


def test_cosine_equals_that_of_torch():
    values = rates({"type": "CosineAnnealingLR", "eta_min": 1e-6}, 11)
    expected = [1e-6 + (2e-4 - 1e-6) * (1 + math.cos(math.pi * step / 11)) / 2 for step in range(11)]
    assert values == pytest.approx(expected, rel=1e-12)


@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize(
    ("scheduler_opt", "reference_class", "arguments"),
    [
        ({"type": "CosineAnnealingLR", "eta_min": 1e-6}, "CosineAnnealingLR", {"T_max": 40, "eta_min": 1e-6}),
        ({"type": "OneCycleLR"}, "OneCycleLR", {}),
        ({"type": "OneCycleLR", "pct_start": 0.1, "div_factor": 4, "final_div_factor": 7}, "OneCycleLR", None),
        ({"type": "OneCycleLR", "anneal_strategy": "linear"}, "OneCycleLR", None),
        ({"type": "OneCycleLR", "three_phase": True}, "OneCycleLR", None),
        ({"type": "LinearLR", "end_factor": 0.1}, "LinearLR", {"total_iters": 40, "start_factor": 1.0}),
        ({"type": "LinearLR", "start_factor": 0.2, "end_factor": 1.0, "total_iters": 9}, "LinearLR", {}),
        ({"type": "PolynomialLR", "power": 0.9}, "PolynomialLR", {"total_iters": 40}),
        ({"type": "PolynomialLR", "power": 2, "total_iters": 30}, "PolynomialLR", {}),
        ({"type": "ConstantLR"}, "ConstantLR", {"factor": 1.0, "total_iters": 0}),
        ({"type": "ConstantLR", "factor": 0.3, "total_iters": 6}, "ConstantLR", {}),
    ],
)
def test_rates_equal_those_of_torch(scheduler_opt, reference_class, arguments):
    optimizer = make_optimizer()
    given = {key: value for key, value in scheduler_opt.items() if key != "type"} | (arguments or {})
    if reference_class == "OneCycleLR":
        given |= {"max_lr": 2e-4, "total_steps": 40, "cycle_momentum": False}
    reference = getattr(torch.optim.lr_scheduler, reference_class)(optimizer, **given)
    expected = [optimizer.param_groups[0]["lr"]]
    for _ in range(39):
        reference.step()
        expected.append(optimizer.param_groups[0]["lr"])
    assert rates(scheduler_opt, 40) == pytest.approx(expected, rel=1e-9, abs=1e-18)


def test_schedule_keeps_its_last_rate_beyond_its_end():
    values = rates({"type": "OneCycleLR", "total_steps": 10}, 15)
    assert values[9:] == pytest.approx([2e-4 / 25 / 1e4] * 6)
    assert rates({"type": "PolynomialLR", "total_iters": 10}, 15)[10:] == [0] * 5


def test_warm_up_may_start_from_a_share_of_the_rate():
    optimizer = make_optimizer()
    schedule = build_schedule(optimizer, {"type": "ConstantLR"}, 20, warmup_start_factor=0.5)
    values = []
    for iteration in range(1, 12):
        schedule.set_iteration(iteration, warmup_iter=10)
        values.append(optimizer.param_groups[0]["lr"])
    assert values == pytest.approx([2e-4 * (0.5 + 0.05 * iteration) for iteration in range(1, 10)] + [2e-4] * 2)


def test_cosine_stays_at_its_end():
    assert rates({"type": "CosineAnnealingLR", "T_max": 4, "eta_min": 1e-6}, 9)[4:] == pytest.approx([1e-6] * 5)


def test_warm_up_is_linear_and_leaves_no_trace():
    scheduler_opt = {"type": "MultiStepLR", "milestones": [12], "gamma": 0.5}
    values = rates(scheduler_opt, 20, warmup_iter=10)
    assert values[:9] == pytest.approx([2e-4 * iteration / 10 for iteration in range(1, 10)])
    assert values[9:] == rates(scheduler_opt, 20)[9:]


def test_rate_depends_on_the_iteration_alone():
    schedule = build_schedule(make_optimizer(), {"type": "MultiStepLR", "milestones": [5], "gamma": 0.5}, 20)
    schedule.set_iteration(9)
    resumed = build_schedule(make_optimizer(), {"type": "MultiStepLR", "milestones": [5], "gamma": 0.5}, 20)
    resumed.load_state_dict(schedule.state_dict())
    assert resumed.optimizer.param_groups[0]["lr"] == 1e-4


@pytest.mark.parametrize(
    ("scheduler_opt", "message"),
    [
        ({"type": "StepLR"}, "unknown 'StepLR'; one of MultiStepLR"),
        ({"type": "MultiStepLR", "milestone": [3]}, "milestone"),
        ({"type": "CosineAnnealingRestartLR", "periods": [3, 4]}, "differ in length"),
    ],
)
def test_fault_in_the_schedule_is_named(scheduler_opt, message):
    with pytest.raises(OptionsError, match=message):
        build_schedule(make_optimizer(), scheduler_opt, 10)
