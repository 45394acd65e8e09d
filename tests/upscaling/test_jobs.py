"""Which picture becomes which file."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hriusr.errors import DataError, OptionsError
from hriusr.upscaling.jobs import plan_jobs


@pytest.fixture
def folder(tmp_path):
    def make(*names):
        for name in names:
            path = tmp_path / "in" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"picture")
        return tmp_path / "in"

    return make


def targets(job_list, root: Path):
    return {job.name: job.target.relative_to(root).as_posix() for job in job_list.jobs}


def test_structure_is_kept_order_is_natural_lossy_becomes_png(folder, tmp_path):
    source = folder("10.png", "2.jpg", "sub/deep/3.tif", "note.txt")
    job_list = plan_jobs(source, tmp_path / "out", scale=2)
    assert list(targets(job_list, tmp_path / "out").items()) == [
        ("2.jpg", "2.png"),
        ("10.png", "10.png"),
        ("sub/deep/3.tif", "sub/deep/3.tif"),
    ]
    assert [job.name for job in plan_jobs(source, tmp_path / "out", scale=2, recursive=False).jobs] == [
        "2.jpg",
        "10.png",
    ]


def test_default_output_lies_beside_the_input(folder, tmp_path):
    source = folder("a.png", "b.jpg")
    assert targets(plan_jobs(source, None, scale=3), tmp_path) == {"a.png": "in_x3/a.png", "b.jpg": "in_x3/b.png"}
    assert plan_jobs(source / "b.jpg", None, scale=3).jobs[0].target == source / "b_x3.png"


def test_suffix_and_extension_have_effect(folder, tmp_path):
    source = folder("a.png")
    job_list = plan_jobs(source, tmp_path / "out", scale=2, suffix="_big", extension="JPG")
    assert targets(job_list, tmp_path) == {"a.png": "out/a_big.jpg"}


@pytest.mark.parametrize(
    ("output", "expected"),
    [("r.tif", "r.tif"), ("new", "new/a.png"), ("results.v2", "results.v2/a.png"), ("in", "in/a_x2.png")],
)
def test_output_of_one_picture_is_a_file_or_a_folder(folder, tmp_path, output, expected):
    source = folder("a.jpg") / "a.jpg"
    assert plan_jobs(source, tmp_path / output, scale=2).jobs[0].target == tmp_path / expected


def test_output_that_may_be_a_misspelt_file_is_told_to_be_a_folder(folder, tmp_path):
    source = folder("a.png") / "a.png"
    job_list = plan_jobs(source, tmp_path / "b.jpgg", scale=2)
    assert job_list.jobs[0].target == tmp_path / "b.jpgg" / "a.png"
    assert job_list.notes == [f"{tmp_path / 'b.jpgg'} is taken for a folder: .jpgg is no format to write"]
    assert plan_jobs(source, tmp_path / "b", scale=2).notes == []


def test_colliding_names_are_told_apart(folder, tmp_path):
    source = folder("a.jpg", "a.png", "a.bmp", "a_jpg.png", "b.png")
    job_list = plan_jobs(source, tmp_path, scale=2, extension="png")
    assert targets(job_list, tmp_path) == {
        "a.bmp": "a_bmp.png",
        "a.jpg": "a_jpg_2.png",
        "a.png": "a_png.png",
        "a_jpg.png": "a_jpg.png",
        "b.png": "b.png",
    }
    assert "a.bmp becomes a_bmp.png: a.jpg, a.png would give the same name" in job_list.notes


def test_results_of_an_earlier_run_in_the_same_folder_are_left_out(folder):
    source = folder("a.png", "a_x2.png", "b.png")
    job_list = plan_jobs(source, source, scale=2)
    assert targets(job_list, source) == {"a.png": "a_x2.png", "b.png": "b_x2.png"}
    assert job_list.notes == ["a_x2.png is left out: it has the name of a.png's result"]
    assert [job.replaces_input for job in job_list.jobs] == [False, False]


def test_results_beside_their_sources_are_left_out_wherever_these_go(folder, tmp_path):
    source = folder("a.jpg", "a_x2.png", "a_x4.png", "b.png")
    for output, suffix in ((None, None), (tmp_path / "o", ""), (tmp_path / "o", "_big")):
        job_list = plan_jobs(source, output, scale=2, suffix=suffix)
        assert [job.name for job in job_list.jobs] == ["a.jpg", "a_x4.png", "b.png"]
        assert job_list.notes == ["a_x2.png is left out: it has the name of a.jpg's result"]
    both = folder("c/a.jpg", "c/a.png") / "c"
    assert len(plan_jobs(both, tmp_path / "o", scale=2, suffix="", extension="png").jobs) == 2


def test_renamed_results_of_an_earlier_run_are_left_out_too(folder):
    source = folder("a.jpg", "a.png")
    expected = {"a.jpg": "a_x2_jpg.png", "a.png": "a_x2_png.png"}
    assert targets(plan_jobs(source / "*", None, scale=2), source) == expected
    job_list = plan_jobs(folder(*expected.values()) / "*", None, scale=2)
    assert targets(job_list, source) == expected
    assert not any(job.replaces_input for job in job_list.jobs)


def test_output_folder_inside_the_input_folder_is_no_input(folder):
    source = folder("a.png", "out/a.png")
    job_list = plan_jobs(source, source / "out", scale=2)
    assert targets(job_list, source) == {"a.png": "out/a.png"}
    assert job_list.notes == [f"1 picture(s) in the output folder {source / 'out'} are not taken as input"]
    assert not job_list.jobs[0].replaces_input


def test_result_that_is_another_input_is_marked(folder, tmp_path):
    source = folder("a.png", "in/a.png")
    job_list = plan_jobs(source, tmp_path, scale=2)
    assert {job.name: job.replaces_input for job in job_list.jobs} == {"a.png": False, "in/a.png": True}


def test_own_source_is_never_the_result(folder):
    source = folder("a.png")
    for input_path, output in ((source, source), (source / "a.png", source / "a.png"), (source / "a.png", source)):
        with pytest.raises(OptionsError, match=r"would replace its own source .*a\.png: choose another output"):
            plan_jobs(input_path, output, scale=2, suffix="")


@pytest.mark.parametrize(
    ("input_name", "output_name", "more", "error", "message"),
    [
        ("missing", "out", {}, DataError, "missing does not exist: check the path"),
        ("empty", "out", {}, DataError, "empty holds no picture"),
        ("in", "file.txt", {}, DataError, "file.txt is a file, the input .* a folder: name a folder"),
        ("in/a.png", "file.txt", {}, DataError, "file.txt is a file without a picture's extension"),
        ("in/a.png", "out.psd", {}, OptionsError, r"\.psd is not a format to write: use one of \.png"),
        ("in/a.png", "out.mp4", {}, OptionsError, r"\.mp4 is not a format to write: use one of \.png"),
        ("in/a.mp4", "out.png", {}, OptionsError, r"\.png is not a format to write: use one of \.mp4"),
        ("in", "out.png", {}, DataError, r"out.png is a file, the input .*in a folder: name a folder"),
        ("in/*.png", "out.png", {}, DataError, "out.png is a file, there are several inputs: name a folder"),
        ("in/*.jpg", "out", {}, DataError, r"in/\*\.jpg matches no picture or video: check the pattern"),
        ("in", "out", {"extension": "psd"}, OptionsError, r"extension \(='\.psd'\) is not a format to write"),
        ("in/a.png", "out.tif", {"extension": "png"}, OptionsError, r"out\.tif and extension \.png contradict"),
    ],
)
def test_bad_input_and_output_are_named(folder, tmp_path, input_name, output_name, more, error, message):
    folder("a.png", "b.png", "a.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    with pytest.raises(error, match=message):
        plan_jobs(tmp_path / input_name, tmp_path / output_name, scale=2, **more)


def test_pattern_keeps_the_structure_below_its_fixed_part(folder, tmp_path):
    source = folder("a.png", "b.jpg", "x/a.png", "x/y/c.png", "note.txt")
    assert targets(plan_jobs(source / "*.png", tmp_path / "out", scale=2), tmp_path) == {"a.png": "out/a.png"}
    assert targets(plan_jobs(f"{source}/**/*.png", tmp_path / "out", scale=2), tmp_path / "out") == {
        "a.png": "a.png",
        "x/a.png": "x/a.png",
        "x/y/c.png": "x/y/c.png",
    }
    assert targets(plan_jobs(source / "[ab].*", None, scale=2), source) == {"a.png": "a_x2.png", "b.jpg": "b_x2.png"}
    assert targets(plan_jobs(tmp_path / "i?", tmp_path / "out", scale=2, recursive=False), tmp_path / "out") == {
        "in/a.png": "in/a.png",
        "in/b.jpg": "in/b.png",
    }


def test_folders_whose_names_look_like_patterns_are_folders(folder, tmp_path):
    photos = folder("ph [2020]/a*/1.png") / "ph [2020]"
    (job,) = plan_jobs(photos / "a*" / "*.png", tmp_path / "out", scale=2).jobs
    assert job.target == tmp_path / "out" / "1.png"
    (job,) = plan_jobs(photos / "[a-z]*" / "*.png", tmp_path / "out", scale=2).jobs
    assert job.name == "a*/1.png"
    with pytest.raises(DataError, match=r"2\.png does not exist"):
        plan_jobs(photos / "2.png", tmp_path / "out", scale=2)


@pytest.mark.parametrize("pattern", ["sh/**/raw", "sh/*/raw", "sh/**", "sh/**/*"])
def test_folders_that_a_pattern_matches_stand_for_their_pictures(folder, tmp_path, pattern):
    root = folder("sh/a/raw/1.png", "sh/b/raw/deep/2.png")
    jobs = plan_jobs(root / pattern, tmp_path / "out", scale=2).jobs
    assert [job.name for job in jobs] == ["a/raw/1.png", "b/raw/deep/2.png"]


def test_linked_folders_that_are_passed_over_are_told_once(folder, tmp_path, caplog):
    (folder("a.png") / "linked").symlink_to(tmp_path, target_is_directory=True)
    for _ in range(2):
        plan_jobs(tmp_path / "in", tmp_path / "out", scale=2)
    assert caplog.text.count("linked is a link and is passed over") == 1


def test_file_whose_name_looks_like_a_pattern_is_a_file(folder, tmp_path):
    source = folder("a[1].png", "a1.png")
    assert targets(plan_jobs(source / "a[1].png", tmp_path / "out", scale=2), tmp_path) == {"a[1].png": "out/a[1].png"}


def test_several_inputs_are_told_apart_by_their_folders(folder, tmp_path):
    source = folder("p/1.png", "p/s/2.png", "q/1.png", "r/1.png")
    job_list = plan_jobs(
        [source / "p", source / "q", source / "r" / "1.png", source / "p" / "1.png"], tmp_path, scale=2
    )
    assert [job.target.relative_to(tmp_path).as_posix() for job in job_list.jobs] == [
        "p/1.png",
        "p/s/2.png",
        "q/1.png",
        "1.png",
    ]
    beside = plan_jobs([source / "p", source / "r" / "1.png"], None, scale=2)
    assert [job.target.relative_to(source).as_posix() for job in beside.jobs] == [
        "p_x2/1.png",
        "p_x2/s/2.png",
        "r/1_x2.png",
    ]


def test_pattern_that_a_shell_has_expanded_leaves_out_earlier_results(folder):
    source = folder("a.png", "a_x2.png", "b.png")
    job_list = plan_jobs(sorted(source.iterdir()), None, scale=2)
    assert [job.target.name for job in job_list.jobs] == ["a_x2.png", "b_x2.png"]
    assert job_list.notes == [f"{source}/a_x2.png is left out: it has the name of {source}/a.png's result"]


def test_what_is_missing_among_several_inputs_is_a_problem_and_the_rest_is_done(folder, tmp_path):
    source = folder("a.png", "empty/note.txt")
    inputs = [source / "a.png", source / "no.png", source / "empty", source / "*.tif"]
    job_list = plan_jobs(inputs, tmp_path / "out", scale=2)
    assert [job.target.name for job in job_list.jobs] == ["a.png"]
    assert job_list.problems == [
        (f"{source}/no.png", "does not exist: check the path"),
        (f"folder {source}/empty", "holds no picture or video: check the path, or put some there"),
        (f"{source}/*.tif", "matches no picture or video: check the pattern"),
    ]


def test_names_of_results_do_not_depend_on_what_is_there(folder, tmp_path):
    source = folder("a/1.png", "b/note.txt")
    found = []
    for _ in range(2):
        job_list = plan_jobs([source / "a", source / "b"], tmp_path / "out", scale=2)
        found.append(job_list.jobs[0].target.relative_to(tmp_path).as_posix())
        folder("b/2.png")
    assert found == ["out/a/1.png"] * 2
    with pytest.raises(DataError, match="is a file, there are several inputs"):
        plan_jobs([source / "a" / "1.png", source / "no.png"], tmp_path / "one.png", scale=2)


def test_folder_that_cannot_be_read_is_a_problem_and_the_rest_is_done(folder, tmp_path, monkeypatch):
    source, scan = folder("a.png", "locked/b.png"), os.scandir

    def locked(path):
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", locked)  # root may read everything
    job_list = plan_jobs(source, tmp_path / "out", scale=2)
    assert [job.name for job in job_list.jobs] == ["a.png"]
    assert job_list.problems == [
        (f"folder {source}/locked", "cannot be read (Permission denied): check its permissions")
    ]
    with pytest.raises(DataError, match="locked cannot be read"):
        plan_jobs(source / "locked", tmp_path / "out", scale=2)


def test_animations_and_videos_of_a_folder_are_found(folder, tmp_path):
    source = folder("b.mp4", "c.avi", "d.webm", "e.heic")
    frames = [Image.fromarray(np.full((4, 4), value, np.uint8)) for value in (0, 99)]
    frames[0].save(source / "moving.gif", save_all=True, append_images=frames[1:])
    frames[0].save(source / "still.gif")
    job_list = plan_jobs(source, tmp_path, scale=2)
    assert {job.source.name: (job.target.name, job.is_video) for job in job_list.jobs} == {
        "b.mp4": ("b.mp4", True),
        "c.avi": ("c.mkv", True),
        "d.webm": ("d.webm", True),
        "moving.gif": ("moving.gif", False),
        "still.gif": ("still.png", False),
    }
    assert {job.target.suffix for job in plan_jobs(source, tmp_path, scale=2, extension="webp").jobs} == {
        ".mp4",
        ".mkv",
        ".webm",
        ".webp",
    }
    assert {job.target.suffix for job in plan_jobs(source, tmp_path, scale=2, extension="mov").jobs} == {
        ".mov",
        ".gif",
        ".png",
    }


@pytest.mark.parametrize(
    ("settings", "name"),
    [({"scale": 3.7}, "a_x3.7.png"), ({"scale": 2.0}, "a_x2.png"), ({"scale": 2, "mark": "w4096"}, "a_w4096.png")],
)
def test_default_names_say_the_size(folder, settings, name):
    assert plan_jobs(folder("a.png") / "a.png", None, **settings).jobs[0].target.name == name
