"""A small healthy training set, and the doctor called on it."""

from pathlib import Path

import pytest

from hriusr.data.image_io import write_image
from hriusr.data.matlab_resize import downsample
from hriusr.doctor.examine import Extent, examine
from hriusr.engine.registered import registered_components
from hriusr.options import load_options

OPTIONS = """\
name: small
scale: 2
num_gpu: 0
datasets:
  train:
    name: photos
    type: PairedImageDataset
    dataroot_gt: train/gt
    dataroot_lq: train/lq
    gt_size: 64
    batch_size_per_gpu: 2
  val:
    name: held_out
    type: PairedImageDataset
    dataroot_gt: val/gt
    dataroot_lq: val/lq
network_g: {type: MSRResNet, num_feat: 4, num_block: 1, upscale: 2}
train:
  total_iter: 1000
  optim_g: {type: Adam, lr: 1e-3}
  scheduler: {type: MultiStepLR, milestones: [500, 800], gamma: 0.5}
  pixel_opt: {type: L1Loss}
val:
  val_freq: 500
  metrics:
    psnr: {type: calculate_psnr, crop_border: 2, test_y_channel: true}
logger: {print_freq: 10, save_checkpoint_freq: 100, use_tb_logger: false}
"""
TRAINING, HELD_OUT = ("astronaut", "coffee", "rocket", "hubble_deep_field"), ("chelsea", "immunohistochemistry")


@pytest.fixture(scope="session")
def part(photo):
    """Return a function: name -> 192 x 192 pixels of a photograph."""
    return lambda name: photo(name)[100:292, 120:312].copy()


@pytest.fixture
def write_pair():
    """Return a function: folder, name, ground truth -> written with its LR x2."""

    def write(folder, name, gt_HWC, lq_HWC=None):
        write_image(Path(folder, "gt", f"{name}.png"), gt_HWC)
        write_image(Path(folder, "lq", f"{name}.png"), downsample(gt_HWC, 2) if lq_HWC is None else lq_HWC)

    return write


@pytest.fixture
def workplace(tmp_path, monkeypatch, part, write_pair) -> Path:
    """A folder with a healthy training set, a validation set, and an option file small.yml."""
    monkeypatch.chdir(tmp_path)
    for folder, names in (("train", TRAINING), ("val", HELD_OUT)):
        for name in names:
            write_pair(folder, name, part(name))
    Path("small.yml").write_text(OPTIONS, encoding="utf-8")
    return tmp_path


@pytest.fixture
def diagnose(workplace):
    """Return a function: overrides -> report on small.yml, without a trial step unless asked for."""

    def diagnose_with(*overrides, **extent):
        extent = Extent(**{"with_step": False, "num_processes": 1, "progress": False, **extent})
        components = registered_components()
        return examine(lambda: load_options("small.yml", is_train=True, overrides=overrides, **components), extent)

    return diagnose_with
