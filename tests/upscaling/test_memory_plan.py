"""Memory plan: what is measured, what is free, what follows."""

import psutil
import pytest
import torch
from torch import nn

from hriusr.data import host_memory
from hriusr.upscaling import memory_plan
from hriusr.upscaling.memory_plan import LARGEST_TILE, SMALLEST_TILE, available_bytes, bytes_per_pixel, plan_tiles

CPU = torch.device("cpu")


def plan(budget, height=1000, width=1500, *, tile_overlap=16, alignment=8, device_type="cpu"):
    more = {"tile_overlap": tile_overlap, "alignment": alignment, "device_type": device_type}
    return plan_tiles(1000.0, budget, height, width, **more)


def test_measured_bytes_are_those_of_the_largest_tensors_alive():
    network = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 32, 3, padding=1), nn.Conv2d(32, 3, 1))
    counted = bytes_per_pixel(network, scale=1, device=CPU) / memory_plan.WORKSPACE
    assert counted == pytest.approx(4 * (64 + 32), rel=0.05)  # while the second convolution runs


def test_measuring_leaves_the_modes_alone():
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Dropout()).train()
    bytes_per_pixel(network, scale=1, device=CPU)
    assert all(module.training for module in network.modules())


def test_free_memory_is_bounded_by_the_container(monkeypatch):
    assert 0 < available_bytes(CPU) < 2**50
    monkeypatch.setattr(host_memory, "container_bytes", lambda: 12345)
    assert available_bytes(CPU) == 12345


def test_free_memory_is_bounded_by_the_limit_of_the_process():
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 2**28, before[1]))
    try:
        assert 2**27 < available_bytes(CPU) <= 2**28
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_picture_that_fits_is_not_cut():
    assert plan(1e12, 500, 400) == (None, 1)


def test_picture_beyond_the_largest_tile_is_cut_whatever_the_memory():
    assert plan(1e15)[0] == LARGEST_TILE["cpu"]


@pytest.mark.parametrize("budget", [3e6, 3e7, 1e8, 3e8])
def test_tiles_fit_the_budget(budget):
    tile_size, _ = plan(budget)
    assert tile_size % 8 == 0
    longest = tile_size + 2 * 16 + 7
    assert longest**2 * 1000 <= budget or tile_size == SMALLEST_TILE


def test_no_memory_at_all_still_gives_a_tile():
    assert plan(0) == (SMALLEST_TILE, 1)
    assert plan(0, alignment=48) == (48, 1)


def test_a_gpu_takes_several_tiles_at_once_where_they_fit():
    tile_size, batch_size = plan(1e10, 4000, 4000, device_type="cuda")
    assert tile_size == LARGEST_TILE["cuda"]
    assert batch_size == 9  # of 1024x1024 pixels, which 10 GB hold 9.5 times
    assert plan(1e13, 4000, 4000, device_type="cuda") == (LARGEST_TILE["cuda"], 16)
