"""Results whose names are long, or those of inputs: said for one picture, and the others are done."""

import errno
import os

import numpy as np
import pytest

from hriusr.atomic_file import hidden_beside, write_atomically
from hriusr.data.image_io import read_image, write_image
from hriusr.upscaling.canvas import Canvas
from hriusr.upscaling.job_runner import unfinished_notes
from hriusr.upscaling.jobs import Job
from hriusr.upscaling.upscale import upscale_path
from tests.upscaling.nearest_network import Nearest

LONG = "ä" * 123 + "abc.png"  # 253 bytes of 255


@pytest.fixture
def picture():
    return np.random.default_rng(0).integers(0, 255, (9, 9, 3), np.uint8)


def test_the_longest_name_is_written(tmp_path, picture):
    write_image(tmp_path / "a.png", picture)
    report = upscale_path(tmp_path / "a.png", tmp_path / "out" / LONG, network=Nearest())
    assert not report.failures
    assert os.listdir(tmp_path / "out") == [LONG]
    assert np.array_equal(read_image(tmp_path / "out" / LONG)[::2, ::2], picture)


def test_a_name_that_is_too_long_does_not_end_the_batch(tmp_path, picture):
    for name in (LONG, "z.png"):
        write_image(tmp_path / name, picture)
    report = upscale_path([tmp_path / LONG, tmp_path / "z.png"], tmp_path / "out", suffix="_x2", network=Nearest())
    assert [outcome.status for outcome in report.outcomes] == ["failed", "written"]
    assert os.strerror(errno.ENAMETOOLONG) in report.failures[0].reason
    assert report.failures[0].notes == ()


@pytest.mark.parametrize("bad", ["n" * 300 + ".png", "n" * 300, "loop.png", "loop/a.png"])
def test_inputs_that_cannot_be_looked_up_get_a_line(tmp_path, picture, bad):
    write_image(tmp_path / "z.png", picture)
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "loop").symlink_to("loop")
    report = upscale_path([tmp_path / bad, tmp_path / "z.png"], tmp_path / "out", network=Nearest())
    assert sorted(outcome.status for outcome in report.outcomes) == ["failed", "written"]
    assert "cannot be read (" in report.failures[0].reason


def test_a_folder_that_may_not_be_entered_gets_a_line(tmp_path, picture, monkeypatch):
    def locked(call):
        def refuse(path, *args, **settings):
            if "locked" in str(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            return call(path, *args, **settings)

        return refuse

    write_image(tmp_path / "z.png", picture)
    monkeypatch.setattr(os, "stat", locked(os.stat))  # root may look everywhere
    monkeypatch.setattr(os, "lstat", locked(os.lstat))
    inputs = [tmp_path / "locked" / "a.png", tmp_path / "z.png"]
    report = upscale_path(inputs, tmp_path / "out", network=Nearest())
    assert [outcome.status for outcome in report.outcomes] == ["failed", "written"]
    assert report.failures[0].reason == "cannot be read (Permission denied): check its name and permissions"
    report = upscale_path(tmp_path / "z.png", tmp_path / "locked" / "out", network=Nearest())
    assert "cannot " in report.failures[0].reason


@pytest.mark.parametrize(
    ("output", "num_inputs"),
    [("n" * 300, 1), ("n" * 300, 2), ("n" * 300 + ".png", 1), ("loop", 1), ("loop", 2), ("loop/b.png", 1)],
)
def test_outputs_that_cannot_be_made_get_a_line(tmp_path, picture, output, num_inputs):
    inputs = [tmp_path / name for name in ("a.png", "b.png")[:num_inputs]]
    for path in inputs:
        write_image(path, picture)
    (tmp_path / "loop").symlink_to("loop")
    report = upscale_path(inputs, tmp_path / output, network=Nearest())
    assert [outcome.status for outcome in report.outcomes] == ["failed"] * num_inputs
    assert "cannot " in report.failures[0].reason


def test_hidden_names_are_short_told_apart_and_say_the_process(tmp_path):
    assert hidden_beside(tmp_path / "a.png", ".hriusr").name == ".a.png.hriusr"
    endings = (".hriusr", f".{os.getpid()}.tmp")
    for ending in endings:
        names = {hidden_beside(tmp_path / (letter + LONG[1:]), ending).name for letter in "xy"}
        assert len(names) == 2
        for name in names:
            assert len(os.fsencode(name)) <= 255
            assert name.startswith(".")
            assert name.endswith(ending)
    write_atomically(tmp_path / LONG, b"1")
    assert (tmp_path / LONG).read_bytes() == b"1"


def test_nobody_is_told_to_remove_an_input(tmp_path, picture):
    for folder, name in (("a", "x.jpg"), ("b", "x.png")):
        write_image(tmp_path / folder / name, picture)
    report = upscale_path([tmp_path / "a" / "x.jpg", tmp_path / "b"], tmp_path / "b", network=Nearest())
    assert not any("remove it" in outcome.reason for outcome in report.outcomes)
    assert np.array_equal(read_image(tmp_path / "b" / "x.png"), picture)


def test_rows_are_said_to_be_kept_only_where_some_are(tmp_path):
    job = Job(tmp_path / "a.png", tmp_path / "b.png", "a.png")
    with Canvas(job.target, (1, 18, 18, 3), np.uint8, {}) as canvas:
        assert unfinished_notes(job) == ()
        canvas.checkpoint(0, 1, None)
        assert len(unfinished_notes(job)) == 1
    assert unfinished_notes(Job(job.source, tmp_path / ("x" * 300), "a.png")) == ()
