"""Known datasets in their usual places, made from a few small pictures under the real folder names."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from hriusr.data import prepare_presets
from hriusr.data.checksums import KNOWN_SETS
from hriusr.data.image_io import list_images, read_image, write_image
from hriusr.data.matlab_resize import downsample
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.prepare import prepare_bicubic, prepare_subimages
from hriusr.data.prepare_demo import HELD_OUT_PICTURES, TRAINING_PICTURES, prepare_demo
from hriusr.data.prepare_presets import PRESETS, prepare_preset, verify_preset
from hriusr.data.verify import picture_hash, set_hash, verify_folder
from hriusr.errors import DataError

QUIET = {"progress": False, "num_processes": 1}


def relative(root):
    return {path.relative_to(root).as_posix() for path in root.rglob("*.png")}


@pytest.fixture
def training_sets(tmp_path, photo, monkeypatch):
    """DIV2K and Flickr2K of one picture each, and squares small enough for them."""
    monkeypatch.setattr(prepare_presets, "_CROP_SIZE", 48)
    monkeypatch.setattr(prepare_presets, "_STEP", 24)
    write_image(tmp_path / "DIV2K" / "DIV2K_train_HR" / "0001.png", photo("coffee")[:75, :99])
    write_image(tmp_path / "DIV2K" / "DIV2K_valid_HR" / "0801.png", photo("coffee")[100:160, :60])
    write_image(tmp_path / "Flickr2K" / "Flickr2K_HR" / "000001.png", photo("chelsea")[:72, :96])
    return tmp_path


@pytest.mark.parametrize("place", ["Set14/HR", "Set14/GTmod12", "Set14", "benchmark/Set14/HR", "set14/HR"])
def test_benchmark_is_found_in_its_usual_places(tmp_path, photo, place):
    write_image(tmp_path / place / "a.png", photo("coffee")[:40, :40])
    results = prepare_preset("Set14", tmp_path, scales=(2, 4), **QUIET)
    home = place.removesuffix("/HR").removesuffix("/GTmod12")
    assert [str(result.target) for result in results] == [str(tmp_path / home / "LR_bicubic" / x) for x in ("X2", "X4")]
    assert (tmp_path / home / "LR_bicubic" / "X4" / "ax4.png").is_file()
    again = prepare_preset("set14", tmp_path, scales=(2, 4), **QUIET)
    assert sum(result.num_made for result in again) == 0


def test_edsrs_name_of_bsd100_is_known(tmp_path, photo):
    write_image(tmp_path / "benchmark" / "B100" / "HR" / "a.png", photo("coffee")[:40, :40])
    (result,) = prepare_preset("BSD100", tmp_path, scales=(2,), **QUIET)
    assert result.target == tmp_path / "benchmark" / "B100" / "LR_bicubic" / "X2"


def test_layout_hat_has_the_folders_of_its_option_files(tmp_path, photo):
    write_image(tmp_path / "Set5" / "HR" / "a.png", photo("coffee")[:41, :40])
    prepare_preset("set5", tmp_path, scales=(2,), layout="hat", **QUIET)
    folders = {"dataroot_gt": tmp_path / "Set5" / "GTmod2", "dataroot_lq": tmp_path / "Set5" / "LRbicx2"}
    dataset = PairedImageDataset({"name": "Set5", "phase": "val", "scale": 2, **folders})
    assert dataset[0]["gt"].shape == (3, 40, 40)


def test_other_pictures_under_a_known_name_are_told(tmp_path, photo, caplog):
    write_image(tmp_path / "Set5" / "HR" / "a.png", photo("coffee")[:40, :40])
    with caplog.at_level(logging.WARNING):
        prepare_preset("set5", tmp_path, scales=(2,), **QUIET)
    assert (
        "0 pictures are those of set5/HR; 5 are missing (baby, bird, butterfly ...); 1 are other pictures"
        in caplog.text
    )


def test_div2k_gets_lr_squares_list_and_databases(training_sets):
    prepare_preset("div2k", training_sets, scales=(2, 4), lmdb=True, **QUIET)
    made = relative(training_sets)
    assert "DIV2K/DIV2K_train_LR_bicubic/X4/0001x4.png" in made
    assert "DIV2K/DIV2K_valid_LR_bicubic/X2/0801x2.png" in made
    names = [path.name for path in list_images(training_sets / "DIV2K" / "DIV2K_train_HR_sub")]
    assert names == [f"0001_s{number:03d}.png" for number in range(1, 7)]  # 72x96 after the crop to 12
    lines = (training_sets / "meta_info" / "meta_info_DIV2K800sub_GT.txt").read_text().splitlines()
    assert lines[0] == "0001_s001.png (48,48,3)"
    for scale in (2, 4):
        options = {
            "phase": "train",
            "scale": scale,
            "gt_size": 16,
            "dataroot_gt": training_sets / "DIV2K" / "DIV2K_train_HR_sub",
            "dataroot_lq": training_sets / "DIV2K" / "DIV2K_train_LR_bicubic" / f"X{scale}_sub",
            "meta_info_file": "basicsr/data/meta_info/meta_info_DIV2K800sub_GT.txt",
        }
        assert PairedImageDataset(options)[0]["lq"].shape == (3, 16 // scale, 16 // scale)
        databases = {
            "io_backend": {"type": "lmdb"},
            "dataroot_gt": training_sets / "DIV2K" / "DIV2K_train_HR_sub.lmdb",
            "dataroot_lq": training_sets / "DIV2K" / f"DIV2K_train_LR_bicubic_X{scale}_sub.lmdb",
        }
        assert len(PairedImageDataset({"phase": "val", "scale": scale, **databases})) == 6


def test_df2k_joins_both_sets_under_the_names_of_hat(training_sets):
    prepare_preset("DF2K", training_sets, scales=(3,), **QUIET)
    options = {
        "phase": "val",
        "scale": 3,
        "dataroot_gt": training_sets / "DF2K" / "DF2K_HR_sub",
        "dataroot_lq": training_sets / "DF2K" / "DF2K_bicx3_sub",
        "meta_info_file": "hat/data/meta_info/meta_info_DF2Ksub_GT.txt",
    }
    dataset = PairedImageDataset(options)
    assert len(dataset) == 12
    assert dataset[11]["gt"].shape == (3, 48, 48)
    assert (
        sum(result.num_made for result in prepare_preset("DF2K", training_sets, scales=(3,), **QUIET)) == 12
    )  # the list


@pytest.mark.parametrize("steps", [[(2,), (8,)], [(8,), (2, 3)], [(2, 5, 8)], [(5,), (3,), (8, 2)]])
def test_squares_of_scales_prepared_one_after_the_other_fit(training_sets, steps, photo, monkeypatch, caplog):
    """After a crop to multiples of 12, 24 or 60 the last squares lie elsewhere: one grid must not become another."""
    monkeypatch.setattr(prepare_presets, "_CROP_SIZE", 120)
    monkeypatch.setattr(prepare_presets, "_STEP", 120)
    write_image(training_sets / "DIV2K" / "DIV2K_train_HR" / "0001.png", photo("coffee")[:135, :158])
    for scales in steps:
        prepare_preset("div2k", training_sets, scales=scales, **QUIET)
    home = training_sets / "DIV2K"
    for scale in {scale for scales in steps for scale in scales}:
        hr_folder = home / ("DIV2K_train_HR_sub" + (f"_X{scale}" if scale in (5, 8) else ""))
        squares = list_images(hr_folder)
        assert [path.name for path in squares] == [
            path.name for path in list_images(home / "DIV2K_train_LR_bicubic" / f"X{scale}_sub")
        ]
        inner = slice(3, -3)  # a square does not know what lay beyond its border
        for path in squares:
            lr = read_image(home / "DIV2K_train_LR_bicubic" / f"X{scale}_sub" / path.name)
            np.testing.assert_array_equal(lr[inner, inner], downsample(read_image(path), scale)[inner, inner])
    assert "does not lie on" not in caplog.text


def test_squares_of_an_older_grid_are_not_mixed_with_new_ones(training_sets, caplog):
    home = training_sets / "DIV2K"
    grid = {"crop_size": 48, "step": 24, "multiple": 24}
    prepare_subimages(home / "DIV2K_train_HR", home / "DIV2K_train_HR_sub", **grid, **QUIET)
    for scale in (3, 8):
        lr_folder = home / "DIV2K_train_LR_bicubic" / f"X{scale}"
        prepare_bicubic(home / "DIV2K_train_HR", lr_folder, scale=scale, **QUIET)
        lr_grid = {name: pixels // scale for name, pixels in grid.items()} | {"filename_tmpl": f"{{}}x{scale}"}
        prepare_subimages(lr_folder, lr_folder.with_name(f"X{scale}_sub"), **lr_grid, **QUIET)
    with pytest.raises(DataError, match=r"HR_sub were cropped to multiples of 24, now it is 12: .*--overwrite"):
        prepare_preset("div2k", training_sets, scales=(2,), **QUIET)
    prepare_preset("div2k", training_sets, scales=(2,), overwrite=True, **QUIET)
    assert "X3_sub does not lie on" in caplog.text
    assert "HR_sub_X8: cut it again with -s 8" in caplog.text
    caplog.clear()
    prepare_preset("div2k", training_sets, scales=(3, 8), **QUIET)
    assert "does not lie on" not in caplog.text


def test_unknown_and_absent_sets_say_the_remedy(tmp_path):
    for name in PRESETS:
        with pytest.raises(DataError, match=r"no pictures of .* in .*README"):
            prepare_preset(name, tmp_path, **QUIET)
    with pytest.raises(DataError, match="set6 is no known dataset: use one of set5"):
        prepare_preset("set6", tmp_path, **QUIET)
    with pytest.raises(DataError, match=r"scales \(=\[7\]\)"):
        prepare_preset("set5", tmp_path, scales=[7], **QUIET)
    with pytest.raises(DataError, match=r"no checksums for set14.*knows set5, urban100"):
        verify_preset("set14", tmp_path, **QUIET)
    with pytest.raises(DataError, match=r"no checksums.*set5/HR"):
        verify_folder(tmp_path, "set14/HR", **QUIET)


# ---- verify


def test_official_set5_is_recognised_and_ours_too(shared_data, tmp_path):
    shutil.copytree(shared_data / "benchmarks" / "Set5" / "HR", tmp_path / "Set5" / "HR")
    prepare_preset("set5", tmp_path, **QUIET)
    found = verify_preset("Set5", tmp_path, **QUIET)
    assert [item.known for item in found] == ["set5/HR", "set5/X2", "set5/X3", "set5/X4"]
    assert all(item.is_exact for item in found)
    assert str(found[0]).endswith("Set5/HR: all 5 pictures are those of set5/HR")


@pytest.mark.slow
def test_urban100_is_recognised(shared_data):
    folder = shared_data / "benchmarks" / "Urban100" / "HR"
    found = verify_folder(folder, "urban100/HR", num_processes=2, progress=False)
    assert found.is_exact
    assert found.num_same == 100


def test_verification_sees_names_and_formats_through_but_not_a_changed_pixel(shared_data, tmp_path):
    for path in list_images(shared_data / "benchmarks" / "Set5" / "HR"):
        write_image(tmp_path / f"other-{path.stem}.bmp", read_image(path))
    assert verify_folder(tmp_path, "set5/HR", **QUIET).is_exact
    image = read_image(tmp_path / "other-bird.bmp")
    image[0, 0, 0] ^= 1
    write_image(tmp_path / "other-bird.bmp", image)
    found = verify_folder(tmp_path, "set5/HR", **QUIET)
    assert not found.is_exact
    assert (found.num_same, found.missing, found.unknown) == (4, ("bird",), ("other-bird.bmp",))
    assert "1 are missing (bird); 1 are other pictures (other-bird.bmp)" in str(found)


def test_hash_is_of_size_and_pixels(tmp_path):
    write_image(tmp_path / "a.png", np.zeros((2, 8, 3), np.uint8))
    write_image(tmp_path / "b.png", np.zeros((4, 4, 3), np.uint8))
    write_image(tmp_path / "c.bmp", np.zeros((4, 4, 3), np.uint8))
    a, b, c = (picture_hash(tmp_path / name) for name in ("a.png", "b.png", "c.bmp"))
    assert a != b == c
    assert set_hash([a, b]) == set_hash([b, a]) != set_hash([a, b, b])
    for known in KNOWN_SETS.values():
        digits = known.pictures.split()[1::2]
        assert len(set(digits)) == len(digits) in (5, 100)


# ---- demonstration


def test_demo_is_small_paired_and_held_out(tmp_path):
    results = prepare_demo(tmp_path, scales=(3,), num_processes=2, progress=False)
    assert [result.num_made for result in results] == [12, 12, 2, 2]
    assert not set(TRAINING_PICTURES) & set(HELD_OUT_PICTURES)
    for part, count in (("train", 12), ("test", 2)):
        folders = {"dataroot_gt": tmp_path / part / "HR", "dataroot_lq": tmp_path / part / "LR_bicubic" / "X3"}
        dataset = PairedImageDataset({"phase": "val", "scale": 3, "filename_tmpl": "{}x3", **folders})
        assert len(dataset) == count
        height, width = dataset[0]["gt"].shape[1:]
        assert height % 12 == width % 12 == 0
        assert max(height, width) <= 720
        assert dataset[0]["lq"].shape[1:] == (height // 3, width // 3)
    again = prepare_demo(tmp_path, scales=(3,), **QUIET)
    assert sum(result.num_made for result in again) == 0


def test_demo_without_its_pictures_says_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr("hriusr.data.prepare_demo._photograph_folder", lambda: tmp_path)
    with pytest.raises(DataError, match="pip install --upgrade scikit-image"):
        prepare_demo(tmp_path / "demo", **QUIET)


def test_readme_has_the_checksums_of_the_table():
    readme = (Path(__file__).parents[2] / "datasets" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{known.sha256}`" in readme for known in KNOWN_SETS.values())
    assert all(f"hriusr prepare {name}`" in readme for name in PRESETS)
