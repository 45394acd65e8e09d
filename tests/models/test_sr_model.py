"""The training step: what each option does, what is left as it was, what a state restores."""

import copy
import math
from pathlib import Path

import pytest
import torch

from hriusr.archs.weights import load_weights
from hriusr.basicsr_bridge import MODEL_REGISTRY, REPLACED, register_package
from hriusr.errors import OptionsError, WeightsError
from hriusr.models.sr_model import RestorationModel


def train(model, batches, first=1):
    losses = []
    for iteration, batch in enumerate(batches, start=first):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        losses.append(model.get_current_log()["l_pix"])
    return losses


def weights_of(model):
    return {name: tensor.clone() for name, tensor in model.get_bare_model(model.net_g).state_dict().items()}


def make_model(opt):
    torch.manual_seed(3)
    return RestorationModel(opt)


def assert_same_weights(first, second):
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("name", ["RestorationModel", "SRModel", "HATModel", "SwinIRModel"])
def test_model_stands_under_the_names_of_its_predecessors(name):
    register_package()
    assert MODEL_REGISTRY.get(name) is RestorationModel


def test_first_steps_equal_those_of_basicsr(model_opt, batches):
    opt = model_opt(train__ema_decay=0.5)
    reference = make_basicsr_model(opt)
    model = make_model(opt)
    assert_same_weights(weights_of(model), reference.net_g.state_dict())
    for iteration, batch in enumerate(batches, start=1):
        for each in (model, reference):
            each.update_learning_rate(iteration)
            each.feed_data(batch)
            each.optimize_parameters(iteration)
        assert model.get_current_log()["l_pix"] == pytest.approx(reference.get_current_log()["l_pix"], rel=1e-5)
    torch.testing.assert_close(model.net_g.state_dict(), reference.net_g.state_dict(), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(model.net_g_ema.state_dict(), reference.net_g_ema.state_dict(), rtol=1e-4, atol=1e-6)


def make_basicsr_model(opt):
    register_package()
    torch.manual_seed(3)
    return REPLACED["model", "SRModel"](copy.deepcopy(opt))


def test_options_are_left_as_they_were(model_opt):
    opt = model_opt()
    before = copy.deepcopy(opt)
    make_model(opt)
    assert opt == before


@pytest.mark.parametrize("loss_type", ["L1Loss", "MSELoss", "CharbonnierLoss"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_lowers_the_loss(model_opt, batches, loss_type, precision):
    network_opt = {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "upscale": 2}
    opt = model_opt(precision=precision, network_g={**network_opt, "img_range": 1.0})
    opt["train"] |= {"pixel_opt": {"type": loss_type}, "optim_g": {"type": "Adam", "lr": 1e-2}}
    losses = train(make_model(opt), batches[:1] * 12)
    assert losses[-1] < 0.7 * losses[0]


def test_bf16_computes_in_bf16_and_keeps_weights_in_fp32(model_opt, batches):
    model = make_model(model_opt(precision="bf16"))
    seen = []
    model.net_g.conv_last.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    train(model, batches[:1])
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in model.net_g.parameters()} == {torch.float32}


def test_fp16_scales_the_loss(model_opt, batches):
    model = make_model(model_opt(precision="fp16"))
    losses = train(model, batches[:1] * 8)
    assert losses[-1] < losses[0]
    assert model.training_state()["scaler"]["scale"] > 1


def test_unknown_precision_is_refused(model_opt):
    with pytest.raises(OptionsError, match="unknown 'fp8'; one of fp32, bf16, fp16"):
        make_model(model_opt(precision="fp8"))


@pytest.mark.parametrize("accumulation", [2, 3])  # 3: parts of unequal size
def test_accumulated_parts_give_the_step_of_the_whole_batch(model_opt, batches, accumulation):
    whole, parts = make_model(model_opt()), make_model(model_opt(train__accumulation=accumulation))
    seen = []
    parts.net_g.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    losses = [train(model, batches[:2]) for model in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert seen == {2: [2, 2], 3: [2, 2]}[accumulation] * 2
    torch.testing.assert_close(weights_of(whole), weights_of(parts), rtol=1e-3, atol=1e-5)


def test_clipping_bounds_the_gradient(model_opt, batches):
    model = make_model(model_opt(train__grad_clip_norm=1e-3))
    train(model, batches[:1])
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in model.net_g.parameters()]))
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_warm_up_of_the_options_reaches_the_rate(model_opt):
    model = make_model(model_opt(train__warmup_start_factor=0.5))
    model.update_learning_rate(1, warmup_iter=4)
    assert model.get_current_learning_rate() == pytest.approx([1e-3 * (0.5 + 0.5 / 4)])


