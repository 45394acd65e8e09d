"""Which picture becomes which file."""

from pathlib import Path

import pytest

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
    assert [job.replaces_input for job in job_list.jobs] == [True, False]


def test_output_folder_inside_the_input_folder_is_no_input(folder):
    source = folder("a.png", "out/a.png")
    job_list = plan_jobs(source, source / "out", scale=2)
    assert targets(job_list, source) == {"a.png": "out/a.png"}
    assert job_list.notes == [f"1 picture(s) in the output folder {source / 'out'} are not taken as input"]


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
        ("in/a.png", "out.gif", {}, OptionsError, r"\.gif is not a format to write: use one of \.png"),
        ("in", "out", {"extension": "gif"}, OptionsError, r"extension \(='\.gif'\) is not a format to write"),
        ("in/a.png", "out.tif", {"extension": "png"}, OptionsError, r"out\.tif and extension \.png contradict"),
    ],
)
def test_bad_input_and_output_are_named(folder, tmp_path, input_name, output_name, more, error, message):
    folder("a.png")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").write_text("text")
    with pytest.raises(error, match=message):
        plan_jobs(tmp_path / input_name, tmp_path / output_name, scale=2, **more)
