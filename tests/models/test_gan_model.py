"""GAN training: the same steps as BasicSR's, what each option does, and that a resumed run is the same run."""

import copy
import math

import pytest
import torch

from hriusr.basicsr_bridge import MODEL_REGISTRY, register_package
from hriusr.errors import OptionsError
from hriusr.models.gan_model import GANModel, Targets


@pytest.fixture
def gan_opt(model_opt):
    """Return a function: changes by dotted key -> options of a small GAN training in BasicSR's form."""

    def make(**changes):
        opt = model_opt(network_d={"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4})
        opt["train"] |= {
            "optim_d": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
        }
        for dotted_key, value in changes.items():
            *parents, key = dotted_key.split("__")
            section = opt
            for parent in parents:
                section = section[parent]
            section[key] = value
        return opt

    return make


def make_model(opt, model_class=GANModel):
    torch.manual_seed(3)
    return model_class(opt)


def train(model, batches, first=1):
    logs = []
    for iteration, batch in enumerate(batches, start=first):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        logs.append(dict(model.get_current_log()))
    return logs


def weights_of(model):
    networks = {"g": model.net_g, "d": model.net_d, "ema": model.net_g_ema}
    return {
        f"{kind}.{name}": tensor.clone()
        for kind, network in networks.items()
        for name, tensor in network.state_dict().items()
    }


def is_same(first, second, kind=""):
    return all(torch.equal(first[name], second[name]) for name in first if name.startswith(kind))


def test_model_stands_under_the_name_of_its_predecessor():
    register_package()
    assert MODEL_REGISTRY.get("SRGANModel") is GANModel


def test_steps_equal_those_of_basicsr(gan_opt, batches):
    from basicsr.models.srgan_model import SRGANModel

    opt = gan_opt(train__ema_decay=0.5)
    reference_opt = copy.deepcopy(opt)
    reference_opt["network_g"]["num_in_ch"] = reference_opt["network_g"]["num_out_ch"] = 3
    torch.manual_seed(3)
    reference = SRGANModel(reference_opt)
    model = make_model(opt)
    model.net_g.load_state_dict(reference.net_g.state_dict())
    model.net_d.load_state_dict(reference.net_d.state_dict())
    model.net_g_ema.load_state_dict(reference.net_g.state_dict())
    for iteration, batch in enumerate(batches, start=1):
        for each in (model, reference):
            each.update_learning_rate(iteration)
            each.feed_data(batch)
            each.optimize_parameters(iteration)
        assert dict(model.get_current_log()) == pytest.approx(dict(reference.get_current_log()), rel=1e-4, abs=1e-6)
    for name in ("net_g", "net_d", "net_g_ema"):
        ours, theirs = (getattr(each, name).state_dict() for each in (model, reference))
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("key", ["network_d", "gan_opt", "optim_d"])
def test_what_is_missing_is_named(gan_opt, key):
    opt = gan_opt()
    (opt if key == "network_d" else opt["train"]).pop(key)
    with pytest.raises(OptionsError, match=f"{key} is missing"):
        make_model(opt)


@pytest.mark.parametrize("accumulation", [2, 3])
def test_accumulated_parts_give_the_step_of_the_whole_batch(gan_opt, batches, accumulation):
    """With the spectral norms at rest: each forward pass moves their estimate."""
    whole, parts = make_model(gan_opt()), make_model(gan_opt(train__accumulation=accumulation))
    for model in (whole, parts):
        model.net_d.eval()
    logs = [train(model, batches[:2]) for model in (whole, parts)]
    for first, second in zip(*logs, strict=True):
        assert first == pytest.approx(second, rel=1e-4)
    torch.testing.assert_close(weights_of(whole), weights_of(parts), rtol=1e-3, atol=1e-5)


def test_generator_step_leaves_no_gradient_in_the_discriminator(gan_opt, batches):
    model = make_model(gan_opt())
    model.feed_data(batches[0])
    model._train_generator(model._parts(), 1)
    assert all(parameter.grad is None for parameter in model.net_d.parameters())
    assert all(parameter.grad is not None for parameter in model.net_g.parameters())


def test_generator_learns_from_the_discriminator_alone(gan_opt, batches):
    """Its adversarial loss is no constant: nothing on its way runs under no_grad or inference_mode."""
    opt = gan_opt(train__pixel_opt={"type": "L1Loss", "loss_weight": 0.0})
    model = make_model(opt)
    model.feed_data(batches[0])
    model._train_generator(model._parts(), 1)
    assert model.net_g.conv_first.weight.grad.abs().sum() > 0


def test_discriminator_learns_to_tell(gan_opt, batches):
    network_d = {"type": "UNetDiscriminatorSN", "num_feat": 8}
    opt = gan_opt(network_d=network_d, train__optim_d={"type": "Adam", "lr": 5e-3}, train__net_d_init_iters=100)
    model = make_model(opt)
    easy = {"lq": batches[0]["lq"], "gt": 1 - batches[0]["gt"]}
    logs = train(model, [easy] * 60)
    assert logs[-1]["l_d_real"] + logs[-1]["l_d_fake"] < 0.8 * (logs[0]["l_d_real"] + logs[0]["l_d_fake"])
    assert logs[-1]["out_d_real"] > logs[-1]["out_d_fake"]


def test_named_losses_join_the_generators(gan_opt, batches):
    model = make_model(gan_opt(train__losses={"square": {"type": "MSELoss", "start_iter": 2}}))
    logs = train(model, batches[:2])
    assert ["l_square" in log for log in logs] == [False, True]


def test_generator_rests_while_the_discriminator_starts(gan_opt, batches):
    model = make_model(gan_opt(train__net_d_init_iters=2))
    before = weights_of(model)
    logs = train(model, batches[:2])
    assert is_same(before, weights_of(model), "g.")
    assert not is_same(before, weights_of(model), "d.")
    assert not any("l_g_pix" in log for log in logs)
    assert "l_g_pix" in train(model, batches[2:3], first=3)[0]
    assert not is_same(before, weights_of(model), "g.")


def test_generator_learns_every_nth_step(gan_opt, batches):
    model = make_model(gan_opt(train__net_d_iters=3))
    assert ["l_g_pix" in log for log in train(model, batches)] == [False, False, True, False, False, True]


def test_log_of_a_rare_step_is_not_diluted(gan_opt, batches):
    one = make_model(gan_opt(train__net_d_iters=3))
    alone = train(one, batches[:3])[-1]["l_g_pix"]
    model = make_model(gan_opt(train__net_d_iters=3))
    for iteration, batch in enumerate(batches[:3], start=1):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    assert model.get_current_log()["l_g_pix"] == pytest.approx(alone)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_both_networks_compute_in_the_format(gan_opt, batches, precision):
    model = make_model(gan_opt(precision=precision))
    seen = []
    for network in (model.net_g.conv_last, model.net_d.conv9):
        network.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    logs = train(model, batches[:3])
    assert set(seen) == {{"bf16": torch.bfloat16, "fp16": torch.float16}[precision]}
    assert all(math.isfinite(value) for value in logs[-1].values())
    assert model.training_state()["scaler_d"].get("scale", 2) > 1


def test_clipping_bounds_both_gradients(gan_opt, batches):
    model = make_model(gan_opt(train__grad_clip_norm=1e-3))
    train(model, batches[:1])
    for network in (model.net_g, model.net_d):
        norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in network.parameters()]))
        assert norm == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("side", ["both", "discriminator"])
