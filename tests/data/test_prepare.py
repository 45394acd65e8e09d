"""Jobs on folders: their results, rerunning, interruption, faults."""

import logging
import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from hriusr.data import lmdb_store, prepare, prepare_jobs
from hriusr.data.image_io import list_images, read_image, read_image_bytes, write_image
from hriusr.data.lmdb_store import lmdb_get, lmdb_keys
from hriusr.data.matlab_resize import downsample
from hriusr.data.output_folder import NOTE, OutputFolder
from hriusr.data.paired_image_dataset import PairedImageDataset
from hriusr.data.prepare import grid_offsets, prepare_bicubic, prepare_lmdb, prepare_meta_info, prepare_subimages
from hriusr.data.prepare_jobs import output_stems, run_job
from hriusr.errors import DataError
from tests.data.prepared import QUIET, age, counts


def contents(folder):
    return {path.name: path.read_bytes() for path in list_images(folder)}


# ---- LR


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lr_equals_the_official_set5(shared_data, tmp_path, scale):
    set5 = shared_data / "benchmarks" / "Set5"
    prepare_bicubic(set5 / "HR", tmp_path / "X", scale=scale, **QUIET)
    official = list_images(set5 / "LR_bicubic" / f"X{scale}")
    assert [path.name for path in list_images(tmp_path / "X")] == [path.name for path in official]
    for path in official:
        np.testing.assert_array_equal(read_image(tmp_path / "X" / path.name), read_image(path))


def test_lr_and_cropped_hr_are_a_pair(hr_folder, tmp_path):
    folders = {"dataroot_gt": tmp_path / "GTmod4", "dataroot_lq": tmp_path / "LRbicx4"}
    prepare_bicubic(
        hr_folder,
        folders["dataroot_lq"],
        scale=4,
        filename_tmpl="{}",
        cropped_hr_folder=folders["dataroot_gt"],
        **QUIET,
    )
    dataset = PairedImageDataset({"phase": "val", "scale": 4, **folders})
    assert dataset[0]["gt"].shape == (3, 60, 80)
    assert dataset[0]["lq"].shape == (3, 15, 20)
    np.testing.assert_array_equal(
        read_image(tmp_path / "GTmod4" / "coffee.png"), read_image(hr_folder / "coffee.png")[:60, :80]
    )


def test_several_processes_make_the_same(hr_folder, tmp_path):
    one = prepare_bicubic(hr_folder, tmp_path / "one", scale=2, **QUIET)
    two = prepare_bicubic(hr_folder, tmp_path / "two", scale=2, num_processes=2, progress=False)
    assert counts(one) == counts(two) == (3, 0)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


# ---- running again


def test_second_run_keeps_everything(hr_folder, tmp_path):
    make = lambda **changed: prepare_bicubic(hr_folder, tmp_path / "X2", **({"scale": 2} | QUIET | changed))  # noqa: E731
    assert counts(make()) == (3, 0)
    before = contents(tmp_path / "X2")
    assert counts(make()) == (0, 3)
    assert counts(make(overwrite=True)) == (3, 0)
    assert contents(tmp_path / "X2") == before
    assert str(make()) == f"{tmp_path / 'X2'}: 0 made, 3 kept"


@pytest.mark.parametrize("damage", ["cut off", "deleted", "other size", "no picture"])
def test_damaged_output_is_made_again(hr_folder, tmp_path, damage):
    prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)
    path = tmp_path / "X2" / "coffeex2.png"
    whole = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    elif damage == "other size":
        write_image(path, read_image(path)[1:])
    else:
        path.write_bytes(whole[:-20] if damage == "cut off" else b"rubbish")
    assert counts(prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)) == (1, 2)
    assert path.read_bytes() == whole


def test_changed_source_is_worked_on_again(hr_folder, tmp_path):
    prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)
    for path in (*list_images(tmp_path / "X2"), *list_images(hr_folder), tmp_path / "X2" / NOTE):
        age(path)
    write_image(hr_folder / "coffee.png", read_image(hr_folder / "coffee.png")[:, ::-1])
    assert counts(prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)) == (1, 2)
    expected = downsample(read_image(hr_folder / "coffee.png")[:60, :82], 2)
    np.testing.assert_array_equal(read_image(tmp_path / "X2" / "coffeex2.png"), expected)


