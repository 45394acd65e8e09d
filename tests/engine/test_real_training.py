"""Both stages of Real-HAT through the engine, with the keys of its own option files, and interrupted on the way."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from hriusr.cli.commands import app
from hriusr.data.image_io import write_image
from hriusr.engine import training_run
from hriusr.engine.registered import registered_components
from hriusr.engine.train_loop import train
from hriusr.errors import OptionsError, WeightsError
from hriusr.options import load_options

# every key of Real-HAT's file for its GAN stage, at a size for a test; options/README.md says where theirs are
REAL_HAT_GAN = """\
name: real
model_type: RealHATGANModel
scale: 4
num_gpu: 0
manual_seed: 0
l1_gt_usm: True
percep_gt_usm: True
gan_gt_usm: False
resize_prob: [0.2, 0.7, 0.1]
resize_range: [0.15, 1.5]
gaussian_noise_prob: 0.5
noise_range: [1, 30]
poisson_scale_range: [0.05, 3]
gray_noise_prob: 0.4
jpeg_range: [30, 95]
second_blur_prob: 0.8
resize_prob2: [0.3, 0.4, 0.3]
resize_range2: [0.3, 1.2]
gaussian_noise_prob2: 0.5
noise_range2: [1, 25]
poisson_scale_range2: [0.05, 2.5]
gray_noise_prob2: 0.4
jpeg_range2: [30, 95]
gt_size: 64
queue_size: 6
datasets:
  train:
    name: DF2K+OST
    type: RealESRGANDataset
    dataroot_gt: gt
    meta_info_file: hat/data/meta_info/meta_info_DFOsub_GT.txt
    io_backend: {type: disk}
    blur_kernel_size: 21
    kernel_list: ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    kernel_prob: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    sinc_prob: 0.1
    blur_sigma: [0.2, 3]
    betag_range: [0.5, 4]
    betap_range: [1, 2]
    blur_kernel_size2: 21
    kernel_list2: ['iso', 'aniso', 'generalized_iso', 'generalized_aniso', 'plateau_iso', 'plateau_aniso']
    kernel_prob2: [0.45, 0.25, 0.12, 0.03, 0.12, 0.03]
    sinc_prob2: 0.1
    blur_sigma2: [0.2, 1.5]
    betag_range2: [0.5, 4]
    betap_range2: [1, 2]
    final_sinc_prob: 0.8
    gt_size: 64
    use_hflip: True
    use_rot: False
    use_shuffle: true
    num_worker_per_gpu: 0
    batch_size_per_gpu: 2
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
network_g:
  type: HAT
  upscale: 4
  in_chans: 3
  img_size: 16
  window_size: 4
  compress_ratio: 3
  squeeze_factor: 6
  conv_scale: 0.01
  overlap_ratio: 0.5
  img_range: 1.
  depths: [1]
  embed_dim: 12
  num_heads: [2]
  mlp_ratio: 2
  upsampler: 'pixelshuffle'
  resi_connection: '1conv'
network_d: {type: UNetDiscriminatorSN, num_in_ch: 3, num_feat: 4, skip_connection: True}
path: {pretrain_network_g: ~, param_key_g: params_ema, strict_load_g: true, resume_state: ~}
train:
  ema_decay: 0.999
  optim_g: {type: Adam, lr: !!float 1e-4, weight_decay: 0, betas: [0.9, 0.99]}
  optim_d: {type: Adam, lr: !!float 1e-4, weight_decay: 0, betas: [0.9, 0.99]}
  scheduler: {type: MultiStepLR, milestones: [5], gamma: 0.5}
  total_iter: 6
  warmup_iter: -1
  pixel_opt: {type: L1Loss, loss_weight: 1.0, reduction: mean}
  perceptual_opt:
    type: PerceptualLoss
    layer_weights: {'conv1_2': 0.1, 'conv2_2': 0.1, 'conv3_4': 1, 'conv4_4': 1, 'conv5_4': 1}
    vgg_type: vgg19
    use_input_norm: true
    perceptual_weight: !!float 1.0
    style_weight: 0
    range_norm: false
    criterion: l1
  gan_opt: {type: GANLoss, gan_type: vanilla, real_label_val: 1.0, fake_label_val: 0.0, loss_weight: !!float 1e-1}
  net_d_iters: 1
  net_d_init_iters: 0
