"""Models that make their pairs: what is sharpened for whom, and that a resumed run has its pool back."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate

from hriusr.basicsr_bridge import MODEL_REGISTRY, register_package
from hriusr.data.degradations.filters import sharpen
from hriusr.data.image_io import write_image
from hriusr.data.realesrgan_dataset import RealESRGANDataset
from hriusr.data.sampler import SampleKey
from hriusr.errors import OptionsError
from hriusr.models.real_gan_model import RealGANModel
from hriusr.models.real_mse_model import RealMSEModel

MODELS = {
    "RealESRNetModel": RealMSEModel,
    "RealHATMSEModel": RealMSEModel,
    "RealESRGANModel": RealGANModel,
    "RealHATGANModel": RealGANModel,
}


@pytest.fixture
def real_opt(model_opt, tmp_path, photo):
    """Return a function: changes on the top level -> options of a small training on made pairs."""
    for name in ("astronaut", "chelsea"):
        write_image(tmp_path / "gt" / f"{name}.png", photo(name)[60:156, 100:180])

    def make(**changes):
        opt = model_opt(
            network_d={"type": "UNetDiscriminatorSN", "num_in_ch": 3, "num_feat": 4},
            datasets={
                "train": {
                    "type": "RealESRGANDataset",
                    "phase": "train",
                    "scale": 2,
                    "dataroot_gt": str(tmp_path / "gt"),
                    "crop_pad_size": 40,
                    "gt_size": 32,
                }
            },
            queue_size=5,
        )
        opt["train"] |= {
            "optim_d": {"type": "Adam", "lr": 1e-3},
            "gan_opt": {"type": "GANLoss", "gan_type": "vanilla", "loss_weight": 0.1},
        }
        return opt | changes

    return make


def batches_of(opt, count, size=2):
    dataset = RealESRGANDataset(opt["datasets"]["train"])
    keys = [
        [SampleKey(position % 2, position, 7) for position in range(n * size, (n + 1) * size)] for n in range(count)
    ]
    return [default_collate([dataset[key] for key in batch]) for batch in keys]


def train(model, batches, first=1):
    logs = []
    for iteration, batch in enumerate(batches, start=first):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
        logs.append(dict(model.get_current_log()))
    return logs


@pytest.mark.parametrize("name", MODELS)
def test_model_stands_under_the_name_of_its_predecessor(name):
    register_package()
    assert MODEL_REGISTRY.get(name) is MODELS[name]


@pytest.mark.parametrize("model_class", [RealMSEModel, RealGANModel])
def test_fed_batch_is_a_degraded_pair_of_the_patch_size(real_opt, model_class):
    opt = real_opt()
    model = model_class(opt)
    model.feed_data(batches_of(opt, 1)[0])
    assert model.lq.shape == (2, 3, 16, 16)
    assert model.gt.shape == (2, 3, 32, 32)
    blurred = torch.nn.functional.interpolate(model.gt, scale_factor=0.5, mode="area")
    # the same place of the same picture: spoilt, but alike
    assert torch.corrcoef(torch.stack([blurred.flatten(), model.lq.flatten()]))[0, 1] > 0.8


def test_patches_of_a_batch_are_cut_at_places_of_their_own_and_pairs_fit(real_opt):
    """With degradations that do nothing but shrink, lq is the shrunk gt, to the pixel."""
    quiet = {"gaussian_noise_prob": 1.0, "noise_range": [0, 0], "jpeg_range": [100, 100], "resize_prob": [0, 0, 1]}
    quiet |= {f"{key}2": value for key, value in quiet.items()} | {"second_blur_prob": 0, "gt_usm": False}
    opt = real_opt(**quiet, queue_size=0)
    opt["datasets"]["train"] |= {"blur_sigma": [0.01, 0.02], "sinc_prob": 0, "final_sinc_prob": 0}
    opt["datasets"]["train"]["kernel_list"], opt["datasets"]["train"]["kernel_prob"] = ["iso"], [1]
    model = RealMSEModel(opt)
    errors = []
    for batch in batches_of(opt, 4):
        model.feed_data(batch)
        shrunk = torch.nn.functional.interpolate(model.gt, scale_factor=0.5, mode="area")
        errors += (shrunk - model.lq).abs().mean((1, 2, 3)).tolist()
    assert max(errors) < 0.03


@pytest.mark.parametrize("gt_usm", [True, False])
def test_first_stage_aims_at_the_sharpened_picture_where_asked(real_opt, gt_usm):
    opt = real_opt(gt_usm=gt_usm, gt_size=40, queue_size=0)
    opt["datasets"]["train"]["gt_size"] = 40
    batch = batches_of(opt, 1)[0]
    model = RealMSEModel(opt)
    model.feed_data(batch)
    expected = sharpen(batch["gt"]) if gt_usm else batch["gt"]
    torch.testing.assert_close(model.gt, expected, atol=0.6 / 255, rtol=0)  # in 8 bits


@pytest.mark.parametrize("flag", ["l1_gt_usm", "percep_gt_usm", "gan_gt_usm"])
def test_each_flag_sharpens_the_target_of_its_loss(real_opt, flag):
    opt = real_opt(**({"l1_gt_usm": False, "percep_gt_usm": False, "gan_gt_usm": False} | {flag: True}))
    model = RealGANModel(opt)
    model.feed_data(batches_of(opt, 1)[0])
    by_flag = dict(zip(("l1_gt_usm", "percep_gt_usm", "gan_gt_usm"), model.targets(), strict=True))
    for name, target in by_flag.items():
        assert torch.equal(target, sharpen(model.gt) if name == flag else model.gt)


def test_degradation_options_reach_the_pictures(real_opt):
    results = []
    for changes in ({}, {"noise_range2": [60, 60], "gaussian_noise_prob2": 1.0, "jpeg_range2": [95, 95]}):
        opt = real_opt(**changes)
        model = RealGANModel(opt)
        model.feed_data(batches_of(opt, 1)[0])
        results.append(model.lq)
    roughness = [float((lq[..., 1:] - lq[..., :-1]).abs().mean()) for lq in results]
    assert roughness[1] > 1.2 * roughness[0]


def test_pool_size_is_that_of_the_options(real_opt):
    opt = real_opt(queue_size=3)
    model = RealMSEModel(opt)
    for batch in batches_of(opt, 4):
        model.feed_data(batch)
    assert len(model.pairs.pool.state_dict()["lq"]) == 3
    assert RealMSEModel({name: value for name, value in opt.items() if name != "queue_size"}).pairs.pool.size == 180


@pytest.mark.parametrize("model_class", [RealMSEModel, RealGANModel])
@pytest.mark.parametrize("saved_after", [1, 4])  # the pool filling; the pool full
def test_saved_and_resumed_training_is_bit_equal(real_opt, model_class, saved_after):
    opt = real_opt()
    batches = batches_of(opt, 6)
    torch.manual_seed(3)
    uninterrupted = model_class(real_opt())
    expected = train(uninterrupted, batches)

    torch.manual_seed(3)
    model = model_class(real_opt())
    train(model, batches[:saved_after])
    model.save(0, saved_after)
    for kind in "gd":
        opt["path"][f"pretrain_network_{kind}"] = f"{opt['path']['models']}/net_{kind}_{saved_after}.pth"
    torch.manual_seed(99)
    resumed = model_class(opt)
    state = torch.load(f"{opt['path']['training_states']}/{saved_after}.state", weights_only=True)
    resumed.resume_training(state)
    assert train(resumed, batches[saved_after:], first=saved_after + 1) == expected[saved_after:]
    for name, tensor in uninterrupted.net_g.state_dict().items():
        assert torch.equal(tensor, resumed.net_g.state_dict()[name])
    assert len(state["pair_pools"]) == 1


def test_pairs_that_are_read_are_taken_as_they_are(real_opt, batches):
    opt = real_opt()
    opt["datasets"]["train"] = {"type": "PairedImageDataset", "phase": "train", "scale": 2, "gt_size": 32}
    model = RealGANModel(opt)
    model.feed_data(batches[0])
    assert torch.equal(model.lq, batches[0]["lq"])
    assert "pair_pools" not in model.training_state()
    assert "l_g_gan" in train(model, batches[:1])[0]


def test_validation_does_not_degrade(real_opt, batches):
    model = RealGANModel(real_opt())
    model.feed_data(batches[0])
    model.test()
    assert torch.equal(model.lq, batches[0]["lq"])
    assert model.output.shape == batches[0]["gt"].shape


@pytest.mark.parametrize("gt_size", [0, 33, 64])
def test_wrong_patch_size_is_named(real_opt, gt_size):
    opt = real_opt(gt_size=gt_size)
    opt["datasets"]["train"]["gt_size"] = None
    batch = batches_of(opt, 1)[0]
    with pytest.raises(OptionsError, match=rf"gt_size \(={gt_size or None}\)"):
        RealMSEModel(opt).feed_data(batch)


def test_degraded_pictures_keep_their_brightness(real_opt):
    opt = real_opt(queue_size=0)
    model = RealMSEModel(opt)
    differences = []
    for batch in batches_of(opt, 30):
        model.feed_data(batch)
        differences += (model.lq.mean((1, 2, 3)) - model.gt.mean((1, 2, 3))).tolist()
    assert abs(np.mean(differences)) < 0.01
