"""A small train and a small test file in BasicSR's keys, and stand-ins for what is registered."""

import inspect
from collections.abc import Sequence

TRAIN_TEXT = """\
name: small
model_type: SRModel
scale: 2
num_gpu: 0
manual_seed: 3
datasets:
  train:
    name: photos
    type: PairedImageDataset
    dataroot_gt: data/hr
    dataroot_lq: data/lr
    io_backend:
      type: disk
    gt_size: 48
    use_hflip: true
    use_rot: true
    use_shuffle: true
    num_worker_per_gpu: 2
    batch_size_per_gpu: 4
    dataset_enlarge_ratio: 1
    prefetch_mode: ~
  val:
    name: held_out
    type: PairedImageDataset
    dataroot_gt: data/hr
    dataroot_lq: data/lr
    io_backend:
      type: disk
network_g:
  type: PlainNet
  upscale: 2
  depths: [2, 2]
  conv_scale: 1e-2
path:
  pretrain_network_g: ~
  strict_load_g: true
  resume_state: ~
train:
  ema_decay: 0.999
  optim_g:
    type: Adam
    lr: 2e-4
    weight_decay: 0
    betas: [0.9, 0.99]
  scheduler:
    type: MultiStepLR
    milestones: [50, 80]
    gamma: 0.5
  total_iter: !!float 1e2
  warmup_iter: -1
  pixel_opt:
    type: L1Loss
    loss_weight: 1.0
    reduction: mean
val:
  val_freq: !!float 5e1
  save_img: false
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 2
      test_y_channel: true
      better: higher
logger:
  print_freq: 10
  save_checkpoint_freq: 5e1
  use_tb_logger: true
  wandb:
    project: ~
    resume_id: ~
dist_params:
  backend: nccl
  port: 29500
"""


TEST_TEXT = """\
name: small_test
model_type: HATModel
scale: 2
num_gpu: 0
tile:
  tile_size: 64
  tile_pad: 16
datasets:
  test_1:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: ./data/hr
    dataroot_lq: ./data/lr
    filename_tmpl: '{}x2'
    io_backend:
      type: disk
  test_2:
    name: own
    type: SingleImageDataset
    dataroot_lq: data/lr
network_g:
  type: PlainNet
  upscale: 2
path:
  strict_load_g: true
  param_key_g: 'params_ema'
val:
  save_img: true
  suffix: ~
  metrics:
    psnr:
      type: calculate_psnr
      crop_border: 2
      test_y_channel: true
"""


class PlainNet:
    """Stands for a registered network of ours: annotated."""

    def __init__(
        self,
        upscale: int = 4,
        in_chans: int = 3,
        depths: tuple[int, ...] = (2,),
        conv_scale: float = 0.1,
        widths: Sequence[Sequence[int]] = ((4,),),
        img_size: int | Sequence[int] = 64,
    ):
        pass


class BareNet:
    """Stands for a network of BasicSR's: no annotations, arguments without default."""

    def __init__(self, num_in_ch, num_out_ch, num_feat=64, upscale=4, res_scale=1, img_range=255.0):
        pass


def _l1_loss(loss_weight=1.0, reduction="mean"):
    pass


def _perceptual_loss(layer_weights, perceptual_weight=1.0, style_weight=0.0):
    pass


def _psnr(img, img2, crop_border, input_order="HWC", test_y_channel=False, **kwargs):
    pass


def _niqe(img, crop_border, input_order="HWC", convert_to="y", **kwargs):
    pass


NETWORKS = {"PlainNet": PlainNet, "BareNet": BareNet}
LOOKUPS = {
    "network_signature": lambda name: inspect.signature(NETWORKS[name]) if name in NETWORKS else None,
    "known_networks": lambda: list(NETWORKS),
    "components": {
        "model": dict.fromkeys(["SRModel", "HATModel"], inspect.signature(PlainNet)),
        "dataset": dict.fromkeys(["PairedImageDataset", "SingleImageDataset"], inspect.signature(PlainNet)),
        "loss": {"L1Loss": inspect.signature(_l1_loss), "PerceptualLoss": inspect.signature(_perceptual_loss)},
        "metric": {"calculate_psnr": inspect.signature(_psnr), "calculate_niqe": inspect.signature(_niqe)},
    },
}


def line_of(words: str, text: str = TRAIN_TEXT) -> int:
    """Number of the first line that holds the words, from 1."""
    return next(number for number, line in enumerate(text.splitlines(), 1) if words in line)
