"""Kill -9 in the middle of a picture, run it again: what was finished is kept, and the result is the same."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import read_image, write_image
from hriusr.errors import HriusrError
from hriusr.upscaling.canvas import Canvas
from hriusr.upscaling.picture_upscaler import PictureUpscaler
from tests.upscaling.nearest_network import Nearest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def weights(tmp_path):
    # the one with means of the whole picture
    opt = VARIANTS["hat_tiny_x2"].network_opt() | {"depths": [1], "num_heads": [2]}
    save_weights(tmp_path / "net.safetensors", build_network(opt), opt)
    return tmp_path / "net.safetensors"


def command(source, target, weights, *more):
    options = ["-w", str(weights), "-o", str(target), "--tile-size", "16", "--tile-overlap", "8", *more]
    return [sys.executable, "-m", "hriusr.cli", "upscale", str(source), *options]


def test_a_killed_run_goes_on_and_gives_the_same_pixels(tmp_path, weights, photo):
    write_image(tmp_path / "a.png", photo("coffee")[:240, :64])
    subprocess.run(
        command(tmp_path / "a.png", tmp_path / "whole.png", weights), cwd=ROOT, check=True, capture_output=True
    )
    target = tmp_path / "killed.png"
    state = tmp_path / ".killed.png.hriusr" / "state.json"
    process = subprocess.Popen(command(tmp_path / "a.png", target, weights), cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists()
    assert json.loads(state.read_text())["row"] >= 1
    done = subprocess.run(
        command(tmp_path / "a.png", target, weights, "--json"), cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert json.loads(done.stdout)["pictures"][0]["notes"] == ["continued where an earlier run was cut off"]
    assert np.array_equal(read_image(target), read_image(tmp_path / "whole.png"))
    assert not state.parent.exists()


def test_a_canvas_of_other_settings_is_begun_anew(tmp_path):
    for identity, expected in (({"a": 1}, 0), ({"a": 1}, 3), ({"a": 2}, 0)):
        with Canvas(tmp_path / "x.png", (1, 4, 5, 3), np.uint8, identity) as canvas:
            assert canvas.position().row == expected
            canvas.write(0, 0, 0, np.full((4, 5, 3), 7, np.uint8))
            canvas.checkpoint(0, 3, None)


def test_a_plan_that_a_run_was_killed_with_is_left_for_the_next(tmp_path):
    plan = {"tile_size": 64, "batch_size": 2}

    def killed_plan(identity):
        canvas = Canvas(tmp_path / "x.png", (1, 4, 5, 3), np.uint8, identity).__enter__()
        found = canvas.killed_plan
        canvas.try_plan(plan)
        canvas.close()  # as after a kill: nothing is cleared
        return found

    assert [killed_plan({"a": a}) for a in (1, 1, 2)] == [{}, plan, {}]
    with Canvas(tmp_path / "x.png", (1, 4, 5, 3), np.uint8, {"a": 2}) as canvas:
        canvas.try_plan(plan)
        canvas.checkpoint(0, 3, None)
    with Canvas(tmp_path / "x.png", (1, 4, 5, 3), np.uint8, {"a": 2}) as canvas:
        assert (canvas.killed_plan, canvas.plan, canvas.position().row) == ({}, plan, 3)


@pytest.mark.parametrize(
    ("killed", "expected"),
    [
        ({"tile_size": None, "batch_size": 1}, r"tiles of (\d+), 1 at once now"),
        ({"tile_size": 256, "batch_size": 1}, r"tiles of (\d+), 1 at once now"),
        ({"tile_size": 32, "batch_size": 1}, r"tiles of (32), 1 at once now"),
    ],
    ids=["whole", "tiles", "the smallest"],
)
def test_tiles_are_smaller_than_those_a_run_was_killed_with(killed, expected, caplog):
    upscaler = PictureUpscaler(Nearest(), device=torch.device("cpu"))
    plan = upscaler._plan(400, 300, killed=killed)
    assert plan["tile_size"] < (killed["tile_size"] or 300) or plan["tile_size"] == 32
    assert int(re.search(expected, caplog.text)[1]) == plan["tile_size"]


def test_blocks_lie_where_they_belong(tmp_path):
    expected = np.random.default_rng(0).integers(0, 255, (2, 6, 7, 3), np.uint8)
    with Canvas(tmp_path / "x.png", expected.shape, np.uint8, {}) as canvas:
        for frame in range(2):
            for rows in (slice(0, 2), slice(2, 6)):
                for columns in (slice(0, 3), slice(3, 7)):
                    canvas.write(frame, rows.start, columns.start, expected[frame, rows, columns])
        assert np.array_equal(np.fromfile(canvas.pixels_path, np.uint8).reshape(expected.shape), expected)
        assert np.array_equal(canvas.read(1, 2, 5), expected[1, 2:5])
        canvas.finish()
    assert not list(tmp_path.iterdir())


def test_two_runs_do_not_write_one_picture(tmp_path):
    holder = (
        "import sys, time, numpy\n"
        "from pathlib import Path\n"
        "from hriusr.upscaling.canvas import Canvas\n"
        "with Canvas(Path(sys.argv[1]), (1, 4, 5, 3), numpy.uint8, {}):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(tmp_path / "x.png")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(HriusrError, match="is being written by another process"):
            Canvas(tmp_path / "x.png", (1, 4, 5, 3), np.uint8, {}).__enter__()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_too_small_a_disk_is_said_before_computing(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 50})())
    with pytest.raises(HriusrError, match=r"0\.00 GB free, the pixels of the result need 0\.00 GB"):
        Canvas(tmp_path / "x.png", (1, 4, 5, 3), np.uint8, {}).__enter__()
    assert not list(tmp_path.iterdir())
