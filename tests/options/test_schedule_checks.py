"""What of losses, optimisers and iterations contradicts the rest of a training."""

import pytest

from hriusr.errors import OptionsError

ITERATIONS = "  total_iter: !!float 1e2"
SCHEDULER = "type: MultiStepLR\n    milestones: [50, 80]\n    gamma: 0.5"
GAN = ("model_type: SRModel", "model_type: SRGANModel")


def complaint(load, *replacements) -> str:
    with pytest.raises(OptionsError) as caught:
        load(*replacements)
    return str(caught.value)


@pytest.mark.parametrize(
    ("scheduler", "expected"),
    [
        ("type: CosineAnnealingRestartLR\n    periods: [50, 50]", "(=[1]) needs one weight for each of the 2 periods"),
        (f"{SCHEDULER}\n    restarts: [0, 30]", "(=[1]) needs one weight for each of the 2 restarts"),
        (f"{SCHEDULER}\n    restarts: []", "(=[1]) needs one weight for each of the 0 restarts"),
    ],
)
def test_restarts_without_weights_count_as_one(load, scheduler, expected):
    assert f"train.scheduler.restart_weights {expected}" in complaint(load, (SCHEDULER, scheduler))


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        ("{type: Adam, lr: 1e-4, momentum: 0.9}", "train.optim_d.momentum is no option of Adam"),
        ("{type: Adam, lr: 1e-4, betas: [0.9, 0.9, 0.9]}", "train.optim_d.betas (=[0.9, 0.9, 0.9]): Adam takes 2"),
        ("{type: Adam, lr: 1e-4, fused: true, foreach: true}", "train.optim_d: fused and foreach exclude each other"),
    ],
)
def test_keys_of_the_discriminators_optimiser(load, optimizer, expected):
    assert expected in complaint(load, GAN, (ITERATIONS, f"  optim_d: {optimizer}\n{ITERATIONS}"))


@pytest.mark.parametrize(("key", "value"), [("net_d_init_iters", 100), ("net_d_iters", 101)])
def test_generator_must_get_a_step(load, key, value):
    message = complaint(load, GAN, (ITERATIONS, f"  {key}: {value}\n{ITERATIONS}"))
    assert f"train.{key} (={value}) leaves the generator no step of total_iter (=100)" in message
    enough = complaint(load, GAN, (ITERATIONS, f"  {key}: {value - 1}\n{ITERATIONS}"))  # optim_d and more are missing
    assert "leaves the generator" not in enough


def test_what_begins_after_the_end_is_told(load):
    late = f"  ema_start: 101\n  losses: {{a: {{type: L1Loss, start_iter: 200}}}}\n{ITERATIONS}"
    warnings = " ".join(load((ITERATIONS, late)).run.warnings)
    assert "train.ema_start (=101) reaches beyond train.total_iter (=100)" in warnings
    assert "train.losses.a.start_iter (=200) reaches beyond train.total_iter (=100)" in warnings


def test_pictures_come_with_their_channels_last(load):
    message = complaint(load, ("crop_border: 2", "crop_border: 2\n      input_order: CHW"))
    assert "input_order (=CHW) must be HWC" in message


@pytest.mark.parametrize("name", ["a" * 181, "\N{CJK UNIFIED IDEOGRAPH-65E5}" * 61])
def test_name_leaves_room_for_what_is_put_behind_it(load, name):
    assert "at most 180 bytes" in complaint(load, ("name: small", f"name: {name}"))
