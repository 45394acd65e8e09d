"""A small model and batches of real pictures for it."""

import pytest
import torch


@pytest.fixture
def model_opt(tmp_path):
    """Return a function: changes by dotted key -> options of a small model in BasicSR's form."""

    def make(**changes):
        opt = {
            "name": "small",
            "is_train": True,
            "dist": False,
            "rank": 0,
            "num_gpu": 0,
            "scale": 2,
            "network_g": {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2},
            "path": {"models": str(tmp_path / "models"), "training_states": str(tmp_path / "training_states")},
            "train": {
                "total_iter": 100,
                "ema_decay": 0.9,
                "optim_g": {"type": "Adam", "lr": 1e-3, "betas": [0.9, 0.99]},
                "scheduler": {"type": "MultiStepLR", "milestones": [50], "gamma": 0.5},
                "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
            },
        }
        for dotted_key, value in changes.items():
            *parents, key = dotted_key.split("__")
            section = opt
            for parent in parents:
                section = section[parent]
            section[key] = value
        return opt

    return make


@pytest.fixture(scope="session")
def batches(photo):
    """Batches of crops of a photograph: lq (4, 3, 16, 16) by averaging, gt (4, 3, 32, 32)."""
    image_CHW = torch.from_numpy(photo("astronaut")).permute(2, 0, 1) / 255
    made = []
    for number in range(6):
        corners = [(40 * number + 60 * part, 30 * number + 70 * part) for part in range(4)]
        gt_BCHW = torch.stack([image_CHW[:, top : top + 32, left : left + 32] for top, left in corners])
        made.append({"lq": torch.nn.functional.avg_pool2d(gt_BCHW, 2), "gt": gt_BCHW})
    return made
