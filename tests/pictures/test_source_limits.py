"""What a picture's header is enough for, and what its result cannot keep."""

import numpy as np
import pytest
from PIL import Image, ImageFile

from hriusr.errors import DataError
from hriusr.pictures.source import count_pixels, open_source


@pytest.mark.parametrize("name", ["a.tga", "a.jp2", "a.ppm", "a.png", "a.bmp", "a.gif"])
def test_pixels_are_counted_by_the_header_alone(tmp_path, monkeypatch, name):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (1, 99)]
    frames[0].save(tmp_path / name, **({"save_all": True, "append_images": frames[1:]} if name == "a.gif" else {}))
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    num_pixels = 1200 if name == "a.gif" else 600
    assert count_pixels(tmp_path / name, max_pixels=num_pixels) == num_pixels
    with pytest.raises(DataError, match=f"more than max_pixels \\(={num_pixels - 1}\\)"):
        count_pixels(tmp_path / name, max_pixels=num_pixels - 1)


def test_frames_of_a_png_that_are_left_out_are_noted(tmp_path, caplog):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (1, 99, 200)]
    frames[0].save(tmp_path / "still.png")
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    with open_source(tmp_path / "still.png") as source:
        assert source.notes == ()
    with open_source(tmp_path / "moving.png") as source:
        (note,) = source.notes
        assert note.startswith("only the first of 3 frames is taken: save the animation as WebP")
        assert source.read_rows(0, 20).max() == 1
    assert caplog.text.count(note) == 1
