"""A tiny training run on real pictures."""

import copy
import json
from pathlib import Path

import pytest

from hriusr.data.image_io import write_image
from hriusr.data.matlab_resize import imresize
from hriusr.engine.train_loop import train
from tests.engine.several_processes import run_processes


@pytest.fixture
def run_opt(tmp_path, photo, monkeypatch):
    """Return a function: changes by dotted key (train__total_iter=3) -> options of a run in BasicSR's form.

    The current folder becomes tmp_path, with gt/ and lq/ in it.
    """
    monkeypatch.chdir(tmp_path)
    for name in ("astronaut", "chelsea", "coffee"):
        gt_HWC = photo(name)[120:200, 140:212]
        write_image(tmp_path / "gt" / f"{name}.png", gt_HWC)
        write_image(tmp_path / "lq" / f"{name}.png", imresize(gt_HWC, scale=0.5))
    pictures = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq", "scale": 2}
    metrics = {
        "psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True},
        "ssim": {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True, "better": "higher"},
    }
    common = {
        "name": "tiny",
        "model_type": "RestorationModel",
        "scale": 2,
        "num_gpu": 0,
        "manual_seed": 7,
        "dist": False,
        "rank": 0,
        "world_size": 1,
        "auto_resume": False,
        "root_path": str(tmp_path),
        "network_g": {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2},
    }
    training = {
        **common,
        "is_train": True,
        "datasets": {
            "train": {
                "name": "pictures",
                "phase": "train",
                **pictures,
                "gt_size": 32,
                "batch_size_per_gpu": 2,
                "num_worker_per_gpu": 0,
            },
            "val_1": {"name": "first", "phase": "val", **pictures},
            "val_2": {"name": "second", "phase": "val", **pictures},
        },
        "path": {
            "pretrain_network_g": None,
            "resume_state": None,
            **{key: f"experiments/tiny/{key}" for key in ("models", "training_states", "visualization")},
            "experiments_root": "experiments/tiny",
            "log": "experiments/tiny",
        },
        "train": {
            "total_iter": 8,
            "warmup_iter": 3,
            "ema_decay": 0.9,
            "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [5], "gamma": 0.5},
            "pixel_opt": {"type": "L1Loss"},
        },
        "val": {"val_freq": 4, "save_img": False, "metrics": metrics},
        "logger": {"print_freq": 1, "save_checkpoint_freq": 4, "use_tb_logger": False},
    }
    testing = {
        **common,
        "is_train": False,
        "datasets": {"test_1": {"name": "photos", "phase": "test", **pictures}},
        "path": {
            "pretrain_network_g": None,
            "param_key_g": "params_ema",
            "results_root": "results/tiny",
            "log": "results/tiny",
            "visualization": "results/tiny/visualization",
        },
        "val": {"save_img": True, "suffix": None, "metrics": metrics},
    }

    def make(is_train=True, **changes):
        opt = copy.deepcopy(training if is_train else testing)
        for dotted_key, value in changes.items():
            *parents, key = dotted_key.split("__")
            section = opt
            for parent in parents:
                section = section[parent]
            section[key] = value
        return opt

    return make


def _is_time(key):
    return key in ("it_per_s", "data_share") or key.endswith("_s")


@pytest.fixture
def records():
    """Return a function: folder of a run -> lines of its metrics.jsonl, without times."""

    def read(folder="experiments/tiny"):
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text().splitlines()]
        return [{key: value for key, value in line.items() if not _is_time(key)} for line in lines]

    return read


@pytest.fixture
def train_together():
    """Return a function: number of processes, options of a run, anything to do first -> summaries of all of them."""

    def together(count, opt, prepare=lambda rank: None):
        def work(rank):
            prepare(rank)
            return train({**opt, "dist": True, "rank": rank, "world_size": count})

        return run_processes(count, work)

    return together
