"""Rows of a picture equal what Pillow, OpenCV and tifffile decode."""

import io
import os
import struct

import cv2
import numpy as np
import pytest
import pyvips
import tifffile
from PIL import Image, ImageCms

from hriusr.errors import DataError, HriusrError
from hriusr.pictures import source as source_module
from hriusr.pictures.encoder import encode_picture
from hriusr.pictures.metadata import PictureMetadata
from hriusr.pictures.source import open_source


def noise(shape, dtype=np.uint8):
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape, dtype=np.float32)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def rows_of(path, frame=0):
    with open_source(path) as source:
        rows = source.read_rows(0, source.height, frame)
        assert rows.shape == (source.height, source.width, source.num_colours + source.has_alpha)
        assert rows.dtype == source.dtype
        return rows.copy()


def smooth():
    """Return colours that JPEG and CMYK hardly change."""
    y, x = np.mgrid[:32, :48]
    return np.stack([40 + 4 * x, 60 + 5 * y, 200 - 2 * x - y], axis=2).clip(0, 255).astype(np.uint8)


COLOUR, COLOUR_ALPHA, GREY, GREY_ALPHA = noise((9, 13, 3)), noise((9, 13, 4)), noise((9, 13, 1)), noise((9, 13, 2))
BIT = GREY[..., 0] > 99
PALETTE = Image.fromarray(COLOUR).quantize(8)


