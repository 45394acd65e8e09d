"""Keys of the optimiser that do not fit its type or each other."""

import logging
from types import SimpleNamespace

import pytest

from hriusr.errors import OptionsError
from hriusr.options.optimizer_checks import OPTIMIZER_KEYS, check_optimizer
from hriusr.options.problems import Problems
from hriusr.options.train_schema import TrainOptions

ADAM = "type: Adam\n    lr: 2e-4\n    weight_decay: 0\n    betas: [0.9, 0.99]"


@pytest.mark.parametrize("type_name", sorted(OPTIMIZER_KEYS))
def test_every_optimiser_is_taken(load, type_name):
    ema = [("ema_decay: 0.999", "ema_decay: 0")] if type_name == "AdamWScheduleFree" else []
    options = load((ADAM, f"type: {type_name}\n    lr: 2e-4"), *ema)
    assert options.to_basicsr_dict()["train"]["optim_g"] == {"type": type_name, "lr": 2e-4}


@pytest.mark.parametrize(
    ("new", "message"),
    [
        ("type: Lion\n    lr: 1e-4\n    eps: 1e-8", r"optim_g\.eps is no option of Lion; it takes betas, weight_decay"),
        ("type: SGD\n    lr: 1e-4\n    fused: true", r"optim_g\.fused is no option of SGD"),
        ("type: Adan\n    lr: 1e-4\n    betas: [0.9, 0.99]", r"betas .*Adan takes 3 numbers"),
        ("type: Adam\n    lr: 1e-4\n    betas: [0.9, 0.9, 0.99]", r"betas .*Adam takes 2 numbers"),
        ("type: Adam\n    lr: 1e-4\n    fused: true\n    foreach: true", "fused and foreach exclude each other"),
        ("type: Adam\n    lr: 1e-4\n    lr_mult: {body.*: -1}", r"lr_mult"),
        ("type: AdamWScheduleFree\n    lr: 1e-4", r"ema_decay \(=0\.999\): AdamWScheduleFree averages .* set it to 0"),
        ("type: AdamWScheduleFree\n    lr: 1e-4\n    betas: [0, 0.9]", "needs a first one above 0"),
        ("type: Adam\n    lr: 1e-4\n  spike_factor: 0.5", r"spike_factor \(=0\.5\) must be more than 1"),
    ],
)
def test_key_that_does_not_fit_is_named(load, new, message):
    with pytest.raises(OptionsError, match=message):
        load((ADAM, new))


def test_kernels_of_the_discriminators_optimiser_that_exclude_each_other_are_told():
    optimizer = {"type": "Adam", "lr": 1e-4}
    train = {"total_iter": 9, "optim_g": optimizer, "scheduler": {"type": "ConstantLR"}}
    problems = Problems(SimpleNamespace(locate=str))
    check_optimizer(TrainOptions(**train, optim_d={**optimizer, "fused": True, "foreach": True}), problems)
    assert problems.errors[0][1] == "train.optim_d: fused and foreach exclude each other"


def test_schedule_under_a_schedule_free_optimiser_is_warned_of(load, caplog):
    with caplog.at_level(logging.WARNING):
        load((ADAM, "type: AdamWScheduleFree\n    lr: 2e-4"), ("ema_decay: 0.999", "ema_decay: 0"))
    assert "made for a constant rate (ConstantLR), not MultiStepLR" in caplog.text


@pytest.mark.parametrize(
    ("replacement", "message"),
    [
        (("weight_decay: 0", "weight_decay: 0\n    no_decay_norm_bias: true"), "no effect without weight_decay"),
        (("ema_decay: 0.999", "ema_decay: 0\n  ema_start: 5"), "train.ema_start has no effect"),
    ],
)
def test_key_without_effect_is_warned_of(load, caplog, replacement, message):
    with caplog.at_level(logging.WARNING):
        load(replacement)
    assert message in caplog.text


PIXEL = "  pixel_opt:\n    type: L1Loss\n    loss_weight: 1.0\n    reduction: mean\n"


def test_losses_by_name_do_without_pixel_opt(load):
    losses = "  losses:\n    colours: {type: L1Loss, loss_weight: 5e-1, start_iter: 1e1}\n"
    opt = load((PIXEL, losses)).to_basicsr_dict()["train"]
    assert opt["losses"] == {"colours": {"type": "L1Loss", "loss_weight": 0.5, "start_iter": 10}}
    assert "pixel_opt" not in opt


@pytest.mark.parametrize(
    ("losses", "message"),
    [
        ("{fft: {type: L2Loss}}", r"unknown loss 'L2Loss'"),
        ("{fft: {type: L1Loss, weight: 1}}", "has no argument 'weight'"),
        ("{percep: {type: L1Loss}}", r"train\.losses\.percep: l_percep is in the log already; rename it"),
    ],
)
def test_fault_in_a_named_loss_is_named(load, losses, message):
    with pytest.raises(OptionsError, match=message):
        load((PIXEL, f"{PIXEL}  losses: {losses}\n"))
