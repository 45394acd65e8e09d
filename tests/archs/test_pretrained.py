"""The weights that come along, and their names."""

import re
import statistics
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from hriusr.archs import pretrained
from hriusr.archs.pretrained import DEFAULT, default_weights, find_weights, shipped_weights
from hriusr.archs.weights import network_from_weights
from hriusr.data.image_io import image_to_tensor, read_image, tensor_to_image
from hriusr.errors import WeightsError
from hriusr.metrics.measure import default_metrics, measure, with_both_colours

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", [DEFAULT, DEFAULT.removeprefix("hriusr_"), DEFAULT.replace("_", "-")])
def test_default_is_found_by_each_of_its_names(name):
    assert network_from_weights(find_weights(name)).upscale == 2


@pytest.mark.parametrize(("wanted", "scale"), [(None, 2), (1.5, 2), (2, 2), (2.1, 4), (4, 4)])
def test_default_is_of_the_scale_that_is_wanted(wanted, scale):
    assert network_from_weights(find_weights(default_weights(wanted))).upscale == scale


def test_every_file_has_a_card():
    cards = (ROOT / "experiments/pretrained_models/README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^## (\S+)\.safetensors", cards, re.MULTILINE)) == set(shipped_weights())


@pytest.mark.parametrize("name", sorted(shipped_weights()))
def test_set5_gives_what_the_card_says(name, shared_data):
    cards = (ROOT / "experiments/pretrained_models/README.md").read_text(encoding="utf-8")
    card = cards.partition(f"## {name}.safetensors")[2].partition("\n## ")[0]
    network = network_from_weights(find_weights(name)).eval()
    set5 = shared_data / "benchmarks/Set5"
    psnrs = []
    for path in sorted((set5 / "HR").glob("*.png")):
        lr = read_image(set5 / f"LR_bicubic/X{network.upscale}" / f"{path.stem}x{network.upscale}.png")
        with torch.inference_mode():
            sr = tensor_to_image(network(image_to_tensor(lr)[None])[0])
        metrics = with_both_colours(default_metrics(network.upscale))
        psnrs.append(measure(sr, read_image(path), metrics)["psnr_y"])
    assert statistics.fmean(psnrs) == pytest.approx(float(re.search(r"Set5 ([\d.]+) dB", card)[1]), abs=0.01)


def test_paths_stay_paths(tmp_path):
    assert find_weights(tmp_path / "net.pth") == tmp_path / "net.pth"
    assert find_weights("some/where") == Path("some/where")


def test_unknown_name_lists_the_known(monkeypatch, tmp_path):
    with pytest.raises(WeightsError, match=rf"weights nonsense: neither a file nor .*{DEFAULT}"):
        find_weights("nonsense")
    monkeypatch.setattr(pretrained, "_FOLDERS", (tmp_path,))
    with pytest.raises(WeightsError, match="this installation has no weights"):
        find_weights(DEFAULT)


@pytest.mark.parametrize("name", ["n" * 300, "n" * 300 + ".pth", "loop", "loop/net.pth"])
def test_a_path_that_cannot_be_looked_up_is_named(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    with pytest.raises(WeightsError, match=rf"weights {name} cannot be read \(.*\): check name and permissions"):
        find_weights(name)


@pytest.mark.slow
def test_a_wheel_takes_them_along(tmp_path):
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("hriusr-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert f"hriusr/pretrained_models/{DEFAULT}.safetensors" in names