logger: {print_freq: 1, save_checkpoint_freq: 3, use_tb_logger: false, wandb: {project: ~, resume_id: ~}}
dist_params: {backend: nccl, port: 29500}
"""


@pytest.fixture
def load(tmp_path, monkeypatch, photo):
    """Return a function: changes of the text, overrides -> options; in a folder with two pictures and their list."""
    monkeypatch.chdir(tmp_path)
    for name in ("astronaut", "chelsea"):
        write_image(tmp_path / "gt" / f"{name}.png", photo(name)[60:156, 100:180])
    meta_info = tmp_path / "datasets" / "meta_info" / "meta_info_DFOsub_GT.txt"
    meta_info.parent.mkdir(parents=True)
    meta_info.write_text("astronaut.png (96,80,3)\nchelsea.png (96,80,3)\n", encoding="utf-8")
    from torchvision.models import vgg

    features = vgg.make_layers(vgg.cfgs["E"]).state_dict()
    (tmp_path / "experiments" / "pretrained_models").mkdir(parents=True)
    path = tmp_path / "experiments" / "pretrained_models" / "vgg19-dcbb9e9d.pth"
    torch.save({f"features.{name}": tensor for name, tensor in features.items()}, path)

    def make(*replacements, auto_resume=False, text=REAL_HAT_GAN, **overrides):
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new, 1)
        Path("real.yml").write_text(text, encoding="utf-8")
        words = [f"{key.replace('__', ':')}={value}" for key, value in overrides.items()]
        arguments = {"is_train": True, "overrides": words, "auto_resume": auto_resume}
        return load_options("real.yml", **arguments, **registered_components())

    return make


SMALL = {"datasets__train__crop_pad_size": 64, "train__perceptual_opt": "~"}


def as_mse(text):
    """The GAN stage's file as that of the first stage: its model, its flag, no discriminator but its optimiser."""
    values = yaml.safe_load(text)
    values["model_type"] = "RealHATMSEModel"
    for key in ("l1_gt_usm", "percep_gt_usm", "gan_gt_usm", "network_d"):
        del values[key]
    for key in ("gan_opt", "perceptual_opt", "net_d_iters", "net_d_init_iters"):
        del values["train"][key]
    return yaml.safe_dump(values | {"gt_usm": True})


def losses(folder="experiments/real"):
    lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key.startswith(("l_", "out_", "iter"))} for line in lines]


def test_gan_stage_of_real_hat_runs_with_its_own_keys(load):
    options = load(train__total_iter=1, datasets__train__batch_size_per_gpu=1)
    expected = ("does not exist; took", "reach beyond train.total_iter")
    assert [warning for warning in options.run.warnings if not any(words in warning for words in expected)] == []
    train(options)
    assert set(losses()[0]) >= {"l_g_pix", "l_g_percep", "l_g_gan", "l_d_real", "l_d_fake", "out_d_real", "out_d_fake"}
    assert {path.name for path in Path("experiments/real/models").glob("*.pth")} >= {"net_g_1.pth", "net_d_1.pth"}


def test_first_stage_of_real_hat_runs_and_the_second_starts_from_it(load):
    options = load(text=as_mse(REAL_HAT_GAN), name="first", train__total_iter=2)
    assert any("ignored train.optim_d: there is no discriminator" in warning for warning in options.run.warnings)
    train(options)
    summary = train(load(path__pretrain_network_g="experiments/first/models/net_g_2.pth", **SMALL))
    assert summary.iteration == 6


@pytest.mark.parametrize("stage", ["mse", "gan"])
def test_interrupted_and_resumed_run_equals_an_uninterrupted_one(load, stage, monkeypatch):
    text = REAL_HAT_GAN if stage == "gan" else as_mse(REAL_HAT_GAN)
    changes = SMALL if stage == "gan" else {"datasets__train__crop_pad_size": 64}
    train(load(text=text, name="whole", **changes))
    with monkeypatch.context() as patch:  # the process dies in its fifth step, after the checkpoint of the third
        step = training_run.TrainingRun._step

        def die(self):
            if self.state.iteration == 4:
                raise KeyboardInterrupt
            step(self)

        patch.setattr(training_run.TrainingRun, "_step", die)
        with pytest.raises(KeyboardInterrupt):
            train(load(text=text, **changes))
    torch.manual_seed(1234)
    train(load(text=text, auto_resume=True, **changes))
    assert losses() == losses("experiments/whole")
    for kind in ("net_g", "net_d") if stage == "gan" else ("net_g",):
        files = [f"experiments/{name}/models/{kind}_6.pth" for name in ("whole", "real")]
        whole, resumed = (torch.load(file, weights_only=True) for file in files)
        for key in whole.keys() & {"params", "params_ema"}:
            assert all(torch.equal(whole[key][name], resumed[key][name]) for name in whole[key])
    states = [f"experiments/{name}/training_states/6.state" for name in ("whole", "real")]
    whole, resumed = (torch.load(file, weights_only=True)["pair_pools"] for file in states)
    assert all(torch.equal(whole[0][name], resumed[0][name]) for name in ("lq", "gt"))


