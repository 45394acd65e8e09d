"""Which parameters learn how fast, and which decay."""

import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.errors import OptionsError
from hriusr.models.optimization import build_optimizer
from hriusr.models.parameter_groups import parameter_groups
from hriusr.models.schedules import build_schedule


@pytest.fixture(scope="module")
def network():
    return build_network(
        {
            "type": "SwinIR",
            "img_size": 16,
            "depths": [1],
            "num_heads": [2],
            "embed_dim": 8,
            "window_size": 4,
            "upscale": 2,
            "upsampler": "pixelshuffledirect",
        }
    )


def names_of(network, group):
    wanted = {id(parameter) for parameter in group["params"]}
    return {name for name, parameter in network.named_parameters() if id(parameter) in wanted}


def test_without_wishes_there_is_one_group_of_all(network):
    groups = parameter_groups(network)
    assert len(groups) == 1
    assert [id(p) for p in groups[0]["params"]] == [id(p) for p in network.parameters()]


def test_norms_biases_and_tables_do_not_decay(network):
    decaying, constant = parameter_groups(network, no_decay_norm_bias=True)
    assert "weight_decay" not in decaying
    assert constant["weight_decay"] == 0
    assert any("relative_position_bias_table" in name for name in names_of(network, constant))
    for name, parameter in network.named_parameters():
        is_in_constant = name in names_of(network, constant)
        assert is_in_constant == (parameter.ndim == 1 or "table" in name), name


def test_weights_without_gradient_shrink_only_where_they_decay(network):
    options = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.5, "no_decay_norm_bias": True}
    optimizer = build_optimizer(network, options)
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    constant = names_of(network, optimizer.param_groups[1])
    for name, parameter in network.named_parameters():
        factor = 1 if name in constant else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * factor, msg=name)


def test_rate_of_a_pattern_follows_the_schedule_times_its_factor(network):
    options = {"type": "Adam", "lr": 1e-3, "lr_mult": {"conv_first.*": 0, "layers.*": 0.25}}
    optimizer = build_optimizer(network, options)
    schedule = build_schedule(optimizer, {"type": "CosineAnnealingLR", "eta_min": 1e-4}, 10)
    for iteration, base in ((1, 1e-3), (6, 1e-4 + 0.9e-3 / 2), (11, 1e-4)):
        schedule.set_iteration(iteration)
        rates = {name: group["lr"] for group in optimizer.param_groups for name in names_of(network, group)}
        for name, rate in rates.items():
            factor = 0 if name.startswith("conv_first.") else 0.25 if name.startswith("layers.") else 1
            assert rate == pytest.approx(base * factor), name
    assert optimizer.param_groups[0]["lr_mult"] == 1  # its rate is the one that is logged


def test_frozen_parameters_are_in_no_group(network):
    network.norm.bias.requires_grad_(False)
    try:
        names = set().union(*(names_of(network, group) for group in parameter_groups(network)))
        assert "norm.bias" not in names
        assert "norm.weight" in names
    finally:
        network.norm.bias.requires_grad_(True)


def test_pattern_that_fits_nothing_is_named(network):
    with pytest.raises(OptionsError, match=r"lr_mult: no trained parameter has a name like 'body\.\*'.*conv_first"):
        parameter_groups(network, lr_mult={"body.*": 0.1})