def test_channels_last_changes_the_layout_alone(model_opt, batches):
    plain, turned = make_model(model_opt()), make_model(model_opt(channels_last=True))
    assert turned.net_g.body[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    losses = [train(model, batches[:2]) for model in (plain, turned)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_compile_wraps_the_trained_network_once_and_leaves_names_and_validation_alone(model_opt, batches, monkeypatch):
    compiled = []

    def fake_compile(network):
        compiled.append(network)
        return lambda lq_BCHW: network(lq_BCHW)

    monkeypatch.setattr(torch, "compile", fake_compile)
    model = make_model(model_opt(compile=True))
    train(model, batches[:2])
    model.test()
    assert compiled == [model.net_g]
    assert not any("_orig_mod" in name for name in model.net_g.state_dict())


@pytest.mark.slow
def test_compiled_training_equals_eager_training(model_opt, batches):
    eager, compiled = make_model(model_opt()), make_model(model_opt(compile=True))
    losses = [train(model, batches[:3]) for model in (eager, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


@pytest.mark.parametrize("ema_decay", [0, 0.9])
def test_validation_uses_the_mean_and_leaves_the_network_training(model_opt, batches, ema_decay):
    model = make_model(model_opt(train__ema_decay=ema_decay))
    train(model, batches[:2])
    model.feed_data(batches[2])
    model.test()
    assert model.net_g.training
    source = model.net_g_ema if ema_decay else model.net_g
    with torch.no_grad():
        expected = source.eval()(batches[2]["lq"])
    assert torch.equal(model.output, expected)
    visuals = model.get_current_visuals()
    assert [*visuals] == ["lq", "result", "gt"]
    assert not model.output.requires_grad


def test_picture_without_ground_truth_forgets_that_of_the_last(model_opt, batches):
    model = make_model(model_opt())
    model.feed_data(batches[0])
    model.feed_data({"lq": batches[1]["lq"]})
    model.test()
    assert "gt" not in model.get_current_visuals()


def test_log_is_the_mean_since_the_last_one(model_opt, batches):
    one_by_one = train(make_model(model_opt()), batches[:3])
    model = make_model(model_opt())
    for iteration, batch in enumerate(batches[:3], start=1):
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    assert model.get_current_log() == pytest.approx({"l_pix": sum(one_by_one) / 3})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_batch_is_left_out_and_counted(model_opt, batches, bad):
    model = make_model(model_opt())
    train(model, batches[:2])
    before, mean_before = weights_of(model), model.net_g_ema.state_dict()
    poisoned = {"lq": batches[2]["lq"], "gt": batches[2]["gt"].clone()}
    poisoned["gt"][0, 0, 0, 0] = bad  # L1: an infinite target gives an infinite loss with finite gradients
    assert all(math.isnan(loss) for loss in train(model, [poisoned], first=3))
    assert_same_weights(before, weights_of(model))
    assert all(torch.isfinite(tensor).all() for tensor in mean_before.values())
    assert model.guard.state_dict() == {"consecutive": 1, "total": 1}
    assert math.isfinite(train(model, batches[3:4], first=4)[0])
    assert model.guard.state_dict() == {"consecutive": 0, "total": 1}


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_saved_and_resumed_training_is_bit_equal(model_opt, batches, precision, optimizer):
    changes = {"precision": precision, "train__optim_g": {"type": optimizer, "lr": 1e-3, "weight_decay": 0.01}}
    uninterrupted = make_model(model_opt(**changes))
    expected = train(uninterrupted, batches)

    model = make_model(model_opt(**changes))
    train(model, batches[:3])
    model.save(0, 3)
    opt = model_opt(**changes)
    opt["path"]["pretrain_network_g"] = f"{opt['path']['models']}/net_g_3.pth"
    torch.manual_seed(99)
    resumed = RestorationModel(opt)
    resumed.resume_training(torch.load(f"{opt['path']['training_states']}/3.state", weights_only=True))
    assert train(resumed, batches[3:], first=4) == expected[3:]
    assert_same_weights(weights_of(uninterrupted), weights_of(resumed))
    assert_same_weights(uninterrupted.net_g_ema.state_dict(), resumed.net_g_ema.state_dict())


def test_state_of_basicsr_is_taken_over(model_opt, batches, tmp_path):
    opt = model_opt()
    (tmp_path / "models").mkdir()
    (tmp_path / "training_states").mkdir()
    reference = make_basicsr_model(opt)
    for iteration, batch in enumerate(batches[:3], start=1):
        reference.update_learning_rate(iteration)
        reference.feed_data(batch)
        reference.optimize_parameters(iteration)
    reference.save(0, 3)
    opt["path"]["pretrain_network_g"] = str(tmp_path / "models" / "net_g_3.pth")
    model = make_model(opt)
    model.resume_training(torch.load(tmp_path / "training_states" / "3.state", weights_only=True))
    assert_same_weights(weights_of(model), reference.net_g.state_dict())
    for each in (model, reference):
        each.update_learning_rate(4)
        each.feed_data(batches[3])
        each.optimize_parameters(4)
    torch.testing.assert_close(weights_of(model), dict(reference.net_g.state_dict()), rtol=1e-4, atol=1e-6)


def test_checkpoint_names_its_network(model_opt, batches, tmp_path):
    model = make_model(model_opt())
    model.save(-1, -1)
    state, network_opt = load_weights(tmp_path / "models" / "net_g_latest.pth")
    assert network_opt["type"] == "MSRResNet"
    assert_same_weights(state, model.net_g_ema.state_dict())
    assert not Path(tmp_path / "training_states").exists()


def test_weights_of_another_network_are_refused_and_loaded_in_part_on_wish(model_opt, tmp_path):
    make_model(model_opt()).save(-1, -1)
    opt = model_opt(network_g={"type": "MSRResNet", "num_feat": 8, "num_block": 2, "upscale": 2})
    opt["path"]["pretrain_network_g"] = str(tmp_path / "models" / "net_g_latest.pth")
    with pytest.raises(WeightsError, match="4 missing in the file"):
        make_model(opt)
    opt["path"]["strict_load_g"] = False
    make_model(opt)


def test_run_without_any_loss_is_refused(model_opt):
    with pytest.raises(OptionsError, match=r"train\.pixel_opt"):
        make_model(model_opt(train__pixel_opt=None))


def test_named_losses_are_added_and_logged(model_opt, batches):
    named = {"fft": {"type": "FFTLoss", "loss_weight": 0.1}, "later": {"type": "MSELoss", "start_iter": 3}}
    model = make_model(model_opt(train__losses=named, train__pixel_opt=None))
    seen = []
    for iteration, batch in enumerate(batches[:3], start=1):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        seen.append(list(model.get_current_log()))
    assert seen == [["l_fft"], ["l_fft"], ["l_fft", "l_later"]]
    assert not torch.equal(
        weights_of(model)["conv_last.weight"], weights_of(make_model(model_opt()))["conv_last.weight"]
    )


def grey(batch, *keys):
    return {key: value[:, :1] if key in keys else value for key, value in batch.items()}


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (("lq", "gt"), r"pictures have 1 channels, network_g.num_in_ch is 3.*datasets.train.color"),
        (("gt",), r"the network gives 32x32 pixels of 3 channels, the ground truth has 32x32 pixels of 1 channels"),
    ],
)
def test_pictures_of_other_channels_are_refused_and_not_broadcast(model_opt, batches, keys, told):
    model = RestorationModel(model_opt())
    model.feed_data(grey(batches[0], *keys))
    with pytest.raises(OptionsError, match=told):
        model.optimize_parameters(1)


def test_training_without_a_loss_in_its_first_step_is_refused(model_opt):
    late = {"fft": {"type": "FFTLoss", "start_iter": 4}}
    with pytest.raises(OptionsError, match=r"no loss is there before iteration 4.*start_iter"):
        RestorationModel(model_opt(train__pixel_opt=None, train__losses=late))
    RestorationModel(model_opt(train__losses=late))


@pytest.mark.filterwarnings("ignore")
def test_training_whose_only_loss_has_no_weights_is_refused(model_opt, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    missing = {"p": {"type": "PerceptualLoss", "layer_weights": {"conv5_4": 1}, "required": False}}
    with pytest.raises(OptionsError, match="train names no loss"):
        RestorationModel(model_opt(train__pixel_opt=None, train__losses=missing))


def test_patches_too_small_for_a_loss_are_refused_before_the_first_step(model_opt):
    opt = model_opt(train__losses={"a": {"type": "MSSSIMLoss", "levels": 3}})
    for sizes in ({"gt_size": 32}, {"gt_size": 64, "progressive": [{"iter": 2, "gt_size": 40}]}):
        opt["datasets"] = {"train": sizes}
        with pytest.raises(OptionsError, match="MSSSIMLoss needs patches of at least 41 pixels"):
            RestorationModel(opt)
    opt["datasets"] = {"train": {"gt_size": 48}}
    RestorationModel(opt)