def test_step_that_is_not_finite_is_left_out_and_counted(gan_opt, batches, side):
    model = make_model(gan_opt())
    train(model, batches[:2])
    before = weights_of(model)
    poisoned = {name: tensor.clone() for name, tensor in batches[2].items()}
    poisoned["lq" if side == "both" else "gt"][0, 0, 0, 0] = math.nan
    if side == "discriminator":  # the pixel loss sees nothing of it
        clean = batches[2]["gt"]
        model.targets = lambda: Targets(clean, clean, model.gt)
    model.feed_data(poisoned)
    model.optimize_parameters(3)
    assert model.guard_counters() == {"consecutive": 1, "total": 2 if side == "both" else 1}
    after = weights_of(model)
    learned = [name for name in after if name.startswith("d.") and "weight_u" not in name and "weight_v" not in name]
    assert all(torch.equal(before[name], after[name]) for name in learned)
    assert is_same(before, after, "g.") == (side == "both")
    assert all(tensor.isfinite().all() for tensor in after.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_saved_and_resumed_training_is_bit_equal(gan_opt, batches, precision):
    changes = {"precision": precision, "train__accumulation": 2}
    uninterrupted = make_model(gan_opt(**changes))
    expected = train(uninterrupted, batches)

    model = make_model(gan_opt(**changes))
    train(model, batches[:3])
    model.save(0, 3)
    opt = gan_opt(**changes)
    opt["path"] |= {f"pretrain_network_{kind}": f"{opt['path']['models']}/net_{kind}_3.pth" for kind in "gd"}
    torch.manual_seed(99)
    resumed = GANModel(opt)
    resumed.resume_training(torch.load(f"{opt['path']['training_states']}/3.state", weights_only=True))
    assert train(resumed, batches[3:], first=4) == expected[3:]
    assert is_same(weights_of(uninterrupted), weights_of(resumed))


def test_spikes_of_both_networks_are_counted_and_told_apart(gan_opt, batches):
    model = make_model(gan_opt(train__spike_factor=10.0))
    for guard in (model.guard, model.guard_d):
        guard.spikes.count.fill_(64)
        guard.spikes.norms[:64] = 1e-9  # any gradient is a spike beside these
    (log,) = train(model, batches[:1])
    assert log["spikes"] == 2
    assert [step.network for step in model.left_out_steps.take()] == ["generator", "discriminator"]


def test_discriminator_of_other_channels_is_refused(gan_opt, batches):
    model = make_model(gan_opt(network_d__num_in_ch=1))
    with pytest.raises(OptionsError, match=r"pictures have 3 channels, network_d.num_in_ch is 1"):
        train(model, batches[:1])


@pytest.mark.parametrize(
    ("network_d", "train_set", "side"),
    [
        ({"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4}, {"gt_size": 32}, 32),
        (
            {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4},
            {"gt_size": 128, "progressive": [{"iter": 3, "gt_size": 64}]},
            64,
        ),
        ({"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4}, {"gt_size": 4}, 4),
    ],
    ids=["first", "later", "smallest"],
)
def test_patches_that_the_discriminator_does_not_take_are_refused_before_the_first_step(
    gan_opt, network_d, train_set, side
):
    opt = gan_opt(network_d=network_d)
    opt["datasets"] = {"train": train_set}
    with pytest.raises(OptionsError, match=rf"{network_d['type']} does not take patches of {side}x{side}"):
        GANModel(opt)


def test_asking_the_discriminator_leaves_it_as_it_was(gan_opt):
    asked, other = gan_opt(), gan_opt()
    asked["datasets"] = {"train": {"gt_size": 32}}
    models = [make_model(opt) for opt in (asked, other)]
    for value, expected in zip(*(model.net_d.state_dict().values() for model in models), strict=True):
        assert torch.equal(value, expected)
    assert models[0].net_d.training
