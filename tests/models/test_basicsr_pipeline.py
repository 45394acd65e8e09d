"""BasicSR's own train_pipeline and test_pipeline drive our model, on real pictures, in a process of their own."""

import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
import yaml

from hriusr.data.image_io import write_image
from hriusr.data.matlab_resize import imresize

REPOSITORY = Path(__file__).parents[2]

RUN_PIPELINE = """
import sys
import torch
from hriusr.basicsr_bridge import register_package
register_package()
import basicsr.train, basicsr.test
from basicsr.utils import check_resume

def load_resume_state(opt):  # BasicSR's own needs CUDA
    path = opt["path"].get("resume_state")
    if path is None:
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    check_resume(opt, state["iter"])
    return state

basicsr.train.load_resume_state = load_resume_state
kind, sys.argv[1:] = sys.argv[1], sys.argv[2:]
{"train": basicsr.train.train_pipeline, "test": basicsr.test.test_pipeline}[kind](".")
"""


def run_pipeline(kind, folder, opt):
    (folder / "run.py").write_text(textwrap.dedent(RUN_PIPELINE))
    (folder / f"{kind}.yml").write_text(yaml.safe_dump(opt, sort_keys=False))
    command = [sys.executable, "run.py", kind, "-opt", f"{kind}.yml"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.fixture
def pictures(tmp_path, photo):
    for name in ("astronaut", "chelsea"):
        gt_HWC = photo(name)[100:196, 100:196]
        write_image(tmp_path / "gt" / f"{name}.png", gt_HWC)
        write_image(tmp_path / "lq" / f"{name}x2.png", imresize(gt_HWC, scale=0.5))
    paired = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq", "filename_tmpl": "{}x2"}
    return {**paired, "io_backend": {"type": "disk"}}


def test_basicsr_trains_resumes_and_tests_our_model(tmp_path, pictures):
    metrics = {
        "psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True},
        "ssim": {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True, "better": "higher"},
    }
    common = {
        "name": "driven",
        "model_type": "RestorationModel",
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 0,
        "network_g": {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2},
    }
    train_opt = {
        **common,
        "precision": "bf16",
        "datasets": {
            "train": {
                "name": "train",
                **pictures,
                "gt_size": 32,
                "use_hflip": True,
                "use_rot": True,
                "num_worker_per_gpu": 0,
                "batch_size_per_gpu": 2,
                "dataset_enlarge_ratio": 4,
            },
            "val": {"name": "set", **pictures},
        },
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.9,
            "optim_g": {"type": "AdamW", "lr": 0.001, "betas": [0.9, 0.99]},
            "scheduler": {"type": "CosineAnnealingLR"},
            "total_iter": 4,
            "warmup_iter": 2,
            "pixel_opt": {"type": "CharbonnierLoss", "loss_weight": 1.0},
        },
        "val": {"val_freq": 2, "save_img": True, "metrics": metrics},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 2, "use_tb_logger": False},
    }
    log = run_pipeline("train", tmp_path, train_opt)
    losses = [float(value) for value in re.findall(r"l_pix: ([0-9.e+-]+)", log)]
    assert len(losses) == 4
    assert all(0 < loss < 0.5 for loss in losses)
    assert "# psnr:" in log
    models = tmp_path / "experiments" / "driven" / "models"
    assert sorted(path.name for path in models.glob("*.pth")) == ["net_g_2.pth", "net_g_4.pth", "net_g_latest.pth"]
    assert len(list((tmp_path / "experiments").rglob("*_4.png"))) == 2

    train_opt["path"]["resume_state"] = "experiments/driven/training_states/2.state"
    resumed_log = run_pipeline("train", tmp_path, train_opt)
    assert "iter: 2." in resumed_log
    assert len(re.findall(r"l_pix: ", resumed_log)) >= 2
    state = torch.load(tmp_path / "experiments" / "driven" / "training_states" / "4.state", weights_only=True)
    assert state["iter"] == 4

    test_opt = {
        **common,
        "datasets": {"test_1": {"name": "set", **pictures}},
        "path": {"pretrain_network_g": str(models / "net_g_latest.pth"), "param_key_g": "params_ema"},
        "val": {"save_img": True, "suffix": None, "metrics": metrics},
    }
    test_log = run_pipeline("test", tmp_path, test_opt)
    assert 20 < float(re.search(r"# psnr: ([0-9.]+)", test_log).group(1)) < 45
    assert (tmp_path / "results" / "driven" / "visualization" / "set" / "chelseax2_driven.png").exists()
