"""`hriusr upscale` before and beside the network: limits, mistakes, what has no effect."""

import json

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageFile
from typer.testing import CliRunner

from hriusr.archs.registry import build_network
from hriusr.archs.weights import save_weights
from hriusr.cli import app
from hriusr.errors import FolderBusyError
from hriusr.folder_lock import FolderLock
from hriusr.pictures import fallback
from hriusr.upscaling.canvas import scratch_folder
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
    assert report.outcomes[1].reason.startswith("memory ran out: choose a smaller tile_size")


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


@pytest.mark.parametrize(
    ("arguments", "note"),
    [
        (("c.mp4", "--check-seams"), "check_seams has no effect on videos"),
        (("c.mp4", "--max-pixels", "10"), "max_pixels (=10) has no effect on videos"),
        (("a.png", "--jpeg-quality", "5"), "jpeg_quality (=5) has no effect: results are png"),
        (("a.png", "--jpeg-quality", "5", "--extension", "jpg"), None),
        (("a.png", "--precision", "fp16"), "fp16 is much slower than fp32 on a CPU: use fp32 or bf16"),
        (("a.png", "--precision", "bf16"), None),
    ],
)
def test_what_has_no_effect_or_a_bad_one_is_told(folder, monkeypatch, arguments, note):
    monkeypatch.chdir(folder)
    save_weights("net.pth", build_network(NETWORK), NETWORK)
    (folder / "c.mp4").write_bytes(b"no video")
    result = run(*arguments, "-w", "net.pth", "--json", "--device", "cpu")
    assert (note or "") in result.stderr.replace("\n", " ")
    assert json.loads(result.stdout)["notes"] == ([note] if note else [])


def test_a_cache_that_cannot_be_written_is_named(folder, monkeypatch):
    monkeypatch.chdir(folder)
    save_weights("net.pth", build_network(NETWORK), NETWORK)
    monkeypatch.setenv("HRIUSR_CACHE", str(folder / "a.png"))
    result = run("a.png", "-w", "net.pth", "--backend", "onnx")
    assert result.exit_code == 2
    assert "let HRIUSR_CACHE name one that can be written" in result.stderr


@pytest.mark.parametrize("extension", ["bmp", "gif", "png"])
def test_a_profile_that_the_format_cannot_hold_is_told(folder, extension):
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (10, 20)).save(folder / "c.jpg", exif=exif, icc_profile=profile)
    outcome = upscale_path(folder / "c.jpg", network=Nearest(), extension=extension).outcomes[0]
    with Image.open(outcome.target) as result:
        kept = result.info.get("icc_profile")
    notes = () if extension == "png" else (f".{extension} holds no colour profile and no EXIF: left out",)
    assert (outcome.notes, kept is not None) == (notes, extension == "png")


def test_rows_of_another_process_are_not_offered(folder, monkeypatch):
    def busy(self, path):
        raise FolderBusyError(f"{path} is being written by another process")

    scratch = scratch_folder(folder / "b.png")
    scratch.mkdir()
    (scratch / "state.json").write_text("{}")
    monkeypatch.setattr(FolderLock, "take", busy)
    outcome = upscale_path(folder / "a.png", folder / "b.png", network=Nearest()).outcomes[0]
    assert "is being written by another process" in outcome.reason
    assert outcome.notes == ()
