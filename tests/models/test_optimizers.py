"""Every optimiser by name: its first step, its arguments, and what a saved state restores."""

import copy
import inspect
import sys

import numpy as np
import pytest
import schedulefree
import torch
from torch import nn

from hriusr.archs.weights import load_weights
from hriusr.errors import OptionsError
from hriusr.models.muon import orthogonalise
from hriusr.models.optimization import build_optimizer, load_optimizer_state, optimizer_class
from hriusr.models.sr_model import RestorationModel
from hriusr.options.optimizer_checks import OPTIMIZER_KEYS

LR, DECAY = 0.01, 0.1
ALL = sorted(OPTIMIZER_KEYS)
# one step from nothing, in closed form: (weights, gradient) -> weights, with lr and weight_decay of above
FIRST_STEPS = {
    "Adam": lambda w, g: w - LR * (g + DECAY * w) / (abs(g + DECAY * w) + 1e-8),
    "AdamW": lambda w, g: w * (1 - LR * DECAY) - LR * g / (abs(g) + 1e-8),
    "Adamax": lambda w, g: w - LR * (g + DECAY * w) / (abs(g + DECAY * w) + 1e-8),
    "SGD": lambda w, g: w - LR * (g + DECAY * w),
    "ASGD": lambda w, g: w * (1 - 1e-4 * LR) - LR * (g + DECAY * w),
    "RMSprop": lambda w, g: w - LR * (g + DECAY * w) / (np.sqrt(0.01) * abs(g + DECAY * w) + 1e-8),
    "RAdam": lambda w, g: w - LR * (g + DECAY * w),  # too few steps to know the variance: plain momentum
    "Adan": lambda w, g: (w - LR * g / (abs(g) + 1e-8)) / (1 + LR * DECAY),
    "Lion": lambda w, g: w * (1 - LR * DECAY) - LR * np.sign(g),
    # its first mean is z itself, and y lies between both
    "AdamWScheduleFree": lambda w, g: w - LR * (g / (abs(g) + 1e-8) + DECAY * w),
}


class Net(nn.Module):
    def __init__(self, seed=0):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.linear = nn.Linear(6, 4)
        self.norm = nn.LayerNorm(4)
        self.conv = nn.Conv2d(2, 3, 3)
        self.bias_table = nn.Parameter(torch.empty(5, 2))
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.normal_(generator=generator)

    def fill_gradients(self, seed):
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)


def decayed(type_name):
    return {
        "type": type_name,
        "lr": LR,
        **({"weight_decay": DECAY} if "weight_decay" in OPTIMIZER_KEYS[type_name] else {}),
    }


