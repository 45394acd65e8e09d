"""`hriusr lam` and `hriusr erf`: every option has its effect, files and numbers agree, mistakes are answered."""

import json

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.cli import app
from hriusr.data.image_io import read_image, write_image
from hriusr.data.matlab_resize import downsample


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photo):
    """Weights of a tiny SwinIR x2, and two small pictures, one with its high-resolution original."""
    path = tmp_path_factory.mktemp("lam")
    torch.manual_seed(1)
    variant = VARIANTS["swinir_tiny_x2"]
    save_weights(path / "net.safetensors", build_network(variant.network_opt()), variant.network_opt())
    hr_HWC = photo("astronaut")[60:156, 180:276]
    write_image(path / "hr" / "eye.png", hr_HWC)
    write_image(path / "lr" / "eye.png", downsample(hr_HWC, 2))
    write_image(path / "lr" / "cat.png", downsample(photo("chelsea")[100:200, 100:180], 2))
    write_image(path / "flat.png", np.full((40, 40, 3), 128, np.uint8))
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def lam(folder, *arguments, picture="lr/eye.png", steps=2):
    result = run(
        "lam", folder / picture, "-w", folder / "net.safetensors", "-o", folder / "out", "--steps", steps, "--json",
        "--crop", 24, *arguments,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def first(numbers):
    return numbers["positions"][0]


def test_default_is_the_centre_and_files_agree_with_what_is_printed(folder):
    numbers = lam(folder)
    (entry,) = numbers["positions"]
    assert json.loads((folder / "out" / "lam.json").read_text()) == numbers
    assert entry["window"] == {"left": 40, "top": 40, "size": 16}
    assert entry["box"] == {"top": 12, "left": 12, "height": 24, "width": 24}
    assert entry["file"] == str(folder / "out" / "eye_x40_y40_s16.png")
    assert read_image(entry["file"]).shape[1] > 5 * 320, "picture, crop, map, blend and result side by side"
    assert entry["diffusion_index"] == pytest.approx(100 * (1 - entry["gini"]))
    assert entry["reach"]["90"]["rows"][0] >= 12
    assert numbers["mean"] == {
        "diffusion_index": entry["diffusion_index"],
        "standard_deviation": 0,
        "num_positions": 1,
        "num_pictures": 1,
    }
    assert (numbers["network"], numbers["scale"], numbers["precision"]) == ("SwinIR", 2, "fp32")


def test_several_windows_and_pictures_are_averaged(folder):
    arguments = ("--window", "20", "30", "8", "--window", "40", "10", "--size", "12", "--window=4,6")
    numbers = lam(folder, *arguments, picture="lr")
    windows = [tuple(entry["window"].values()) for entry in numbers["positions"]]
    assert windows == 2 * [(20, 30, 8), (40, 10, 12), (4, 6, 12)]
    indices = [entry["diffusion_index"] for entry in numbers["positions"]]
    assert numbers["mean"]["diffusion_index"] == pytest.approx(np.mean(indices))
    assert numbers["mean"]["standard_deviation"] == pytest.approx(np.std(indices))
    assert (numbers["mean"]["num_positions"], numbers["mean"]["num_pictures"]) == (6, 2)


def test_list_file_names_pictures_beside_it_and_windows(folder):
    (folder / "places.txt").write_text("# where\nlr/eye.png 20 30 8\n'lr/cat.png' 2 3\nlr/cat.png  # centre\n")
    result = run(
        "lam", "-w", folder / "net.safetensors", "-o", folder / "listed", "--list", folder / "places.txt",
        "--steps", 2, "--size", 10,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    numbers = json.loads((folder / "listed" / "lam.json").read_text())
    windows = [tuple(entry["window"].values()) for entry in numbers["positions"]]
    assert windows == [(20, 30, 8), (2, 3, 10), (35, 45, 10)]
    assert "mean DI" in result.stdout
    assert "3 windows of 2 picture(s)" in result.stdout
    assert "differ in size" in result.stderr


def test_high_resolution_picture_gives_what_its_small_one_gives(folder):
    small, large = lam(folder), lam(folder, "--hr", picture="hr/eye.png")
    assert (small["made_from_hr"], large["made_from_hr"]) == (False, True)
    assert first(large)["diffusion_index"] == first(small)["diffusion_index"]


@pytest.mark.parametrize("option", [("--sigma", "2.5"), ("--kernel-size", "5"), ("--crop", "0"), ("--steps", "3")])
def test_option_changes_the_number(folder, option):
    plain, changed = lam(folder), lam(folder, *option)
    assert first(changed)["diffusion_index"] != first(plain)["diffusion_index"]


def test_crop_is_said_aloud_and_whole_windows(folder):
    result = run("lam", folder / "lr/eye.png", "-w", folder / "net.safetensors", "-o", folder / "out", "--steps", 2)
    assert "note" not in result.stderr, "48 pixels are less than the default of 64"
    numbers = lam(folder, "--crop", "17")
    assert numbers["crop"] == 20, "windows of 4"
    assert "the network saw crops of 20x20" in numbers["notes"][0]
    whole = lam(folder, "--crop", "0")
    assert (whole["crop"], whole["notes"]) == (None, [])
    assert first(whole)["box"]["height"] == 48


def test_network_that_looks_beyond_the_crop_is_told_of(folder):
    assert any("looks farther" in note for note in lam(folder, "--crop", "12")["notes"])


def test_set_reaches_the_network(folder):
    plain, changed = lam(folder), lam(folder, "--set", "img_range=0.5")
    assert first(changed)["completeness"] != first(plain)["completeness"]


def test_published_form_of_weights_is_read(folder):
    network = build_network(VARIANTS["hat_tiny_x2"].network_opt())
    torch.save({"params_ema": network.state_dict()}, folder / "published.pth")
    result = run(
        "lam", folder / "lr/cat.png", "-w", folder / "published.pth", "-o", folder / "out", "--steps", 1, "--json"
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["network"] == "HAT"


def test_one_failure_does_not_stop_the_others(folder):
    result = run(
        "lam", folder / "missing.png", folder / "flat.png", folder / "lr/eye.png", "-w", folder / "net.safetensors",
        "-o", folder / "some", "--steps", 1,
    )  # fmt: skip
    assert result.exit_code == 2
    assert "missing.png does not exist" in result.stderr
    assert "the picture is flat" in result.stderr
    assert result.stderr.splitlines()[-1] == "error: 2 of 3 window(s) failed, see above"
    numbers = json.loads((folder / "some" / "lam.json").read_text())
    assert len(numbers["positions"]) == 1
    assert [entry["picture"] for entry in numbers["failed"]] == [
        str(folder / name) for name in ("missing.png", "flat.png")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lr/eye.png", "--window", "a"], "--window a: must be X Y or X Y SIZE"),
        (["lr/eye.png", "--window", "5"], "--window 5: must be X Y"),
        (["lr/eye.png", "--window", "90", "0", "8"], "X at most 87"),
        (["lr/eye.png", "--kernel-size", "4"], "--kernel-size 4: must be odd"),
        (["lr/eye.png", "--device", "cuda:99"], "cuda:99"),
        (["nosuch.png"], "nosuch.png does not exist"),
        (["--list", "nosuch.txt"], "list nosuch.txt cannot be read"),
        ([], "no picture"),
        (["lr/eye.png", "--window"], "--window needs X Y or X Y SIZE"),
        (["lr/eye.png", "--sigma", "inf"], "--sigma"),
    ],
)
def test_mistake_is_one_line_and_status_2(arguments, message, folder, monkeypatch):
    monkeypatch.chdir(folder)
    result = run("lam", *arguments, "-w", "net.safetensors", "-o", "mistakes", "--steps", 1)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("line", ["lr/eye.png 5", "lr/eye.png a b", "lr/eye.png 1 2 3 4", "'lr/eye.png"])
def test_line_of_a_list_that_says_something_else_is_named(line, folder):
    (folder / "wrong.txt").write_text(f"lr/eye.png\n{line}\n")
    result = run("lam", "-w", folder / "net.safetensors", "--list", folder / "wrong.txt")
    assert result.exit_code == 2
    assert "wrong.txt:2:" in result.stderr


def erf(folder, *arguments):
    result = run("erf", "-w", folder / "net.safetensors", "-o", folder / "erf.png", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_erf_of_noise_and_of_pictures(folder):
    noise = erf(folder, "--count", "2", "--size", "20")
    assert json.loads((folder / "erf.json").read_text()) == noise
    assert read_image(folder / "erf.png").shape[1] > 3 * 320
    assert noise["pictures"] == "uniform noise"
    assert 1 <= noise["side"]["50"] <= noise["side"]["90"]
    drawn = (folder / "erf.png").read_bytes()
    pictures = erf(folder, "--count", "2", "--size", "20", folder / "lr")
    assert pictures["pictures"] == [str(folder / "lr" / name) for name in ("cat.png", "eye.png")]
    assert (folder / "erf.png").read_bytes() != drawn


@pytest.mark.parametrize("option", [("--seed", "3"), ("--count", "5"), ("--size", "24"), ("--set", "img_range=0.1")])
def test_erf_option_changes_the_picture(folder, option):
    erf(folder, "--count", "1", "--size", "20")
    before = (folder / "erf.png").read_bytes()
    erf(folder, "--count", "1", "--size", "20", *option)
    assert (folder / "erf.png").read_bytes() != before


def test_erf_replaces_no_picture_that_it_looks_at(folder):
    picture = folder / "lr" / "eye.png"
    before = picture.read_bytes()
    result = run("erf", "-w", folder / "net.safetensors", "-o", picture, "--count", "1", folder / "lr")
    assert result.exit_code == 2
    assert "is one of the pictures that are looked at" in result.stderr
    assert picture.read_bytes() == before


def test_erf_of_high_resolution_pictures(folder):
    arguments = ("--count", "1", "--size", "48")
    small = erf(folder, *arguments, folder / "lr" / "eye.png")
    large = erf(folder, *arguments, folder / "hr" / "eye.png", "--hr")
    assert small["side"] == large["side"]
    assert small["reach"] == large["reach"]


def test_erf_of_a_picture_smaller_than_a_crop_is_an_error(folder):
    result = run("erf", folder / "lr" / "cat.png", "-w", folder / "net.safetensors", "-o", folder / "no.png")
    assert result.exit_code == 2
    assert "less than --size 64" in result.stderr
    assert not (folder / "no.png").exists()
