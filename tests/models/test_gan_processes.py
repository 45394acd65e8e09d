"""A discriminator on several processes: two that share a batch take the steps of one that has all of it."""

import os
import socket

import pytest
import torch
from torch import distributed, multiprocessing

from hriusr.models.gan_model import GANModel

OPT = {
    "name": "small",
    "is_train": True,
    "num_gpu": 0,
    "scale": 2,
    "path": {},
    "network_g": {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2},
    "network_d": {"type": "UNetDiscriminatorSN", "num_feat": 4},
    "train": {
        "total_iter": 10,
        "ema_decay": 0.9,
        "accumulation": 2,
        "optim_g": {"type": "Adam", "lr": 1e-3},
        "optim_d": {"type": "Adam", "lr": 1e-3},
        "scheduler": {"type": "MultiStepLR", "milestones": [5]},
        "pixel_opt": {"type": "L1Loss"},
        "gan_opt": {"type": "GANLoss", "loss_weight": 0.1},
    },
}


def _take_steps(rank, world_size, port, folder):
    torch.set_num_threads(1)
    if world_size > 1:
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
        distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    torch.manual_seed(3)
    model = GANModel({**OPT, "dist": world_size > 1, "rank": rank, "world_size": world_size})
    model.get_bare_model(model.net_d).eval()  # each forward pass moves the estimate of the spectral norms
    gt = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    batch = {"gt": gt[rank::world_size], "lq": torch.nn.functional.avg_pool2d(gt, 2)[rank::world_size]}
    for iteration in range(1, 4):
        model.update_learning_rate(iteration)
        model.feed_data(batch)
        model.optimize_parameters(iteration)
    log = dict(model.get_current_log())
    model.training_state()  # all processes call
    networks = {name: model.get_bare_model(getattr(model, name)).state_dict() for name in ("net_g", "net_d")}
    if rank == 0:
        torch.save({"log": log, **networks}, folder / f"{world_size}.pth")
    if world_size > 1:
        distributed.barrier()
        distributed.destroy_process_group()


@pytest.mark.skipif(not distributed.is_available(), reason="torch without distributed")
def test_two_processes_take_the_steps_of_one(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    for world_size in (1, 2):
        multiprocessing.spawn(_take_steps, (world_size, port, tmp_path), world_size)
    one, two = (torch.load(tmp_path / f"{world_size}.pth", weights_only=True) for world_size in (1, 2))
    assert two["log"] == pytest.approx(one["log"], rel=1e-4)
    for name in ("net_g", "net_d"):
        torch.testing.assert_close(two[name], one[name], rtol=1e-4, atol=1e-6)