@pytest.mark.parametrize("type_name", sorted(FIRST_STEPS))
def test_first_step_is_that_of_the_formula(type_name):
    network = Net()
    optimizer = build_optimizer(network, decayed(type_name))
    network.fill_gradients(1)
    expected = {
        name: FIRST_STEPS[type_name](parameter.detach().double().numpy(), parameter.grad.double().numpy())
        for name, parameter in network.named_parameters()
    }
    optimizer.step()
    for name, parameter in network.named_parameters():
        np.testing.assert_allclose(parameter.detach().numpy(), expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("type_name", sorted(set(ALL) - {"Muon"}))
def test_steps_equal_those_of_the_class_itself(type_name):
    ours, reference = Net(), Net()
    optimizer = build_optimizer(ours, decayed(type_name))
    arguments = {key: value for key, value in decayed(type_name).items() if key != "type"}
    plain = optimizer_class(type_name)(reference.parameters(), **arguments)
    if hasattr(plain, "train"):
        plain.train()
    for seed in range(6):
        for network, each in ((ours, optimizer), (reference, plain)):
            network.fill_gradients(seed)
            each.step()
    torch.testing.assert_close(ours.state_dict(), reference.state_dict(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("type_name", ALL)
def test_keys_of_options_are_arguments_of_the_class(type_name):
    parameters = inspect.signature(optimizer_class(type_name)).parameters
    assert {"lr", *OPTIMIZER_KEYS[type_name]} <= set(parameters)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch is older than 2.9")
def test_muon_takes_kernels_and_adamw_the_rest():
    network, kernels_alone, rest_alone = Net(), Net(), Net()
    optimizer = build_optimizer(network, {"type": "Muon", "lr": LR, "weight_decay": DECAY})
    kernels = {name: p for name, p in kernels_alone.named_parameters() if name.endswith("weight") and p.ndim > 1}
    matrices = {name: nn.Parameter(p.detach().flatten(1)) for name, p in kernels.items()}
    # torch's own takes matrices alone, and computes in half precision
    muon = torch.optim.Muon(matrices.values(), lr=LR, weight_decay=DECAY, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(rest_alone.parameters(), lr=LR, weight_decay=DECAY)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for seed in range(3):
        for each in (network, kernels_alone, rest_alone):
            each.fill_gradients(seed)
        for name, matrix in matrices.items():
            matrix.grad = kernels[name].grad.flatten(1)
        for each in (optimizer, muon, adamw):
            each.step()
    after = dict(network.named_parameters())
    assert set(matrices) == {"linear.weight", "conv.weight"}
    for name, matrix in matrices.items():
        ours, theirs = after[name] - before[name], matrix.view(after[name].shape) - before[name]
        assert (ours - theirs).norm() < 0.03 * theirs.norm(), name
    for name, value in rest_alone.named_parameters():
        if name not in kernels:
            torch.testing.assert_close(after[name], value)


def test_muon_leaves_depthwise_kernels_to_adamw():
    network = nn.Conv2d(6, 6, 3, groups=6)
    optimizer = build_optimizer(network, {"type": "Muon", "lr": LR})
    assert [group["is_matrix"] for group in optimizer.param_groups] == [False]


@pytest.mark.parametrize("shape", [(3, 5, 9), (2, 9, 5), (1, 4, 4)])
def test_orthogonalise_keeps_singular_vectors_and_evens_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, _, v = torch.linalg.svd(x, full_matrices=False)
    values = u.mT @ orthogonalise(x, 5) @ v.mT
    diagonal = values.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
    assert 0.6 < diagonal.min()
    assert diagonal.max() < 1.3


@pytest.mark.parametrize(
    ("type_name", "module", "package"),
    [("Lion", "timm.optim", "timm"), ("AdamWScheduleFree", "schedulefree", "schedulefree")],
)
def test_missing_package_is_named_with_the_command(monkeypatch, type_name, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(OptionsError, match=f"{type_name} comes from the package {package}.*pip install -U {package}"):
        build_optimizer(Net(), {"type": type_name, "lr": LR})


@pytest.mark.parametrize("type_name", ALL)
def test_resumed_steps_are_bit_equal(type_name):
    options = {**decayed(type_name), "lr_mult": {"conv.*": 0.5}, "no_decay_norm_bias": True}
    if "weight_decay" not in options:
        options.pop("no_decay_norm_bias")
    network = Net()
    optimizer = build_optimizer(network, options)
    for seed in range(4):
        network.fill_gradients(seed)
        optimizer.step()
    resumed = Net(seed=9)
    resumed.load_state_dict(network.state_dict())
    other = build_optimizer(resumed, options)
    load_optimizer_state(other, copy.deepcopy(optimizer.state_dict()))
    for seed in range(4, 8):
        for each, its_optimizer in ((network, optimizer), (resumed, other)):
            each.fill_gradients(seed)
            its_optimizer.step()
    for name, value in network.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


@pytest.mark.parametrize("type_name", ALL)
def test_model_is_saved_and_resumed_bit_equal(model_opt, batches, type_name):
    """Also when it looks at its weights in between."""
    ema_decay = 0 if "ScheduleFree" in type_name else 0.9
    changes = {"train__optim_g": {"type": type_name, "lr": 1e-3}, "train__ema_decay": ema_decay}

    def steps(model, first, last):
        for iteration in range(first, last + 1):
            model.update_learning_rate(iteration, 4)
            model.feed_data(batches[iteration - 1])
            model.optimize_parameters(iteration)
        return {name: tensor.clone() for name, tensor in model.net_g.state_dict().items()}

    torch.manual_seed(3)
    expected_model = RestorationModel(model_opt(**changes))
    expected = steps(expected_model, 1, 6)

    torch.manual_seed(3)
    model = RestorationModel(model_opt(**changes))
    steps(model, 1, 3)
    model.test()
    model.save(0, 3)
    opt = model_opt(**changes)
    opt["path"]["pretrain_network_g"] = f"{opt['path']['models']}/net_g_3.pth"
    resumed = RestorationModel(opt)
    resumed.resume_training(torch.load(f"{opt['path']['training_states']}/3.state", weights_only=True))
    resumed.feed_data(batches[0])
    resumed.test()
    after = steps(resumed, 4, 6)
    assert all(torch.equal(expected[name], after[name]) for name in expected)
    means = [each.inference_network.state_dict() for each in (expected_model, resumed)]
    assert all(torch.equal(means[0][name], means[1][name]) for name in means[0])


@pytest.mark.parametrize("type_name", sorted(set(ALL) - {"ASGD", "Rprop"}))  # those are for whole data sets
def test_training_lowers_the_loss(model_opt, batches, type_name):
    lr = {"SGD": 0.1, "Lion": 1e-3}.get(type_name, 5e-3)
    ema_decay = 0 if "ScheduleFree" in type_name else 0.9
    torch.manual_seed(3)
    network_opt = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    momentum = {"momentum": 0.9} if type_name == "SGD" else {}
    opt = model_opt(train__optim_g={"type": type_name, "lr": lr, **momentum}, train__ema_decay=ema_decay)
    model = RestorationModel({**opt, "network_g": {**network_opt, "img_range": 1.0}})
    losses = []
    for iteration in range(1, 31):
        model.feed_data(batches[0])
        model.optimize_parameters(iteration)
        losses.append(model.get_current_log()["l_pix"])
    assert losses[-1] < 0.7 * losses[0]
    error = (model.upscale(batches[0]["lq"]) - batches[0]["gt"]).abs().mean()  # of the weights that are shipped
    assert error < 0.9 * losses[0]


def test_state_of_another_optimiser_is_refused(model_opt):
    model = RestorationModel(model_opt())
    state = {**model.training_state(), "epoch": 0, "iter": 0}
    other = RestorationModel(model_opt(train__optim_g={"type": "Adamax", "lr": 1e-3}))
    with pytest.raises(OptionsError, match="the state is that of Adam, this run has Adamax"):
        other.resume_training(state)


@pytest.mark.parametrize("type_name", ALL)
def test_changed_hyperparameters_count_after_resuming_and_counters_go_on(type_name):
    optimizer = build_optimizer(network := Net(), decayed(type_name))
    network.fill_gradients(1)
    optimizer.step()
    changes = {
        **({"weight_decay": 0.5} if "weight_decay" in OPTIMIZER_KEYS[type_name] else {}),
        **({"eps": 1e-4} if "eps" in OPTIMIZER_KEYS[type_name] else {}),
        **({"betas": [0.5, 0.6, 0.7][: len(optimizer.defaults["betas"])]} if "betas" in optimizer.defaults else {}),
    }
    resumed = build_optimizer(Net(), {**decayed(type_name), **changes})
    load_optimizer_state(resumed, copy.deepcopy(optimizer.state_dict()))
    for group, saved in zip(resumed.param_groups, optimizer.param_groups, strict=True):
        expected = {key: tuple(value) if key == "betas" else value for key, value in changes.items() if key in saved}
        assert expected.items() <= group.items()
        counters = {key: saved[key] for key in ("k", "weight_sum", "lr_max", "train_mode") if key in saved}
        assert counters.items() <= group.items()


def test_hyperparameters_that_need_buffers_stay_with_a_word(caplog):
    for type_name, key, value in (
        ("Adam", "amsgrad", True),
        ("RMSprop", "centered", True),
        ("RMSprop", "momentum", 0.9),
    ):
        optimizer = build_optimizer(network := Net(), decayed(type_name))
        network.fill_gradients(1)
        optimizer.step()
        resumed = build_optimizer(network := Net(), {**decayed(type_name), key: value})
        load_optimizer_state(resumed, copy.deepcopy(optimizer.state_dict()))
        assert f"train.optim_g.{key} stays" in caplog.text
        network.fill_gradients(2)
        resumed.step()


def test_kernels_that_exclude_each_other_are_an_error_of_the_user():
    with pytest.raises(OptionsError, match=r"train\.optim_d \(Adam\).*fused.*foreach"):
        build_optimizer(Net(), {"type": "Adam", "lr": LR, "fused": True, "foreach": True}, "train.optim_d")


def test_state_of_other_groups_is_refused():
    optimizer = build_optimizer(Net(), {"type": "Adam", "lr": LR})
    other = build_optimizer(Net(), {"type": "Adam", "lr": LR, "lr_mult": {"conv.*": 0.1}})
    with pytest.raises(OptionsError, match=r"groups of \[7\] parameters, this run's has \[5, 2\]"):
        load_optimizer_state(other, optimizer.state_dict())


SCHEDULE_FREE = {"train__optim_g": {"type": "AdamWScheduleFree", "lr": 1e-2}, "train__ema_decay": 0}


class TestScheduleFree:
    def trained(self, model_opt, batches, **changes):
        torch.manual_seed(3)
        model = RestorationModel(model_opt(**SCHEDULE_FREE, **changes))
        for iteration, batch in enumerate(batches, start=1):
            model.feed_data(batch)
            model.optimize_parameters(iteration)
        return model

    def test_validated_weights_are_those_of_the_library_in_eval_mode(self, model_opt, batches):
        model = self.trained(model_opt, batches)
        ours = {name: value.clone() for name, value in model.inference_network.state_dict().items()}
        trained = {name: value.clone() for name, value in model.net_g.state_dict().items()}
        assert isinstance(model.optimizer_g, schedulefree.AdamWScheduleFree)
        model.optimizer_g.eval()
        for name, value in model.net_g.state_dict().items():
            assert torch.equal(ours[name], value), name
            assert not torch.equal(trained[name], value), name

    def test_looking_at_the_weights_changes_nothing_of_the_training(self, model_opt, batches):
        model = self.trained(model_opt, batches)
        before = {name: value.clone() for name, value in model.net_g.state_dict().items()}
        model.test()
        model.save(-1, -1)
        assert all(torch.equal(before[name], value) for name, value in model.net_g.state_dict().items())

    def test_checkpoint_holds_both(self, model_opt, batches, tmp_path):
        model = self.trained(model_opt, batches)
        model.save(-1, -1)
        for prefer_ema, expected in ((True, model.inference_network), (False, model.net_g)):
            saved, _ = load_weights(tmp_path / "models" / "net_g_latest.pth", prefer_ema=prefer_ema)
            assert all(torch.equal(value, saved[name]) for name, value in expected.state_dict().items())

    def test_second_mean_is_refused(self, model_opt):
        with pytest.raises(OptionsError, match=r"ema_decay \(=0\.9\).*set it to 0"):
            RestorationModel(model_opt(**{**SCHEDULE_FREE, "train__ema_decay": 0.9}))
