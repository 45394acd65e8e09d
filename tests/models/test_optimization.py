"""Optimisers, clipping, and steps left out."""

import pytest
import torch
from torch import nn

from hriusr.errors import OptionsError
from hriusr.models.optimization import StepGuard, build_optimizer, clip_gradients, gradient_norm

CPU = torch.device("cpu")
UNSCALED = torch.amp.GradScaler("cpu", enabled=False)


def make_parameters():
    generator = torch.Generator().manual_seed(1)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((4, 3), (5,))]


def fill_gradients(parameters, seed):
    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("type_name", ["Adam", "AdamW"])
def test_fused_step_agrees_with_the_plain_one(type_name):
    runs = {}
    for fused in (None, False):
        parameters = make_parameters()
        optimizer_opt = {"type": type_name, "lr": 1e-2, "betas": [0.9, 0.99], "weight_decay": 0.1}
        optimizer = build_optimizer(parameters, optimizer_opt if fused is None else {**optimizer_opt, "fused": fused})
        assert optimizer.defaults["fused"] is (fused is None)
        for seed in range(5):
            fill_gradients(parameters, seed)
            optimizer.step()
        runs[fused] = parameters
    torch.testing.assert_close(runs[None], runs[False])


def test_adamw_decays_weights_apart_from_the_gradient():
    parameters = make_parameters()
    before = parameters[0].detach().clone()
    optimizer = build_optimizer(parameters, {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5})
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    torch.testing.assert_close(parameters[0].detach(), before * (1 - 0.1 * 0.5))


@pytest.mark.parametrize(
    ("optimizer_opt", "message"),
    [
        ({"type": "AdaBound", "lr": 1e-3}, "unknown 'AdaBound'; one of Adam, AdamW"),
        ({"type": "Adam", "lr": 1e-3, "momentum": 0.9}, "momentum"),
        ({"type": "Adam", "lr": -1.0}, "learning rate"),
    ],
)
def test_fault_in_the_optimiser_is_named(optimizer_opt, message):
    with pytest.raises(OptionsError, match=message):
        build_optimizer(make_parameters(), optimizer_opt)


def test_clipping_equals_that_of_torch():
    parameters, reference = make_parameters(), make_parameters()
    fill_gradients(parameters, 0)
    fill_gradients(reference, 0)
    gradients = [parameter.grad for parameter in parameters]
    norm = gradient_norm(gradients)
    clip_gradients(gradients, norm, 0.5)
    expected_norm = nn.utils.clip_grad_norm_(reference, 0.5)
    torch.testing.assert_close(norm, expected_norm)
    torch.testing.assert_close(gradients, [parameter.grad for parameter in reference])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad_value", [float("nan"), float("inf")])
def test_step_with_a_bad_gradient_changes_nothing_and_is_counted(fused, bad_value):
    parameters = make_parameters()
    optimizer = build_optimizer(parameters, {"type": "Adam", "lr": 0.1, "fused": fused})
    guard = StepGuard(CPU)

    def step(seed, bad):
        fill_gradients(parameters, seed)
        if bad:
            parameters[1].grad[2] = bad_value
        norm = gradient_norm([parameter.grad for parameter in parameters])
        return bool(guard.step(optimizer, UNSCALED, norm))

    assert step(0, bad=False)
    before = [parameter.detach().clone() for parameter in parameters]
    assert not step(1, bad=True)
    assert not step(2, bad=True)
    assert all(torch.equal(parameter, old) for parameter, old in zip(parameters, before, strict=True))
    assert guard.state_dict() == {"consecutive": 2, "total": 2}
    assert step(3, bad=False)
    assert guard.state_dict() == {"consecutive": 0, "total": 2}
    assert optimizer.state[parameters[0]]["step"] == 2
    assert all(torch.isfinite(parameter).all() for parameter in parameters)


def test_scaler_leaves_a_bad_step_out_and_lowers_its_scale():
    parameters = make_parameters()
    optimizer = build_optimizer(parameters, {"type": "Adam", "lr": 0.1})
    scaler, guard = torch.amp.GradScaler("cpu"), StepGuard(CPU)
    scaler.scale(torch.ones(()))
    fill_gradients(parameters, 0)
    parameters[0].grad[0, 0] = float("inf")
    before = parameters[0].detach().clone()
    scaler.unscale_(optimizer)
    is_finite = guard.step(optimizer, scaler, gradient_norm([parameter.grad for parameter in parameters]))
    assert not is_finite
    assert torch.equal(parameters[0], before)
    assert scaler.get_scale() == 2.0**15
