"""What a picture's header is enough for, and what its result cannot keep."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile
from PIL.ExifTags import Base

from hriusr.errors import DataError
from hriusr.pictures.encoder import encode_picture
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


@pytest.mark.parametrize(("dtype", "photometric"), [("float64", "minisblack"), ("float64", "rgb"), ("uint8", "cielab")])
def test_kinds_that_cannot_be_read_are_not_called_damaged(tmp_path, dtype, photometric):
    shape = (9, 13) if photometric == "minisblack" else (9, 13, 3)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros(shape, dtype), photometric=photometric)
    with pytest.raises(DataError, match=r"is of a kind that cannot be read \(.*\): save it as RGB or grey"):
        open_source(tmp_path / "a.tif")


@pytest.mark.parametrize(("orientation", "dpi"), [(1, (300, 200)), (3, (300, 200)), (6, (200, 300)), (8, (200, 300))])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_resolution_turns_with_the_picture(tmp_path, orientation, dpi, suffix):
    exif = Image.Exif()
    exif.update({Base.Orientation: orientation, Base.XResolution: 300.0, Base.YResolution: 200.0})
    exif[Base.ResolutionUnit] = 2
    Image.fromarray(np.zeros((8, 12, 3), np.uint8)).save(tmp_path / "a.jpg", exif=exif, dpi=(300, 200))
    with open_source(tmp_path / "a.jpg") as source:
        rows = source.read_rows(0, source.height)
        rows.tofile(tmp_path / "raw")
        encode_picture(tmp_path / "raw", (1, *rows.shape), rows.dtype, source.metadata, tmp_path / f"b{suffix}")
    with Image.open(tmp_path / f"b{suffix}") as result:
        told = result.getexif()
        assert (told[Base.XResolution], told[Base.YResolution]) == pytest.approx(dpi)
