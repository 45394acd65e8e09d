"""The doctor finds what is wrong with pictures, pairs and databases, and nothing where nothing is wrong."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from hriusr.data.image_io import encode_image, read_image, write_image
from hriusr.data.lmdb_store import write_lmdb
from hriusr.data.matlab_resize import downsample
from hriusr.doctor.findings import remedy_apart

GT, LQ = Path("train/gt/coffee.png"), Path("train/lq/coffee.png")


def of_level(report, *levels):
    return [finding for finding in report.findings if finding.level in levels]


def test_healthy_data_give_no_error_and_no_warning(diagnose):
    report = diagnose()
    assert of_level(report, "error", "warning") == []
    assert report.measured["datasets.train"]["exact_matlab_bicubic"] == 4


def truncate():
    GT.write_bytes(GT.read_bytes()[:2000])


def lose_partner():
    LQ.unlink()


def lose_original():
    GT.unlink()


def shrink_more():
    for path in Path("train/gt").iterdir():
        write_image(Path("train/lq", path.name), downsample(read_image(path), 4))


def shift():
    write_image(LQ, np.roll(read_image(LQ), (1, 2), axis=(0, 1)))


def swap_colours():
    write_image(LQ, read_image(LQ)[..., ::-1])


def take_another():
    shutil.copy("train/lq/rocket.png", LQ)


def shrink_by_opencv():
    write_image(LQ, cv2.resize(read_image(GT), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC))


def blank():
    write_image(GT, np.full((192, 192, 3), 255, np.uint8))
    write_image(LQ, np.full((96, 96, 3), 255, np.uint8))


def cut_small():
    write_image(GT, read_image(GT)[:60, :60])
    write_image(LQ, downsample(read_image(GT), 2))


def repeat():
    for folder in ("gt", "lq"):
        shutil.copy(f"train/{folder}/coffee.png", f"train/{folder}/coffee_again.png")


def repeat_as_jpeg():
    _, content = cv2.imencode(".jpg", read_image(GT)[2:, 2:], [cv2.IMWRITE_JPEG_QUALITY, 60])
    write_image(Path("train/gt/again.png"), cv2.imdecode(content, cv2.IMREAD_COLOR))
    write_image(Path("train/lq/again.png"), downsample(read_image("train/gt/again.png"), 2))


@pytest.mark.parametrize(
    ("fault", "level", "words", "example"),
    [
        (truncate, "error", "coffee.png is cut off", "coffee.png"),
        (lose_partner, "error", "1 of 4 pictures of train/gt have no partner in train/lq", None),
        (lose_original, "warning", "1 pictures of train/lq have no partner", None),
        (shrink_more, "error", "not 2 times as large as lq (4 are 4 times as large)", "astronaut.png"),
        (shift, "error", "shifted, mostly by 1 rows and 2 columns", "coffee.png"),
        (swap_colours, "error", "red and blue exchanged", "coffee.png"),
        (take_another, "error", "an lq that is another picture", "coffee.png"),
        (shrink_by_opencv, "warning", "it seems to be OpenCV's bicubic, without antialiasing", "coffee.png"),
        (blank, "warning", "are of one colour", "coffee.png"),
        (cut_small, "error", "are smaller than gt_size (=64)", "coffee.png"),
        (repeat, "warning", "1 pairs of pictures are equal to the pixel", "coffee.png = train/gt/coffee_again.png"),
        (repeat_as_jpeg, "warning", "1 pairs of pictures are nearly equal", "again.png"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_one_fault_is_named_with_its_picture(diagnose, fault, level, words, example):
    fault()
    found = of_level(diagnose(), "error", "warning")
    assert [(finding.level, words in finding.message) for finding in found] == [(level, True)], found
    assert found[0].place.startswith("datasets.train")
    if example:
        assert any(example in name for name in found[0].examples)
    assert found[0].remedy or fault is lose_original


def test_wrong_scale_is_answered_with_the_right_one(diagnose):
    shrink_more()
    assert "set scale: 4" in of_level(diagnose(), "error")[0].remedy


def test_surplus_below_the_scale_is_no_fault(diagnose):
    lq = read_image(LQ)[:-1]
    write_image(GT, read_image(GT)[:-1])
    write_image(LQ, lq)
    assert of_level(diagnose(), "error", "warning") == []
    write_image(LQ, lq[:-1])
    assert "not 2 times as large" in of_level(diagnose(), "error")[0].message


def test_exchanged_folders_are_recognised(diagnose):
    swapped = ("datasets:train:dataroot_gt=train/lq", "datasets:train:dataroot_lq=train/gt")
    (finding,) = of_level(diagnose(*swapped), "error")
    assert "lq 192x192, gt 96x96): dataroot_gt and dataroot_lq seem to be swapped" in finding.message
    assert "prepare" not in finding.remedy
    assert len(finding.examples) == 4


def test_no_bar_is_shown_over_nothing(diagnose, capsys):
    diagnose(progress=True)
    assert "sizes" not in capsys.readouterr().err


def test_database_with_fewer_pictures_than_it_lists_is_an_error(diagnose, part):
    for name, shrink, held in (("gt", 1, 2), ("lq", 2, 2), ("lq_short", 2, 1)):
        pictures = [(key, downsample(part(key), shrink)) for key in ("coffee", "rocket")[:held]]
        rows = [(key, encode_image(picture, ".png"), picture.shape) for key, picture in pictures]
        write_lmdb(f"{name}.lmdb", rows, map_size=10**7, compression=1)
    shutil.copy("lq.lmdb/meta_info.txt", "lq_short.lmdb/meta_info.txt")
    overrides = ["datasets:train:dataroot_gt=gt.lmdb", "datasets:train:io_backend={type: lmdb}"]
    healthy = diagnose(*overrides, "datasets:train:dataroot_lq=lq.lmdb")
    assert of_level(healthy, "error", "warning") == []
    found = of_level(diagnose(*overrides, "datasets:train:dataroot_lq=lq_short.lmdb"), "error")
    assert "lq_short.lmdb holds 1 pictures, its meta_info.txt lists 2" in found[0].message
    assert "has no picture 'rocket'" in found[1].message


def test_sample_is_looked_at_and_said_so(diagnose):
    report = diagnose(sample=2)
    assert report.measured["datasets.train"]["looked_at"] == 2
    assert any("2 of 4 pictures were looked at" in finding.message for finding in report.findings)


def test_wrong_sizes_are_found_outside_of_the_sample_too(diagnose):
    for name in ("astronaut", "coffee", "rocket", "hubble_deep_field"):
        path = Path("train/gt", f"{name}.png")
        write_image(path, read_image(path)[:60])
        write_image(Path("train/lq", path.name), read_image(Path("train/lq", path.name))[:30])
    (finding,) = of_level(diagnose(sample=1), "error")
    assert len(finding.examples) == 4
    write_image(GT, read_image(GT)[:58])
    assert "not 2 times as large" in of_level(diagnose(sample=1), "error")[1].message


def put_whole(picture):
    return picture


def put_flipped_as_jpeg(picture):
    _, content = cv2.imencode(".jpg", np.ascontiguousarray(picture[:, ::-1]), [cv2.IMWRITE_JPEG_QUALITY, 70])
    return cv2.imdecode(content, cv2.IMREAD_COLOR)


def put_turned(picture):
    return np.ascontiguousarray(np.rot90(picture))


def put_crop(picture):
    return picture[30:-2, 25:-7]


def put_halved(picture):
    return downsample(picture, 2)


@pytest.mark.parametrize("change", [put_whole, put_flipped_as_jpeg, put_turned, put_crop, put_halved])
def test_validation_picture_in_the_training_set_is_found(diagnose, part, write_pair, change):
    write_pair("train", "innocent_name", np.ascontiguousarray(change(part("chelsea"))))
    found = of_level(diagnose(), "error")
    assert len(found) == 1, found
    assert "1 of 2 pictures of val" in found[0].message
    assert found[0].examples == ("val/gt/chelsea.png in train/gt/innocent_name.png",)


def test_pictures_of_a_further_folder_are_looked_for(diagnose, part):
    write_image(Path("benchmark/rocket.png"), part("rocket"))
    write_image(Path("benchmark/retina.png"), part("immunohistochemistry"))
    found = of_level(diagnose(against=(Path("benchmark"),)), "error")
    assert [finding.examples for finding in found] == [("benchmark/rocket.png in train/gt/rocket.png",)]


@pytest.mark.parametrize(
    ("message", "wrong", "remedy"),
    [
        ("a.png is cut off (8 bytes): copy it again", "a.png is cut off (8 bytes)", "copy it again"),
        ("none for a; there is b: set filename_tmpl: '{}'", "none for a", "there is b: set filename_tmpl: '{}'"),
        ("a.png cannot be decoded (OpenCV: no; at all)", "a.png cannot be decoded (OpenCV: no; at all)", ""),
    ],
)
def test_message_is_cut_before_its_remedy(message, wrong, remedy):
    assert remedy_apart(message) == (wrong, remedy)
