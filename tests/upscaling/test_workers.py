"""Several processes: the same pixels as one, and no process left waiting when something fails."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import read_image, write_image

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path, photo):
    """Two small pictures, a damaged one, one that is shared (made so by the size from which pictures are)."""
    opt = VARIANTS["hat_tiny_x2"].network_opt()
    save_weights(tmp_path / "net.safetensors", build_network(opt), opt)
    write_image(tmp_path / "in" / "a.png", photo("chelsea")[:40, :50])
    write_image(tmp_path / "in" / "b.png", photo("coffee")[:30, :60])
    write_image(tmp_path / "in" / "large.png", np.tile(photo("astronaut")[::2, ::2], (3, 4, 1)))
    (tmp_path / "in" / "c.png").write_bytes((tmp_path / "in" / "a.png").read_bytes()[:200])
    return tmp_path


def run(folder, target, *more, launcher=()):
    command = [sys.executable, *launcher, "-m", "hriusr.cli", "upscale", str(folder / "in"), "-o", str(folder / target)]
    command += ["-w", str(folder / "net.safetensors"), "--tile-size", "200", "--json", *more]
    environment = {name: value for name, value in os.environ.items() if name not in ("WORLD_SIZE", "RANK")}
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, env=environment | {"OMP_NUM_THREADS": "1"}
    )


def test_workers_and_torchrun_give_the_pixels_of_one_process(folder):
    one, two = run(folder, "one"), run(folder, "two", "--workers", "2")
    launched = run(
        folder, "torchrun", launcher=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "3")
    )
    assert [one.returncode, two.returncode] == [2, 2]
    assert launched.returncode != 0
    for done in (one, two, launched):
        pictures = json.loads(done.stdout)["pictures"]
        assert [(p["name"], p["status"]) for p in pictures] == [
            ("a.png", "written"),
            ("b.png", "written"),
            ("c.png", "failed"),
            ("large.png", "written"),
        ]
        assert done.stderr.count("failed: c.png") == 1
    for name in ("a.png", "b.png", "large.png"):
        expected = read_image(folder / "one" / name)
        assert np.array_equal(read_image(folder / "two" / name), expected)
        assert np.array_equal(read_image(folder / "torchrun" / name), expected)


def test_workers_under_torchrun_are_refused(folder):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    done = run(folder, "out", "--workers", "2", launcher=launcher)
    assert done.returncode != 0
    assert "workers (=2) and torchrun contradict each other" in done.stderr