def test_doctor_tries_a_step_of_it(load):
    text = REAL_HAT_GAN.replace("    gt_size: 64\n", "    gt_size: 64\n    crop_pad_size: 64\n")
    load(text=text)
    result = CliRunner().invoke(app, ["doctor", "real.yml", "--json"])
    measured = json.loads(result.stdout[result.stdout.index("{") :])["measured"]
    assert {"l_g_pix", "l_g_gan", "l_d_real"} <= set(measured["step"]), result.output


def test_lost_discriminator_is_named(load):
    train(load(train__total_iter=3, **SMALL))
    Path("experiments/real/models/net_d_3.pth").unlink()
    with pytest.raises(WeightsError, match=r"no discriminator beside it|none of the 1 checkpoints"):
        train(load(auto_resume=True, **SMALL))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("model_type: RealHATGANModel", "model_type: SRModel", "RealESRGANDataset) has no lq, which SRModel needs"),
        ("gt_size: 64\nqueue", "gt_size: 32\nqueue", "gt_size (=32) differs from datasets.train.gt_size (=64)"),
        ("queue_size: 6", "high_order_degradation: false", "high_order_degradation (=false) does not fit"),
        ("resize_range: [0.15, 1.5]", "resize_range: [1.5, 0.15]", "resize_range (=[1.5, 0.15]): must be [low, high]"),
        ("resize_range2: [0.3, 1.2]", "resize_range2: [1.1, 1.2]", "must reach from at most 1 to at least 1"),
        ("jpeg_range: [30, 95]", "jpeg_range: [30]", "jpeg_range"),
        ("jpeg_range2: [30, 95]", "jpeg_range2: [30, 300]", "jpeg_range2 (=[30, 300]): must lie between 1 and 100"),
        ("gray_noise_prob: 0.4", "gray_noise_prob: 1.4", "gray_noise_prob (=1.4): must be less than or equal to 1"),
        ("kernel_prob: [0.45, 0.25, 0.12, 0.03, 0.12,", "kernel_prob: [", "needs one number for each of the 6"),
        ("kernel_list: ['iso',", "kernel_list: ['is',", "datasets.train.kernel_list.0 (='is')"),
        ("    use_rot: False", "    progressive: [{iter: 1, gt_size: 32}]", "RealESRGANDataset has one patch size"),
        ("blur_kernel_size: 21", "blur_kernel_size: 20", "blur_kernel_size (=20): must be odd"),
        ("network_d: {type: UNetDiscriminatorSN,", "network_d: {type: UNetDiscriminator,", "unknown network"),
        ("num_feat: 4", "num_feats: 4", "network UNetDiscriminatorSN has no argument 'num_feats'"),
        ("gan_type: vanilla", "gan_typ: vanilla", "gan_loss GANLoss has no argument 'gan_typ'"),
        ("  net_d_iters: 1", "  net_d_iters: 0", "train.net_d_iters (=0)"),
        ("  gan_opt: {type", "  # gan_opt: {type", "train.gan_opt is missing: RealHATGANModel needs its loss"),
    ],
)
def test_contradictions_are_named(load, old, new, words):
    with pytest.raises(OptionsError) as caught:
        load((old, new))
    assert words in str(caught.value)


def test_size_of_the_patch_may_stand_on_top_alone(load):
    options = load(("    gt_size: 64\n", ""))
    assert options.datasets["train"].gt_size == 64


def test_old_key_of_the_list_is_taken(load):
    options = load(("meta_info_file: hat/data", "meta_info: hat/data"))
    assert options.datasets["train"].meta_info_file.endswith("datasets/meta_info/meta_info_DFOsub_GT.txt")


def test_missing_vgg_ends_the_run_before_it_begins_unless_it_is_not_required(load, monkeypatch):
    Path("experiments/pretrained_models/vgg19-dcbb9e9d.pth").unlink()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    with pytest.raises(WeightsError, match="vgg_path"):
        train(load())
    assert not Path("experiments/real").exists()
    train(load(("criterion: l1", "criterion: l1\n    required: false"), train__total_iter=1))
    assert "l_g_percep" not in losses()[0]
