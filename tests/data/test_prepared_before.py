"""Folders that held pictures before the first `hriusr prepare`: these are kept, or nothing is done."""

import json

import numpy as np
import pytest

from hriusr.data.image_io import list_images, read_image, write_image
from hriusr.data.matlab_resize import downsample
from hriusr.data.output_folder import NOTE
from hriusr.data.prepare import prepare_bicubic
from hriusr.errors import DataError
from tests.data.prepared import QUIET, age, counts


def test_pictures_that_were_there_before_are_kept(hr_folder, tmp_path):
    official = downsample(read_image(hr_folder / "coffee.png")[:60, :82], 2) ^ 1
    write_image(tmp_path / "X2" / "coffeex2.png", official)
    age(tmp_path / "X2" / "coffeex2.png")
    for _ in range(2):
        prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)
        np.testing.assert_array_equal(read_image(tmp_path / "X2" / "coffeex2.png"), official)
    prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, overwrite=True, **QUIET)
    assert (read_image(tmp_path / "X2" / "coffeex2.png") != official).any()


@pytest.mark.parametrize("is_of_earlier_version", [False, True])
def test_pictures_that_were_there_before_outlive_other_options(hr_folder, tmp_path, is_of_earlier_version):
    mine = tmp_path / "X" / "coffeex2.png"
    write_image(mine, np.zeros((30, 41, 3), np.uint8))
    age(mine)
    before = mine.read_bytes()
    if is_of_earlier_version:
        (tmp_path / "X" / NOTE).write_text(json.dumps({"options": {"job": "bicubic"}, "adopted": True}))
    for scale in (4, 2, 3, 2):
        prepare_bicubic(hr_folder, tmp_path / "X", scale=scale, **QUIET)
        assert mine.read_bytes() == before
    assert read_image(tmp_path / "X" / "chelseax2.png").any()


def test_only_pictures_that_were_there_before_outlive_a_change_of_their_source(hr_folder, tmp_path):
    (tmp_path / "X2").mkdir()
    (tmp_path / "X2" / "README").write_text("mine")
    official = downsample(read_image(hr_folder / "coffee.png")[:60, :82], 2) ^ 1
    write_image(tmp_path / "X2" / "coffeex2.png", official)
    damaged = tmp_path / "X2" / "chelseax2.png"
    write_image(damaged, np.zeros((31, 41, 3), np.uint8))
    damaged.write_bytes(damaged.read_bytes()[:-20])
    make = lambda: counts(prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET))  # noqa: E731
    assert make() == (2, 1)
    for path in (*(tmp_path / "X2").iterdir(), *list_images(hr_folder)):
        age(path)
    for path in list_images(hr_folder):
        write_image(path, read_image(path)[:, ::-1])
    assert make() == (2, 1)
    np.testing.assert_array_equal(read_image(tmp_path / "X2" / "coffeex2.png"), official)
    np.testing.assert_array_equal(read_image(damaged), downsample(read_image(hr_folder / "chelsea.png")[:, :82], 2))


def test_note_of_an_earlier_version_adopts_what_is_older(hr_folder, tmp_path):
    write_image(tmp_path / "X2" / "coffeex2.png", np.zeros((30, 41, 3), np.uint8))
    age(tmp_path / "X2" / "coffeex2.png")
    note = {"options": {"job": "bicubic", "scale": 2}, "adopted": True}
    (tmp_path / "X2" / NOTE).write_text(json.dumps(note))
    assert counts(prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)) == (2, 1)
    for path in (*(tmp_path / "X2").iterdir(), *list_images(hr_folder)):
        age(path)
    write_image(hr_folder / "chelsea.png", read_image(hr_folder / "chelsea.png")[:, ::-1])
    assert counts(prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)) == (1, 2)


def test_pictures_of_another_size_are_not_replaced_unasked(hr_folder, tmp_path):
    """As where source and target were swapped."""
    prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, filename_tmpl="{}", **QUIET)
    (tmp_path / "X2" / NOTE).unlink()
    before = {path: path.read_bytes() for path in list_images(hr_folder)}
    for _ in range(2):
        with pytest.raises(DataError, match=r"HR/astronaut.png \(83x63\) was there before and is not 20x15"):
            prepare_bicubic(tmp_path / "X2", hr_folder, scale=2, filename_tmpl="{}", **QUIET)
    assert {path: path.read_bytes() for path in list_images(hr_folder)} == before
    prepare_bicubic(tmp_path / "X2", hr_folder, scale=2, filename_tmpl="{}", overwrite=True, **QUIET)
    assert {path: path.read_bytes() for path in list_images(hr_folder)} != before
