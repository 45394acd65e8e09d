"""`hriusr upscale` before and beside the network: limits, mistakes, what has no effect."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFile
from typer.testing import CliRunner

from hriusr.archs.registry import build_network
from hriusr.archs.weights import save_weights
from hriusr.cli import app
from hriusr.pictures import fallback
from hriusr.upscaling.upscale import upscale_path
from tests.upscaling.nearest_network import Nearest

NETWORK = {"type": "SwinIR", "upscale": 2, "embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4}


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.tga"):
        Image.fromarray(np.zeros((20, 30 if name == "b.tga" else 10, 3), np.uint8)).save(tmp_path / name)
    return tmp_path


def test_picture_beyond_max_pixels_is_never_decoded(folder, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    report = upscale_path(folder, folder / "out", network=Nearest(), max_pixels=599)
    assert [outcome.status for outcome in report.outcomes] == ["written", "failed"]
    assert "more than max_pixels (=599)" in report.outcomes[1].reason


def test_memory_that_does_not_suffice_ends_one_picture_only(folder, monkeypatch):
    def no_memory(path):
        raise MemoryError

    monkeypatch.setattr(fallback, "_opened", no_memory)
    report = upscale_path(folder, folder / "out", network=Nearest())
    assert [outcome.status for outcome in report.outcomes] == ["written", "failed"]
    assert report.outcomes[1].reason.startswith("MemoryError")


def run(*arguments):
    return CliRunner().invoke(app, ["upscale", *map(str, arguments)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--scale", "inf"), "scale (=inf) must be a number"),
        (("--scale", "nan"), "scale (=nan) must be a number"),
        (("-w", "net.onnx", "--set", "nonsense=1", "--backend", "onnx"), "net.onnx is fixed: leave out settings"),
        (("-w", "net.onnx", "--set", "nonsense=1"), "net.onnx is fixed: leave out settings"),
    ],
    ids=str,
)
def test_mistakes_are_answered_in_one_line(folder, monkeypatch, arguments, message):
    monkeypatch.chdir(folder)
    (folder / "net.onnx").write_bytes(b"a network")
    result = run("a.png", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_suffix_without_effect_is_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save_weights("net.pth", build_network(NETWORK), NETWORK)
    for output, notes in (("out", []), ("big.png", ["suffix (=_x) has no effect: the output big.png is the"])):
        result = run("a.png", "-o", output, "-w", "net.pth", "--suffix", "_x", "--json", "--device", "cpu")
        assert result.exit_code == 0, result.output
        told = json.loads(result.stdout)["notes"]
        assert [note[: len(start)] for note, start in zip(told, notes, strict=True)] == notes
        assert ("has no effect" in result.stderr) == bool(notes)


def test_seams_that_are_not_checked_are_told(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save_weights("net.pth", build_network(NETWORK), NETWORK)
    (folder / "c.mp4").write_bytes(b"no video")
    result = run("c.mp4", "-w", "net.pth", "--check-seams", "--json", "--device", "cpu")
    assert "check_seams has no effect on videos" in result.stderr
    assert json.loads(result.stdout)["notes"] == ["check_seams has no effect on videos"]
