"""However one of several processes ends, no other is left, and what is written is reported."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import write_image

ROOT = Path(__file__).resolve().parents[2]
NUM_PICTURES = 60

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc"),
]


@pytest.fixture
def run(tmp_path, photo):
    """Two processes at many small pictures, of which some are written: (process 0, worker's id, results)."""
    opt = VARIANTS["hat_tiny_x2"].network_opt()
    save_weights(tmp_path / "net.safetensors", build_network(opt), opt)
    for number in range(NUM_PICTURES):
        write_image(tmp_path / "in" / f"{number:02}.png", photo("chelsea")[:96, :96])
    target = tmp_path / "out"
    command = [sys.executable, "-m", "hriusr.cli", "upscale", str(tmp_path / "in"), "-o", str(target), "--json"]
    command += ["-w", str(tmp_path / "net.safetensors"), "--workers", "2"]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while len(list(target.glob("*.png"))) < 3 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    workers = children(process.pid)
    yield process, workers[0], target
    for number in (process.pid, *workers):
        with contextlib.suppress(ProcessLookupError):
            os.kill(number, signal.SIGKILL)
    process.communicate()


def test_a_worker_killed_in_a_large_picture_is_named(tmp_path, photo):
    opt = VARIANTS["hat_tiny_x2"].network_opt()
    save_weights(tmp_path / "net.safetensors", build_network(opt), opt)
    write_image(tmp_path / "a.png", np.tile(photo("astronaut"), (2, 2, 1)))
    command = [sys.executable, "-m", "hriusr.cli", "upscale", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]
    command += ["-w", str(tmp_path / "net.safetensors"), "--workers", "2", "--tile-size", "64"]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    state = tmp_path / ".b.png.hriusr" / "state.json"
    deadline = time.monotonic() + 200
    while not state.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, err = process.communicate(timeout=200)
    assert process.returncode == 2
    assert "process 1 of this run is gone: run it again" in err.replace("\n", " ")
    assert "finished rows are kept" in err.replace("\n", " ")
    assert "Traceback" not in err
    assert "RuntimeError" not in err


def children(parent):
    """Return the ids of a process's children."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                found.append(int(path.parent.name))
    return found


def is_gone(number, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


def test_a_killed_worker_is_a_failure_of_its_pictures(run):
    process, worker, target = run
    os.kill(worker, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    pictures = json.loads(out)["pictures"]
    written = {picture["name"] for picture in pictures if picture["status"] == "written"}
    reasons = {picture["reason"] for picture in pictures if picture["status"] == "failed"}
    assert process.returncode == 2
    assert "Traceback" not in err
    assert len(pictures) == NUM_PICTURES
    assert written == {path.name for path in target.glob("*.png")}
    assert all(picture["size"] == [192, 192] for picture in pictures if picture["status"] == "written")
    assert len(reasons) == 1
    assert "a process of this run is gone" in reasons.pop()


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ending_process_0_ends_all_and_says_what_is_written(run, number, status):
    process, worker, target = run
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert is_gone(worker)
    num_written = len(list(target.glob("*.png")))
    assert f"{num_written} of {NUM_PICTURES} picture(s) written" in err.replace("\n", " ")
    assert err.count("interrupted") == (number == signal.SIGINT)
    assert not list(target.glob(".*"))


def test_a_worker_does_not_outlive_process_0(run):
    process, worker, target = run
    process.kill()
    assert is_gone(worker)
    assert len(list(target.glob("*.png"))) < NUM_PICTURES