def test_other_sources_of_the_same_names_are_worked_on(hr_folder, tmp_path):
    make = lambda folder: prepare_bicubic(folder, tmp_path / "X2", scale=2, **QUIET)  # noqa: E731
    others = tmp_path / "others"
    shutil.copytree(hr_folder, others)
    assert counts(make(hr_folder)) == (3, 0)
    assert counts(make(others)) == (0, 3)  # copies
    for path in list_images(others):
        write_image(path, read_image(path)[:, ::-1])
        age(path)
    shutil.copy2(others / "coffee.png", hr_folder)  # older than what was made of the one before
    assert counts(make(hr_folder)) == (1, 2)
    assert counts(make(hr_folder)) == (0, 3)
    assert counts(make(others)) == (2, 1)
    write_image(others / "new.png", read_image(others / "coffee.png"))
    assert counts(make(others)) == (1, 3)
    shutil.copytree(hr_folder, tmp_path / "again")
    for path in list_images(tmp_path / "again"):
        write_image(path, read_image(path)[::-1])
        age(path)
    assert counts(make(tmp_path / "again")) == (3, 0)
    for name in ("coffee", "chelsea"):
        hr_HWC = read_image(tmp_path / "again" / f"{name}.png")
        expected = downsample(hr_HWC[: len(hr_HWC) // 2 * 2, :82], 2)
        np.testing.assert_array_equal(read_image(tmp_path / "X2" / f"{name}x2.png"), expected)


def test_sources_replaced_before_an_interruption_are_worked_on_after_it(hr_folder, tmp_path, monkeypatch):
    make = lambda: prepare_subimages(hr_folder, tmp_path / "sub", crop_size=32, step=16, **QUIET)  # noqa: E731
    make()
    write_image(hr_folder / "coffee.png", read_image(hr_folder / "coffee.png")[:, ::-1])
    age(hr_folder / "coffee.png", seconds=10**6)
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "run_job", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make()
    assert counts(make()) == (15, 30)


def test_changed_options_make_everything_again_even_after_an_interruption(hr_folder, tmp_path, monkeypatch):
    cut = lambda **grid: prepare_subimages(hr_folder, tmp_path / "sub", crop_size=32, **grid, **QUIET)  # noqa: E731
    first = cut(step=16)
    for path in (*list_images(tmp_path / "sub"), tmp_path / "sub" / NOTE):
        age(path)
    # the second grid has fewer squares of the same names and size; it is interrupted after one picture
    real, calls = prepare._cut_subimages, []

    def interrupted(picture, **arguments):
        calls.append(picture)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(picture, **arguments)

    monkeypatch.setattr(prepare, "_cut_subimages", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cut(step=17)
    monkeypatch.setattr(prepare, "_cut_subimages", real)
    second = cut(step=17)
    assert second.num_kept > 0
    assert second.num_made > 0
    image = read_image(hr_folder / "coffee.png")
    np.testing.assert_array_equal(read_image(tmp_path / "sub" / "coffee_s002.png"), image[:32, 17:49])
    assert sum(counts(second)) <= first.num_made


def test_strangers_in_the_output_are_told(hr_folder, tmp_path, caplog):
    write_image(tmp_path / "X2" / "old.png", np.zeros((4, 4, 3), np.uint8))
    with caplog.at_level(logging.WARNING):
        prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)
    assert "1 pictures in" in caplog.text
    assert "first old.png" in caplog.text


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    ours, dead = tmp_path / f".a.png.{os.getpid()}.tmp", tmp_path / ".b.png.999999999.tmp"
    ours.write_bytes(b"")
    dead.write_bytes(b"")
    folder, other = tmp_path / ".x.lmdb.999999999.tmp", tmp_path / f".x.{10**25}.tmp"
    folder.mkdir()
    other.write_bytes(b"")
    OutputFolder.open(tmp_path, {}, [])
    assert folder.exists()
    assert other.exists()
    assert ours.exists()
    assert not dead.exists()


def _prepare_slowly(hr_folder, lr_folder):
    os.setsid()  # a group of its own: the signal goes to it and its workers, as from a terminal
    signal.signal(signal.SIGINT, signal.default_int_handler)
    prepare.downsample = lambda *arguments: time.sleep(0.05) or downsample(*arguments)
    sys.stderr = open(os.devnull, "w")
    prepare_bicubic(hr_folder, lr_folder, scale=2, num_processes=2)


@pytest.mark.parametrize("signal_name", ["SIGINT", "SIGKILL"])
def test_interrupted_run_leaves_whole_files_and_goes_on(tmp_path, signal_name):
    rng = np.random.default_rng(0)
    for number in range(40):
        write_image(tmp_path / "HR" / f"{number}.png", rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    arguments = (tmp_path / "HR", tmp_path / "X2")
    process = multiprocessing.get_context("fork").Process(target=_prepare_slowly, args=arguments)
    process.start()
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "X2").glob("*.png"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, getattr(signal, signal_name))
    process.join(30)
    assert process.exitcode not in (None, 0)
    made = [path for path in (tmp_path / "X2").iterdir() if path.suffix == ".png"]
    assert 4 <= len(made) < 40
    for path in made:
        assert read_image(path).shape == (32, 32, 3)
    result = prepare_bicubic(*arguments, scale=2, num_processes=2, progress=False)
    assert counts(result) == (40 - len(made), len(made))
    assert not list((tmp_path / "X2").glob(".*.tmp"))


# ---- sub-images


@pytest.mark.parametrize(
    ("length", "threshold", "expected"),
    [(480, 0, [0]), (960, 0, [0, 240, 480]), (979, 20, [0, 240, 480]), (479, 0, [])],
)
def test_grid_covers_a_side(length, threshold, expected):
    assert grid_offsets(length, 480, 240, threshold) == expected


def test_last_square_is_flush_with_the_border():
    assert grid_offsets(979, 480, 240, 0) == [0, 240, 480, 499]


def test_subimages_have_basicsrs_names_and_places(hr_folder, tmp_path):
    result = prepare_subimages(hr_folder, tmp_path / "sub", crop_size=32, step=16, **QUIET)
    image = read_image(hr_folder / "coffee.png")  # 61 x 83
    places = [(top, left) for top in (0, 16, 29) for left in (0, 16, 32, 48, 51)]
    for number, (top, left) in enumerate(places, 1):
        square = read_image(tmp_path / "sub" / f"coffee_s{number:03d}.png")
        np.testing.assert_array_equal(square, image[top : top + 32, left : left + 32])
    assert not (tmp_path / "sub" / "coffee_s016.png").exists()
    assert result.num_made == len(list_images(tmp_path / "sub")) == 45


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_squares_of_lr_lie_on_those_of_hr(hr_folder, tmp_path, scale):
    prepare_bicubic(hr_folder, tmp_path / "X", scale=scale, **QUIET)
    prepare_subimages(hr_folder, tmp_path / "HR_sub", crop_size=48, step=24, multiple=12, **QUIET)
    lr_grid = {"crop_size": 48 // scale, "step": 24 // scale, "multiple": 12 // scale}
    prepare_subimages(tmp_path / "X", tmp_path / "X_sub", filename_tmpl=f"{{}}x{scale}", **lr_grid, **QUIET)
    assert [path.name for path in list_images(tmp_path / "X_sub")] == [
        path.name for path in list_images(tmp_path / "HR_sub")
    ]
    for path in list_images(tmp_path / "HR_sub"):
        inner = slice(4, -4)  # a square does not know what lay beyond its border
        lr = read_image(tmp_path / "X_sub" / path.name)
        np.testing.assert_array_equal(lr[inner, inner], downsample(read_image(path), scale)[inner, inner])


def test_pictures_below_the_crop_size_are_left_out(hr_folder, tmp_path, caplog):
    result = prepare_subimages(hr_folder, tmp_path / "sub", crop_size=62, step=62, **QUIET)
    assert "1 of 3 pictures are smaller than crop_size (=62)" in caplog.text
    assert result.num_made == 2 + 4  # of chelsea 62x83 and astronaut 63x83
    with pytest.raises(DataError, match=r"as large as crop_size \(=480\)"):
        prepare_subimages(hr_folder, tmp_path / "large", **QUIET)


# ---- LMDB and meta info


def test_database_holds_the_pictures_and_is_kept_while_nothing_changes(hr_folder, tmp_path):
    prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, **QUIET)
    make = lambda **changed: prepare_lmdb(  # noqa: E731
        tmp_path / "X2", tmp_path / "X2.lmdb", filename_tmpl="{}x2", **(QUIET | changed)
    )
    assert counts(make(num_processes=2)) == (3, 0)
    assert lmdb_keys(tmp_path / "X2.lmdb") == ["astronaut", "chelsea", "coffee"]
    content = lmdb_get(tmp_path / "X2.lmdb", "coffee")
    np.testing.assert_array_equal(read_image_bytes(content, "x"), read_image(tmp_path / "X2" / "coffeex2.png"))
    assert counts(make()) == (0, 3)
    assert counts(make(overwrite=True)) == (3, 0)
    assert counts(make(compression=5)) == (3, 0)
    write_image(tmp_path / "X2" / "coffeex2.png", np.zeros((9, 9, 3), np.uint8))
    assert counts(make(compression=5)) == (3, 0)
    data = tmp_path / "X2.lmdb" / "data.mdb"
    data.write_bytes(data.read_bytes()[:5000])
    lmdb_store._open.cache_clear()
    assert counts(make(compression=5)) == (3, 0)


@pytest.mark.parametrize("damage", ["no list", "empty list", "other name", "no list of names", "pages"])
def test_damaged_database_is_made_again(hr_folder, tmp_path, damage):
    database = tmp_path / "x.lmdb"
    prepare_lmdb(hr_folder, database, **QUIET)
    meta_info, data = database / "meta_info.txt", database / "data.mdb"
    if damage == "no list":
        meta_info.unlink()
    elif damage == "pages":
        whole = data.read_bytes()
        data.write_bytes(whole[:8192] + bytes(len(whole) - 8192))
        lmdb_store._open.cache_clear()
        with pytest.raises(DataError, match=r"x\.lmdb is damaged inside .*--overwrite"):
            lmdb_get(database, "coffee")
    else:
        changed = {"empty list": "", "other name": meta_info.read_text().replace("coffee", "tea")}
        meta_info.write_text(changed.get(damage, "rubbish\n"))
    assert counts(prepare_lmdb(hr_folder, database, **QUIET)) == (3, 0)
    assert len(lmdb_get(database, "coffee")) > 1000
    assert counts(prepare_lmdb(hr_folder, database, **QUIET)) == (0, 3)


def test_16_bit_noise_fits_into_its_database(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(3):
        write_image(tmp_path / "HR" / f"{number}.png", rng.integers(0, 2**16, (600, 600, 3), dtype=np.uint16))
    assert counts(prepare_lmdb(tmp_path / "HR", tmp_path / "x.lmdb", **QUIET)) == (3, 0)


def test_meta_info_lists_names_and_sizes(hr_folder, tmp_path):
    assert counts(prepare_meta_info(hr_folder, tmp_path / "meta" / "list.txt")) == (3, 0)
    expected = "astronaut.png (63,83,3)\nchelsea.png (62,83,3)\ncoffee.png (61,83,3)\n"
    assert (tmp_path / "meta" / "list.txt").read_text() == expected
    prepare_meta_info(tmp_path, tmp_path / "all.txt", recursive=True)
    assert "HR/coffee.png (61,83,3)" in (tmp_path / "all.txt").read_text()


# ---- faults


@pytest.mark.parametrize("num_processes", [1, 2])
def test_one_bad_picture_is_named_and_the_others_are_made(hr_folder, tmp_path, num_processes):
    whole = (hr_folder / "chelsea.png").read_bytes()
    (hr_folder / "chelsea.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"chelsea\.png is cut off.*of the folder$"):
        prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, num_processes=num_processes, progress=False)
    assert {path.name for path in list_images(tmp_path / "X2")} == {"astronautx2.png", "coffeex2.png"}
    (hr_folder / "coffee.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"and 1 more of 3 pictures"):
        prepare_bicubic(hr_folder, tmp_path / "X2", scale=2, num_processes=num_processes, progress=False)
    with pytest.raises(DataError, match=r"chelsea|coffee"):
        prepare_lmdb(hr_folder, tmp_path / "x.lmdb", num_processes=num_processes, progress=False)
    assert not (tmp_path / "x.lmdb").exists()


def test_impossible_requests_say_the_remedy(hr_folder, tmp_path):
    a_file = tmp_path / "file"
    a_file.write_text("mine")
    for call, message in [
        (lambda: prepare_bicubic(tmp_path / "none", tmp_path / "X", scale=2, **QUIET), "does not exist"),
        (lambda: prepare_bicubic(hr_folder, tmp_path / "X", scale=0, **QUIET), "scale"),
        (lambda: prepare_bicubic(hr_folder, tmp_path / "X", scale=70, **QUIET), r"smaller than scale \(=70\)"),
        (lambda: prepare_bicubic(hr_folder, tmp_path / "X", scale=2, filename_tmpl="x", **QUIET), "must hold {}"),
        (lambda: prepare_bicubic(hr_folder, tmp_path / "X", scale=2, filename_tmpl="{}_{}", **QUIET), r"\{\} once"),
        (lambda: prepare_bicubic(hr_folder, tmp_path / "X", scale=2, filename_tmpl="{}{x}", **QUIET), r"\{\} once"),
        (lambda: prepare_bicubic(hr_folder, hr_folder, scale=2, **QUIET), "folder of the sources"),
        (
            lambda: prepare_bicubic(
                *(hr_folder, tmp_path / "X"), scale=2, cropped_hr_folder=tmp_path / "HR" / ".." / "X", **QUIET
            ),
            "X is to hold LR and the cropped HR: give each a folder of its own",
        ),
        (lambda: prepare_bicubic(hr_folder, a_file, scale=2, **QUIET), r"made at .*/file \(File exists\)"),
        (lambda: prepare_bicubic(hr_folder, a_file / "X", scale=2, **QUIET), r"made at .*/file/X \(Not a directory\)"),
        (lambda: prepare_lmdb(hr_folder, a_file / "x.lmdb", **QUIET), r"cannot write .*/file/x\.lmdb"),
        (lambda: prepare_subimages(hr_folder, tmp_path / "s", step=0, **QUIET), r"step \(=0\)"),
        (lambda: prepare_subimages(hr_folder, tmp_path / "s", filename_tmpl="{}x2", **QUIET), "not named like"),
        (lambda: prepare_lmdb(hr_folder, tmp_path / "x", **QUIET), r"must be named \.lmdb"),
        (lambda: output_stems([Path("a.png"), Path("a.jpg")]), r"a\.png and a\.jpg would get the same name"),
    ]:
        with pytest.raises(DataError, match=message):
            call()


def _die(_):
    os._exit(1)


def _square(number):
    return number * number


def test_killed_process_is_one_line():
    with pytest.raises(DataError, match=r"a process was killed.*fewer processes"):
        list(run_job("x", _die, [1, 2, 3], num_processes=2, progress=False))


def test_results_come_in_order_and_a_bar_is_shown(capfd):
    assert list(run_job("squares", _square, range(30), num_processes=2)) == [_square(number) for number in range(30)]
    captured = capfd.readouterr()
    assert "squares" in captured.err
    assert not captured.out
    assert list(run_job("squares", _square, [], progress=False)) == []
    assert prepare_jobs.num_cores() >= 1
