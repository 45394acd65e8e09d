"""`hriusr export`: what it prints, names, and refuses."""

import pytest
from typer.testing import CliRunner

from hriusr.archs import pretrained
from hriusr.archs.registry import build_network
from hriusr.archs.weights import save_weights
from hriusr.cli import app

NETWORK = {"type": "SwinIR", "upscale": 2, "embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_weights("net.pth", build_network(NETWORK), NETWORK)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["export", *map(str, arguments)])


def test_errors_at_five_sizes_and_the_largest_are_printed(folder):
    result = run("net.pth", "--to", "torchscript")
    assert result.exit_code == 0, result.output
    assert result.output.count("largest error") == 6
    assert "wrote net.pt " in result.output
    assert (folder / "net.pt").exists()


def test_ending_tells_the_format_and_check_can_be_left_out(folder):
    result = run("net.pth", "other.pt", "--no-check")
    assert result.exit_code == 0, result.output
    assert "not checked" in result.output
    assert (folder / "other.pt").exists()


def test_a_size_without_weights_is_said_to_be_random(folder):
    result = run("swinir_tiny_x2", "--to", "torchscript")
    assert result.exit_code == 0, result.output
    assert "random" in result.output
    assert (folder / "swinir_tiny_x2.pt").exists()


def test_weights_that_come_along_have_the_names_that_upscale_takes(folder, monkeypatch):
    (folder / "net.pth").rename(folder / "hriusr_fast_x2.pth")
    monkeypatch.setattr(pretrained, "shipped_weights", lambda: {"hriusr_fast_x2": folder / "hriusr_fast_x2.pth"})
    for name in ("fast-x2", "hriusr_fast_x2"):
        result = run(name, "--to", "torchscript", "--no-check")
        assert result.exit_code == 0, result.output
        assert "SwinIR x2" in result.output
        assert "random" not in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.pth",), "missing.pth"),
        (("no_such_size",), "hriusr list"),
        (("net.pth", "net.pt2", "--to", "onnx"), "must end in .onnx"),
        (("net.pth", "--precision", "bf16"), "bf16"),
        (("net.pth", "--to", "torchscript", "--opset", "20"), "opset"),
    ],
    ids=str,
)
def test_mistakes_are_answered_in_one_line_and_nothing_is_written(folder, arguments, message):
    before = sorted(folder.iterdir())
    result = run(*arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert sorted(folder.iterdir()) == before
