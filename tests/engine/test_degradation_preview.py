"""`hriusr degrade`: the examples are those that training draws; option files are read without their data."""

import numpy as np
import pytest
import torch
from torch.utils.data import default_collate
from typer.testing import CliRunner

from hriusr.cli.commands import app
from hriusr.data.image_io import image_to_tensor, read_image, write_image
from hriusr.data.realesrgan_dataset import RealESRGANDataset
from hriusr.data.sampler import SampleKey
from hriusr.engine.degradation_preview import preview_degradations
from hriusr.errors import DataError, OptionsError
from hriusr.models.real_pairs import RealPairs


@pytest.fixture
def picture(tmp_path, photo):
    write_image(tmp_path / "gt" / "astronaut.png", photo("astronaut")[60:140, 100:180])
    return tmp_path / "gt" / "astronaut.png"


def test_example_is_what_training_makes_of_the_picture(picture, tmp_path):
    opt = {"dataroot_gt": str(picture.parent), "scale": 4, "phase": "train", "gt_size": 80, "crop_pad_size": 80}
    dataset = RealESRGANDataset(opt | {"use_hflip": False, "use_rot": False})
    pairs = RealPairs({"scale": 4, "gt_size": 80}, torch.device("cpu"), sharpens_gt=True, sharpens_source=True)
    lq_1CHW, _ = pairs.make(default_collate([dataset[SampleKey(0, 1, 3)]]))
    preview_degradations(picture, tmp_path / "out", count=2, seed=3)
    example = image_to_tensor(read_image(tmp_path / "out" / "astronaut_degraded_1.png"))
    assert torch.equal(example, lq_1CHW[0])


def test_files_are_repeatable_and_seeds_differ(picture, tmp_path):
    for folder, seed in (("a", 0), ("b", 0), ("c", 1)):
        paths = preview_degradations(picture, tmp_path / folder, count=5, seed=seed)
        assert len(paths) == 6
    first, again, other = (read_image(tmp_path / folder / "astronaut_sheet.png") for folder in "abc")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (2 * 20 + 4, 4 * 20 + 3 * 4, 3)


def test_option_file_decides(picture, tmp_path):
    base = "scale: 2\nnoise_range: [0, 0]\ngaussian_noise_prob: 1\ngaussian_noise_prob2: 1\n"
    (tmp_path / "base.yml").write_text(base + "datasets: {train: {dataroot_gt: nowhere}}")
    roughness = []
    for sigma in (0, 80):
        (tmp_path / "x.yml").write_text(f"base: base.yml\nnoise_range2: [{sigma}, {sigma}]\n")
        preview_degradations(picture, tmp_path / "out", count=4, option_file=tmp_path / "x.yml")
        images = [read_image(tmp_path / "out" / f"astronaut_degraded_{number}.png").astype(int) for number in range(4)]
        assert {image.shape for image in images} == {(40, 40, 3)}
        roughness.append(np.mean([np.abs(np.diff(image, axis=1)).mean() for image in images]))
    assert roughness[1] > 1.5 * roughness[0]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("noise_range: [3, 1]", r"noise_range \(=\[3.*\]\)"),
        ("datasets: {train: {sinc_prob: 2}}", r"sinc_prob \(=2\)"),
        ("datasets: {train: 5}", "a section"),
        ("datasets: 3", "a section"),
        ("scale: x", r"scale \(='x'\)"),
        ("scale: true", r"scale \(=True\)"),
        ("model_type: SRModel", "model_type 'SRModel' draws no degradations"),
    ],
)
def test_wrong_option_file_is_named(picture, tmp_path, text, words):
    (tmp_path / "x.yml").write_text(text)
    with pytest.raises(OptionsError, match=words):
        preview_degradations(picture, tmp_path, option_file=tmp_path / "x.yml")


def test_picture_smaller_than_the_scale_is_refused(tmp_path):
    write_image(tmp_path / "dot.png", np.zeros((3, 3, 3), np.uint8))
    with pytest.raises(DataError, match=r"smaller than scale \(=4\)"):
        preview_degradations(tmp_path / "dot.png", tmp_path)


def test_command_names_its_files(picture, tmp_path):
    result = CliRunner().invoke(app, ["degrade", str(picture), "-o", str(tmp_path / "out"), "--count", "2"])
    assert result.exit_code == 0, result.output
    assert [line.rsplit("/")[-1] for line in result.output.split()] == [
        "astronaut_degraded_0.png",
        "astronaut_degraded_1.png",
        "astronaut_sheet.png",
    ]
