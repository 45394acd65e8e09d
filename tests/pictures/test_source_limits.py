"""What a picture's header is enough for, and what its result cannot keep."""

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageFile
from PIL.ExifTags import GPS, IFD, Base

from hriusr.errors import DataError
from hriusr.pictures.encoder import encode_picture
from hriusr.pictures.metadata import PictureMetadata
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


def test_frames_of_a_png_that_are_left_out_are_noted(tmp_path):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (1, 99, 200)]
    frames[0].save(tmp_path / "still.png")
    frames[0].save(tmp_path / "moving.png", save_all=True, append_images=frames[1:])
    with open_source(tmp_path / "still.png") as source:
        assert source.notes == ()
    with open_source(tmp_path / "moving.png") as source:
        (note,) = source.notes
        assert note.startswith("only the first of 3 frames is taken: save the animation as WebP")
        assert source.read_rows(0, 20).max() == 1


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


@pytest.mark.parametrize("target", ["b.tif", "b.jpg", "b.png", "b.webp"])
@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_exif_goes_into_tiffs_and_out_of_them(tmp_path, name, target):
    texts = {
        Base.Make: "Maker",
        Base.Model: "M",
        Base.DateTime: "2020:01:01 00:00:00",
        Base.Artist: "Zoë".encode().decode("latin-1"),
    }
    exif = Image.Exif()
    exif.update(texts | {Base.Orientation: 1})
    exif[IFD.Exif] = {Base.DateTimeOriginal: "2019:01:01 00:00:00", Base.ExposureTime: 0.125, Base.ExifImageWidth: 12}
    exif[IFD.GPSInfo] = {GPS.GPSLatitude: (47.0, 22.0, 8.5)}
    read = Image.Exif()
    read.load(exif.tobytes())  # else Pillow loses the directories in a TIFF
    read[Base.Artist] = "Zoë".encode()  # which Pillow reads as Latin-1
    Image.fromarray(np.full((8, 12, 3), 50, np.uint8)).save(tmp_path / name, exif=read)
    with open_source(tmp_path / name) as source:
        rows = source.read_rows(0, source.height)
        rows.tofile(tmp_path / "raw")
        encode_picture(tmp_path / "raw", (1, *rows.shape), rows.dtype, source.metadata, tmp_path / target)
    with Image.open(tmp_path / target) as result:
        told = result.getexif()
        assert {tag: told.get(tag) for tag in texts} == texts
        assert told.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "2019:01:01 00:00:00"
        assert float(told.get_ifd(IFD.Exif)[Base.ExposureTime]) == 0.125
        assert tuple(map(float, told.get_ifd(IFD.GPSInfo)[GPS.GPSLatitude])) == (47.0, 22.0, 8.5)
        if target == "b.tif":
            assert Base.ExifImageWidth not in told.get_ifd(IFD.Exif)
    if target == "b.tif":
        assert np.array_equal(tifffile.imread(tmp_path / target), rows)


def test_exif_of_several_pages_or_damaged_does_no_harm(tmp_path, caplog):
    exif = Image.Exif()
    exif[Base.Make] = "Maker"
    pages = np.random.default_rng(0).integers(0, 255, (3, 8, 12, 3), dtype=np.uint8)
    pages.tofile(tmp_path / "raw")
    for data, make in ((b"Exif\0\0" + exif.tobytes().removeprefix(b"Exif\0\0"), "Maker"), (b"Exif\0\0nonsense", None)):
        metadata = PictureMetadata({"exif-data": data})
        encode_picture(tmp_path / "raw", pages.shape, pages.dtype, metadata, tmp_path / "a.tif")
        assert np.array_equal(tifffile.imread(tmp_path / "a.tif"), pages)
        with Image.open(tmp_path / "a.tif") as result:
            assert result.getexif().get(Base.Make) == make
        assert ("EXIF is left out" in caplog.text) == (make is None)


@pytest.mark.parametrize("target", ["b.tif", "b.png", "b.webp", "b.jpg"])
def test_exif_of_more_than_64_kilobytes_does_no_harm_and_is_kept_in_tiff(tmp_path, target):
    note = np.random.default_rng(0).bytes(80_000)
    exif = Image.Exif()
    exif[Base.Make] = "Maker"
    exif[IFD.Exif] = {Base.MakerNote: note, Base.DateTimeOriginal: "2019:01:01 00:00:00"}
    read = Image.Exif()
    read.load(exif.tobytes())  # else Pillow loses the directory in a TIFF
    Image.fromarray(np.full((8, 12, 3), 50, np.uint8)).save(tmp_path / "a.tif", exif=read)
    with open_source(tmp_path / "a.tif") as source:
        rows = source.read_rows(0, source.height)
        rows.tofile(tmp_path / "raw")
        encode_picture(tmp_path / "raw", (1, *rows.shape), rows.dtype, source.metadata, tmp_path / target)
    with Image.open(tmp_path / target) as result:
        assert np.abs(np.array(result).astype(int) - 50).max() <= 1
        told = result.getexif()
        assert told[Base.Make] == "Maker"
        assert told.get_ifd(IFD.Exif)[Base.DateTimeOriginal] == "2019:01:01 00:00:00"
        # elsewhere libexif writes it, which leaves out single values of that size
        assert told.get_ifd(IFD.Exif).get(Base.MakerNote) == (note if target == "b.tif" else None)


def test_exif_that_cannot_be_carried_over_does_not_keep_a_picture_from_being_read(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[Base.Make] = "Maker"
    Image.fromarray(np.full((8, 12, 3), 50, np.uint8)).save(tmp_path / "a.tif", exif=exif)

    def fail(kept):
        raise ValueError("EXIF data is too long")

    monkeypatch.setattr("hriusr.pictures.tiff_exif._as_vips_reads_it", fail)
    with open_source(tmp_path / "a.tif") as source:
        assert "exif-data" not in source.metadata.fields
        assert source.read_rows(0, 8).max() == 50
