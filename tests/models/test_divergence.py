"""Steps left out because of a spike or a fault: nothing is poisoned, and the pictures are named."""

import math

import pytest
import torch

from hriusr.models.left_out_steps import LeftOutSteps
from hriusr.models.optimization import StepGuard, build_optimizer, gradient_norm
from hriusr.models.spike_detector import SpikeDetector
from hriusr.models.sr_model import RestorationModel

CPU = torch.device("cpu")


def judge(detector, norms):
    return [bool(detector.is_spike(torch.tensor(float(norm)))) for norm in norms]


def test_spike_is_more_than_factor_times_the_median():
    detector = SpikeDetector(5, CPU)
    assert not any(judge(detector, [1, 2, 3] * 20))
    assert judge(detector, [9.9, 10.1, 2]) == [False, True, False]
    assert int(detector.total) == 1


def test_first_norms_are_not_judged():
    assert not any(judge(SpikeDetector(2, CPU), [10.0**-power for power in range(10)] + [1e6]))


def test_norms_that_are_not_finite_neither_count_nor_spoil_the_median():
    detector = SpikeDetector(5, CPU)
    assert not any(judge(detector, [1.0] * 40 + [math.nan, math.inf] * 60))
    assert judge(detector, [4, 6]) == [False, True]


def test_training_goes_on_when_gradients_have_grown_for_good():
    detector = SpikeDetector(5, CPU)
    judge(detector, [1.0] * 200)
    verdicts = judge(detector, [100.0] * 128)
    assert verdicts[0]
    assert not verdicts[-1]
    assert sum(verdicts) <= 65


def test_state_of_the_detector_goes_on_where_it_was():
    detector, resumed = SpikeDetector(3, CPU), SpikeDetector(3, CPU)
    norms = torch.rand(150, generator=torch.Generator().manual_seed(0)).tolist()
    judge(detector, norms)
    resumed.load_state_dict(detector.state_dict())
    more = [8 * norm for norm in norms]
    assert judge(detector, more) == judge(resumed, more)
    assert detector.state_dict() == resumed.state_dict()


@pytest.mark.parametrize("type_name", ["AdamW", "SGD", "Lion"])
@pytest.mark.parametrize("scales", [False, True])
def test_spike_changes_neither_weights_nor_state(type_name, scales):
    parameter = torch.nn.Parameter(torch.ones(5))
    arguments = {"momentum": 0.9} if type_name == "SGD" else {}
    optimizer = build_optimizer([parameter], {"type": type_name, "lr": 0.01, **arguments})
    scaler, guard = torch.amp.GradScaler("cpu", enabled=scales, init_scale=4.0), StepGuard(CPU, spike_factor=10)

    def step(size):
        scaler.scale((parameter * size).sum()).backward()
        scaler.unscale_(optimizer)
        is_taken = guard.step(optimizer, scaler, gradient_norm([parameter.grad]))
        optimizer.zero_grad()
        return bool(is_taken)

    assert all(step(1 + 0.01 * number) for number in range(40))
    before = [
        parameter.detach().clone(),
        *(v.clone() for v in optimizer.state[parameter].values() if torch.is_tensor(v)),
    ]
    assert not step(50)
    after = [parameter.detach(), *(v for v in optimizer.state[parameter].values() if torch.is_tensor(v))]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert guard.state_dict()["spikes"]["total"] == 1
    assert guard.state_dict()["total"] == 0
    assert step(1)


def test_first_step_left_out_does_not_start_the_momentum_from_rubbish():
    """Torch's fused SGD does, under a scaler."""
    parameter = torch.nn.Parameter(torch.zeros(5))
    optimizer = build_optimizer([parameter], {"type": "SGD", "lr": 0.1, "momentum": 0.9, "fused": True})
    scaler, guard = torch.amp.GradScaler("cpu", init_scale=4.0), StepGuard(CPU)
    for value in (math.inf, 1.0):
        parameter.grad = torch.full((5,), value) * scaler.scale(torch.ones(()))
        scaler.unscale_(optimizer)
        guard.step(optimizer, scaler, gradient_norm([parameter.grad]))
    torch.testing.assert_close(parameter.detach(), torch.full((5,), -0.1))


def test_pictures_of_steps_left_out_are_named_once():
    steps, no, yes = LeftOutSteps(), torch.tensor(False), torch.tensor(True)
    steps.note(1, yes, torch.tensor(1.0), ["a.png"])
    steps.note(2, no, torch.tensor(math.nan), ["b.png", "c.png"])
    steps.note(3, no, torch.tensor(250.0), [f"{number}.png" for number in range(20)])
    steps.note(4, no, torch.tensor(250.0), [], "discriminator")
    words = [str(step) for step in steps.take()]
    assert words[0] == ("iteration 2: loss or gradient is not finite, the step is left out; its pictures: b.png, c.png")
    assert words[1].startswith("iteration 3: the gradient is a spike (norm 250), the step is left out; its pictures: 0")
    assert words[1].endswith("15.png and 4 more")
    assert words[2].startswith("iteration 4, discriminator: the gradient is a spike")
    assert steps.take() == []


def test_model_leaves_a_spike_out_keeps_its_mean_and_names_the_pictures(model_opt, batches):
    torch.manual_seed(3)
    model = RestorationModel(model_opt(train__spike_factor=10.0))

    def step(iteration, scale=1.0):
        batch = batches[iteration % 6]
        # the mean absolute error has gradients of one size: a brighter input makes them larger
        model.feed_data({**batch, "lq": batch["lq"] * scale, "lq_path": [f"{iteration}_{n}.png" for n in range(4)]})
        model.optimize_parameters(iteration)

    for iteration in range(1, 35):
        step(iteration)
    before = [{k: v.clone() for k, v in net.state_dict().items()} for net in (model.net_g, model.net_g_ema)]
    step(35, scale=1e4)
    for old, network in zip(before, (model.net_g, model.net_g_ema), strict=True):
        assert all(torch.equal(old[name], value) for name, value in network.state_dict().items())
    (left_out,) = model.left_out_steps.take()
    assert left_out.pictures == [f"35_{n}.png" for n in range(4)]
    assert model.get_current_log()["spikes"] == 1
    step(36)
    assert model.left_out_steps.take() == []