@pytest.mark.parametrize(
    ("name", "image", "settings"),
    [
        *((f"a{suffix}", COLOUR, {}) for suffix in (".png", ".bmp", ".tif", ".ppm", ".tga", ".jp2")),
        ("a.webp", COLOUR_ALPHA, {"lossless": True, "exact": True}),
        ("a.webp", COLOUR, {"lossless": True}),
        *((f"a{suffix}", COLOUR_ALPHA, {}) for suffix in (".png", ".tif", ".tga")),
        *((f"a{suffix}", GREY[..., 0], {}) for suffix in (".png", ".bmp", ".tif", ".pgm")),
        ("odd.bmp", COLOUR[:7, :5], {}),
        *((f"a{suffix}", GREY_ALPHA, {}) for suffix in (".png", ".tif")),
        *((f"a{suffix}", BIT, {}) for suffix in (".png", ".bmp", ".tif")),
        *((f"a{suffix}", PALETTE, {}) for suffix in (".png", ".bmp", ".tif", ".gif")),
        ("a.png", PALETTE, {"transparency": 3}),
        ("a.gif", PALETTE, {"transparency": 3}),
        ("a.png", COLOUR, {"transparency": tuple(int(v) for v in COLOUR[0, 0])}),
        *(("a.tif", COLOUR, {"compression": name}) for name in ("tiff_lzw", "tiff_deflate", "packbits")),
        ("a[page=7].png", COLOUR, {}),
        ("wrong name.jpg", COLOUR, {"format": "png"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_pixels_equal_pillows(tmp_path, name, image, settings):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(tmp_path / name, **settings)
    with Image.open(tmp_path / name) as reference:
        has_alpha = "transparency" in reference.info or reference.mode in ("LA", "RGBA")
        grey, colour = ("LA", "RGBA") if has_alpha else ("L", "RGB")
        expected = np.array(reference.convert(grey if reference.mode in ("1", "L", "LA") else colour))
    rows = rows_of(tmp_path / name)
    expected = expected.reshape(*expected.shape[:2], -1)
    assert rows.dtype == np.uint8
    visible = expected[..., -1] > 0 if has_alpha and image.mode == "P" else slice(None)
    assert np.array_equal(rows[visible], expected[visible])
    assert rows.shape == expected.shape


@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_png_of_16_bits_equals_opencvs(tmp_path, num_channels):
    pixels = noise((9, 13, num_channels), np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), pixels[..., [2, 1, 0, 3][:num_channels]] if num_channels > 1 else pixels)
    assert np.array_equal(rows_of(tmp_path / "a.png"), pixels)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize(
    ("num_channels", "settings"),
    [
        (1, {}),
        (3, {"photometric": "rgb"}),
        (3, {"photometric": "rgb", "tile": (16, 16)}),
        (3, {"photometric": "rgb", "planarconfig": "separate"}),
        (3, {"photometric": "rgb", "bigtiff": True}),
        (3, {"photometric": "rgb", "byteorder": ">"}),
        (4, {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
        (4, {"photometric": "rgb", "extrasamples": ["unspecified"]}),
        (2, {"photometric": "minisblack", "extrasamples": ["unassalpha"]}),
    ],
    ids=str,
)
def test_tiff_equals_tifffiles(tmp_path, dtype, num_channels, settings):
    pixels = noise((40, 53, num_channels), dtype)
    settings = {"planarconfig": "contig", **settings}
    stored = np.moveaxis(pixels, 2, 0) if settings["planarconfig"] == "separate" else pixels
    tifffile.imwrite(tmp_path / "a.tif", stored if num_channels > 1 else pixels[..., 0], **settings)
    assert np.array_equal(rows_of(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize(("num_channels", "photometric"), [(4, "rgb"), (2, "minisblack")])
@pytest.mark.parametrize("kind", ["unspecified", "unassalpha"])
def test_a_channel_that_may_be_something_else_than_opacity_is_told(tmp_path, num_channels, photometric, kind):
    pixels = noise((9, 13, num_channels), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric=photometric, planarconfig="contig", extrasamples=[kind])
    with open_source(tmp_path / "a.tif") as source:
        assert [note.startswith("its last channel is taken for opacity") for note in source.notes] == (
            [True] if kind == "unspecified" else []
        )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_colours_multiplied_by_alpha_are_divided_again(tmp_path, dtype):
    greatest = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = noise((9, 13, 4), dtype)
    pixels[..., 3] = np.maximum(pixels[..., 3], greatest / 4)
    multiplied = pixels[..., :3] * (pixels[..., 3:] / np.float64(greatest))
    multiplied = multiplied if dtype == np.float32 else multiplied.round()
    stored = np.concatenate([multiplied.astype(dtype), pixels[..., 3:]], axis=2)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", extrasamples=["assocalpha"])
    rows = rows_of(tmp_path / "a.tif")
    assert np.array_equal(rows[..., 3], pixels[..., 3])
    tolerance = 1e-6 if dtype == np.float32 else 3  # rounded twice, divided by a quarter
    assert np.abs(rows[..., :3].astype(float) - pixels[..., :3]).max() <= tolerance


def test_jpeg_equals_pillows_within_rounding(tmp_path):
    Image.fromarray(smooth()).save(tmp_path / "a.jpg", quality=90)
    difference = rows_of(tmp_path / "a.jpg").astype(int) - np.array(Image.open(tmp_path / "a.jpg"))
    assert np.abs(difference).max() <= 1
    Image.fromarray(smooth()[..., 0]).save(tmp_path / "b.jpg")
    assert rows_of(tmp_path / "b.jpg").shape == (32, 48, 1)


@pytest.mark.parametrize("has_profile", [True, False])
@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_srgb_as_little_cms_computes_it(tmp_path, suffix, has_profile):
    profile = pyvips.Operation.call("profile_load", "cmyk")  # a common one of presses, for files that have none
    profile = profile if isinstance(profile, bytes) else profile.get()
    path = tmp_path / f"a{suffix}"
    Image.fromarray(smooth()).convert("CMYK").save(path, **({"icc_profile": profile} if has_profile else {}))
    with open_source(path) as source:
        rows = source.read_rows(0, 32)
        result_profile = ImageCms.ImageCmsProfile(io.BytesIO(source.metadata.fields["icc-profile-data"]))
    with Image.open(path) as image:
        srgb, cmyk = ImageCms.createProfile("sRGB"), ImageCms.ImageCmsProfile(io.BytesIO(profile))
        intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
        expected = np.array(ImageCms.profileToProfile(image, cmyk, srgb, intent, outputMode="RGB"))
    assert np.abs(rows.astype(int) - expected).max() <= 4
    assert "sRGB" in ImageCms.getProfileDescription(result_profile)


def turned(pixels, orientation):
    """Turn stored pixels upright, EXIF 2.3 table 6."""
    pixels = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    pixels = pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels
    return pixels[::-1] if orientation in (3, 4, 7, 8) else pixels


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".jpg"])
def test_orientation_is_applied_and_reset(tmp_path, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Camera"
    path = tmp_path / f"a{suffix}"
    Image.fromarray(smooth()).save(path, exif=exif, **({"lossless": True} if suffix == ".webp" else {"quality": 100}))
    with open_source(path) as source:
        assert (source.height, source.width) == ((32, 48) if orientation < 5 else (48, 32))
        rows = source.read_rows(0, source.height).copy()
        stored = np.array(Image.open(path)) if suffix == ".jpg" else smooth()
        expected = turned(stored, orientation)
        assert np.abs(rows.astype(int) - expected).max() <= (1 if suffix == ".jpg" else 0)
        rows.tofile(tmp_path / "raw")
        encode_picture(tmp_path / "raw", (1, *rows.shape), rows.dtype, source.metadata, tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as result:
        assert result.getexif().get(0x0112, 1) == 1
        assert np.array_equal(np.array(result), rows)
        if suffix != ".tif":  # libvips does not read the other tags of a TIFF
            assert result.getexif()[0x010F] == "Camera"


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif"])
def test_profile_exif_xmp_and_resolution_are_kept(tmp_path, suffix):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">ours</x:xmpmeta>'
    source_path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).save(source_path, exif=exif, icc_profile=profile, dpi=(300, 300), xmp=xmp)
    with open_source(source_path) as source:
        source.read_rows(0, 32).tofile(tmp_path / "raw")
        encode_picture(
            tmp_path / "raw", (1, 32, 48, 3), np.uint8, source.metadata, tmp_path / f"b{suffix}", size=(64, 96)
        )
    with Image.open(tmp_path / f"b{suffix}") as result:
        assert result.size == (96, 64)
        assert result.info["icc_profile"] == profile
        if suffix != ".tif":
            assert result.getexif()[0x010F] == "Camera"
        assert b"ours" in (result.info.get("xmp") or result.info["XML:com.adobe.xmp"].encode())
        if suffix != ".webp":  # has no place for it but EXIF
            assert [round(float(value)) for value in result.info["dpi"]] == [300, 300]


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_frames_of_an_animation_are_whole_pictures(tmp_path, suffix):
    frames = [Image.fromarray(noise((6, 8, 3)) * 0 + value) for value in (0, 100, 255)]
    settings = {"lossless": True} if suffix == ".webp" else {}
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=[50, 100, 150], loop=0, **settings)
    with open_source(path) as source:
        assert (source.num_frames, source.height, source.width) == (3, 6, 8)
        assert [int(source.read_rows(2, 3, frame)[0, 0, 0]) for frame in (2, 0, 1)] == [255, 0, 100]
        assert source.metadata.fields["delay"] == [50, 100, 150]
        assert source.metadata.fields["loop"] == 0


def test_pages_of_a_tiff_are_frames_if_they_are_alike(tmp_path):
    pages = noise((3, 9, 13, 3))
    tifffile.imwrite(tmp_path / "a.tif", pages, photometric="rgb")
    with open_source(tmp_path / "a.tif") as source:
        assert np.array_equal(np.stack([source.read_rows(0, 9, page) for page in range(3)]), pages)
        assert "image-description" not in source.metadata.fields  # tifffile's shape of what it was
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(pages[0], photometric="rgb")
        writer.write(pages[0, :4], photometric="rgb")
    with open_source(tmp_path / "b.tif") as source:
        assert source.num_frames == 1
        assert source.notes == ("only the first of 2 pages is taken, they are of different kinds",)


@pytest.mark.parametrize("orientation", [1, 6])
def test_large_pictures_are_unpacked_to_a_scratch_file_without_a_name(tmp_path, monkeypatch, orientation):
    monkeypatch.setattr(source_module, "_IN_MEMORY", 100)
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = noise((40, 30, 3))
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    expected = turned(pixels, orientation)
    with open_source(tmp_path / "a.png", scratch_folder=tmp_path) as source:
        for start, stop in ((20, 30), (0, 7), (5, 5), (0, source.height), (29, 30)):
            assert np.array_equal(source.read_rows(start, stop), expected[start:stop])
        assert source._file is not None
        assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_scratch_folder_that_is_full_or_missing_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(source_module, "_IN_MEMORY", 100)
    Image.fromarray(COLOUR).save(tmp_path / "a.png")
    folders = [tmp_path / "missing"]
    with open_source(tmp_path / "a.png", scratch_folder=folders[0]) as source:
        with pytest.raises(HriusrError, match=r"a.png cannot be unpacked to .*missing .*No such file.*make room"):
            source.read_rows(0, 1)


def test_pixel_cap_is_checked_before_decoding_and_can_be_raised(tmp_path):
    Image.fromarray(np.zeros((1000, 1000), np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(np.zeros((1000, 1000), np.uint8)).save(tmp_path / "a.bmp")
    for path in (tmp_path / "a.png", tmp_path / "a.bmp"):
        with pytest.raises(
            DataError,
            match=r"unpacks to 1000x1000, 1000000 pixels, more than max_pixels \(=999999\): set max_pixels to 10+ if",
        ):
            open_source(path, max_pixels=999_999)
        for max_pixels in (1_000_000, None):
            with open_source(path, max_pixels=max_pixels) as source:
                assert source.width == 1000


def test_pixel_cap_counts_all_frames(tmp_path):
    frames = [Image.fromarray(np.full((10, 10), value, np.uint8)) for value in range(5)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="10x10 in 5 frames, 500 pixels"):
        open_source(tmp_path / "a.gif", max_pixels=499)


def truncated(path, share):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp", "a.gif", "moving.gif", "moving.webp"])
def test_truncated_pictures_are_errors_of_one_line(tmp_path, capfd, name, share):
    path = tmp_path / name
    images = [Image.fromarray(noise((90, 110, 3)) // (number + 1)) for number in range(3)]
    images[0].save(path, **({"save_all": True, "append_images": images[1:]} if name.startswith("moving") else {}))
    truncated(path, share)
    with pytest.raises(DataError) as caught:
        rows_of(path)
    message = str(caught.value)
    assert "\n" not in message
    assert name in message
    assert "take it out of the folder" in message
    assert capfd.readouterr().err == ""


def damaged_png(path):
    Image.fromarray(noise((90, 110, 3))).save(path)
    content = bytearray(path.read_bytes())
    content[5000] ^= 0xFF
    path.write_bytes(content)


def sizeless_bmp(path):
    Image.fromarray(COLOUR).save(path)
    content = bytearray(path.read_bytes())
    content[18:22] = bytes(4)
    path.write_bytes(content)


def moving_avif(path):
    path.write_bytes(b"\0\0\0\x2cftypavis\0\0\0\0avifavismsf1iso8mif1miaf" + bytes(400))


def tiff(pixels, **settings):
    return lambda path: tifffile.imwrite(path, pixels, photometric="minisblack", **settings)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("missing.png", lambda path: None, "does not exist: check the path"),
        ("empty.png", lambda path: path.write_bytes(b""), r"is empty \(0 bytes\)"),
        ("folder.png", lambda path: path.mkdir(), "is a folder, not a picture"),
        ("pipe.png", os.mkfifo, "is no regular file: save it to a file first"),
        ("device.png", lambda path: path.symlink_to(os.devnull), "is no regular file: save it to a file first"),
        ("text.png", lambda path: path.write_text("some words " * 40), "is no picture that can be read"),
        ("moving.avif", moving_avif, r"is no picture that can be read \(.*, still AVIF\)"),
        ("a.svg", lambda path: path.write_text("<svg xmlns='http://www.w3.org/2000/svg'/>"), "is no picture that can"),
        ("damaged.png", damaged_png, "is damaged, cut off"),
        ("sizeless.bmp", sizeless_bmp, "damaged or cut off|without pixels|no picture"),
        ("five.tif", tiff(np.zeros((9, 9, 5), np.uint8), planarconfig="contig"), "has 5 channels: save it as an RGB"),
        ("signed.tif", tiff(np.zeros((9, 9), np.int16)), "has pixels of type short: save it"),
        ("deep.tif", tiff(np.zeros((9, 9), np.uint32)), "has pixels of type uint: save it"),
        ("complex.tif", tiff(np.zeros((9, 9), np.complex64)), "of a kind that cannot be read|of an unknown kind"),
    ],
)
def test_bad_files_are_errors_of_one_line(tmp_path, capfd, name, make, message):
    make(tmp_path / name)
    with pytest.raises(DataError, match=message) as caught:
        rows_of(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "gif"])
@pytest.mark.parametrize(
    "stem", ["a\udcff", "ü 画", "-x[page=3,n=-1]", "%03d:b"]
)  # the first is no text, but a Latin-1 byte
def test_odd_names_are_read_and_written(tmp_path, stem, suffix):
    pixels = np.full((4, 5, 3), (200, 7, 30), np.uint8)
    pixels.tofile(tmp_path / f"{stem}.raw")
    path = tmp_path / f"{stem}.{suffix}"
    encode_picture(tmp_path / f"{stem}.raw", (1, *pixels.shape), np.uint8, PictureMetadata(), path)
    assert np.array_equal(rows_of(path)[..., :3], pixels)  # a GIF has opacity too


def test_bmp_stored_from_the_top_down_is_read(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.bmp")
    content = bytearray((tmp_path / "a.bmp").read_bytes())
    content[22:26] = struct.pack("<i", -9)
    (tmp_path / "a.bmp").write_bytes(content)
    assert np.array_equal(rows_of(tmp_path / "a.bmp"), COLOUR[::-1])
