"""Several processes: the same pixels as one, and no process left waiting when something fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import read_image, write_image
from hriusr.errors import HriusrError
from hriusr.upscaling.picture_upscaler import TileOptions
from hriusr.upscaling.upscale import upscale_path
from hriusr.upscaling.workers import joined_processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, photo):
    """Two small pictures, a damaged one, one that is shared (made so by the size from which pictures are)."""
    opt = VARIANTS["hat_tiny_x2"].network_opt() | {"depths": [1], "num_heads": [2]}
    save_weights(tmp_path / "net.safetensors", build_network(opt), opt)
    write_image(tmp_path / "in" / "a.png", photo("chelsea")[:40, :50])
    write_image(tmp_path / "in" / "b.png", photo("coffee")[:30, :60])
    write_image(tmp_path / "in" / "large.png", np.tile(photo("astronaut")[::2, ::2], (3, 3, 1)))
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:200])
    return tmp_path


def run(folder, target, *more, launcher=()):
    command = [sys.executable, *launcher, "-m", "hriusr.cli", "upscale", str(folder / "in"), "-o", str(folder / target)]
    command += ["-w", str(folder / "net.safetensors"), "--tile-size", "200", "--json", *more]
    environment = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment | {"OMP_NUM_THREADS": "1"}
    )


EXPECTED = [("a.png", "written"), ("b.png", "written"), ("c.png", "failed"), ("large.png", "written")]


def expect_the_pixels_of_one_process(folder, done):
    assert [(p["name"], p["status"]) for p in json.loads(done.stdout)["pictures"]] == EXPECTED
    assert done.stderr.count("failed: c.png") == 1
    options = TileOptions(tile_size=200)
    upscale_path(folder / "in", folder / "one", weights=folder / "net.safetensors", tiles=options)
    for name, status in EXPECTED:
        if status == "written":
            assert np.array_equal(read_image(folder / "many" / name), read_image(folder / "one" / name))


def test_workers_give_the_pixels_of_one_process(folder):
    done = run(folder, "many", "--workers", "2")
    assert done.returncode == 2
    expect_the_pixels_of_one_process(folder, done)


def test_a_worker_that_ends_before_it_joins_is_told(monkeypatch):
    monkeypatch.setattr(os, "environ", os.environ.copy())
    with (
        pytest.raises(HriusrError, match=r"worker [12] ended with status 2 before it began: .* fewer --workers"),
        joined_processes(3, ["no-such-command"]),
    ):
        pytest.fail("joined")
    assert not torch.distributed.is_initialized()


@pytest.mark.slow
def test_torchrun_gives_the_pixels_of_one_process(folder):
    done = run(folder, "many", launcher=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "3"))
    assert done.returncode != 0
    expect_the_pixels_of_one_process(folder, done)


@pytest.mark.slow
def test_workers_under_torchrun_are_refused(folder):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = run(folder, "out", "--workers", "2", launcher=launcher)
    assert done.returncode != 0
    assert "workers (=2) and torchrun contradict each other" in done.stderr
