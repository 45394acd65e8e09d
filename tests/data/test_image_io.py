"""Pictures in and out: formats, depths, damage, order of names, value range."""

import logging
import struct
import zlib

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from hriusr import basicsr_bridge  # noqa: F401 - before the import of basicsr in a test
from hriusr.data.image_bytes import why_damaged
from hriusr.data.image_io import (
    IMAGE_SUFFIXES,
    encode_image,
    image_size,
    image_to_tensor,
    list_images,
    read_image,
    read_image_bytes,
    tensor_to_image,
    write_image,
)
from hriusr.errors import DataError, HriusrError

LOSSLESS = [suffix for suffix in IMAGE_SUFFIXES if suffix not in (".jpg", ".jpeg")]


@pytest.fixture
def picture(photo):
    return photo("astronaut")[100:161, 200:247]


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_write_then_read_is_identity(tmp_path, picture, suffix):
    write_image(tmp_path / "new" / f"x{suffix}", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / f"x{suffix}"), picture)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_survive(tmp_path, picture, suffix):
    deep = picture.astype(np.uint16) * 257 + 3
    write_image(tmp_path / f"x{suffix}", deep)
    read = read_image(tmp_path / f"x{suffix}")
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, deep)


def test_jpeg_is_close_and_takes_its_quality(picture):
    def error(quality):
        read = read_image_bytes(encode_image(picture, ".jpg", jpeg_quality=quality), "x.jpg")
        return np.abs(read.astype(int) - picture).mean()

    assert error(95) < 6
    assert error(20) > error(95)


def test_png_compression_takes_effect(picture):
    assert len(encode_image(picture, ".png", png_compression=0)) > len(encode_image(picture, ".png", png_compression=9))


@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1)])
def test_grey_becomes_three_channels(tmp_path, shape):
    grey = np.arange(600, dtype=np.uint16).reshape(shape).astype(np.uint8)
    write_image(tmp_path / "grey.png", grey)
    read = read_image(tmp_path / "grey.png")
    assert read.shape == (20, 30, 3)
    assert (read == grey.reshape(20, 30, 1)).all()


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_alpha_is_dropped_with_a_warning(tmp_path, picture, suffix, caplog):
    rgba = np.dstack([picture, np.full(picture.shape[:2], 128, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / f"x{suffix}", lossless=True)
    with caplog.at_level(logging.WARNING):
        read = read_image(tmp_path / f"x{suffix}")
        read_image(tmp_path / f"x{suffix}")
    np.testing.assert_array_equal(read, picture)
    assert [record.message.split(" has ")[0] for record in caplog.records] == [str(tmp_path / f"x{suffix}")]


def test_palette_picture_is_expanded(tmp_path, picture):
    palette = Image.fromarray(picture).quantize(32)
    palette.save(tmp_path / "x.png")
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), np.asarray(palette.convert("RGB")))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_exif_orientation_is_applied(tmp_path, picture, orientation, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / f"turned{suffix}", exif=exif, lossless=True)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / f"turned{suffix}"))
    read = read_image(tmp_path / f"turned{suffix}")
    np.testing.assert_array_equal(read, np.asarray(upright))
    assert image_size(tmp_path / f"turned{suffix}") == read.shape[:2]


@pytest.mark.parametrize("orientation", [1, 6, 8])
def test_jpegs_orientation_is_applied_as_basicsr_does(tmp_path, picture, orientation):
    from basicsr.utils import imfrombytes

    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(picture).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    read = read_image(tmp_path / "turned.jpg")
    np.testing.assert_array_equal(read[..., ::-1], imfrombytes((tmp_path / "turned.jpg").read_bytes()))
    assert image_size(tmp_path / "turned.jpg") == read.shape[:2]


def test_broken_exif_does_not_matter(picture):
    content = encode_image(picture, ".jpg")
    broken = content[:2] + b"\xff\xe1\x00\x0cExif\0\0rubb" + content[2:]
    np.testing.assert_array_equal(read_image_bytes(broken, "x.jpg"), read_image_bytes(content, "x.jpg"))


@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_size_from_the_header(tmp_path, picture, suffix):
    write_image(tmp_path / f"x{suffix}", picture)
    assert image_size(tmp_path / f"x{suffix}") == picture.shape[:2]


@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9, "all but 3 bytes"])
@pytest.mark.parametrize("suffix", IMAGE_SUFFIXES)
def test_truncated_picture_is_an_error_and_not_half_a_picture(tmp_path, picture, suffix, kept):
    content = encode_image(picture, suffix)
    length = len(content) - 3 if isinstance(kept, str) else int(len(content) * kept)
    (tmp_path / f"half{suffix}").write_bytes(content[:length])
    with pytest.raises(DataError, match=f"half{suffix}"):
        read_image(tmp_path / f"half{suffix}")


@pytest.mark.parametrize("options", [{}, {"compression": "tiff_lzw"}])
def test_truncated_tiff_with_its_directory_first_is_an_error(tmp_path, picture, options):
    Image.fromarray(picture).save(tmp_path / "x.tif", **options)
    content = (tmp_path / "x.tif").read_bytes()
    with pytest.raises(DataError, match=r"x\.tif"):
        read_image_bytes(content[: len(content) * 2 // 3], "x.tif")


@pytest.mark.parametrize("options", [{"progressive": True}, {"exif": b"Exif\0\0" + b"\xff\xd8\xff\xd9" * 3}, {}])
def test_jpeg_without_its_end_is_seen_by_the_bytes_alone(tmp_path, picture, options):
    Image.fromarray(picture).save(tmp_path / "x.jpg", **options)
    content = (tmp_path / "x.jpg").read_bytes()
    assert why_damaged(content) is None
    assert why_damaged(content + b"trailing") is None
    assert "cut off" in why_damaged(content[:-2])
    assert "cut off" in why_damaged(content[: len(content) // 2] + bytes(len(content) // 2))


def test_flipped_byte_in_a_png_is_seen(picture):
    content = bytearray(encode_image(picture, ".png"))
    content[len(content) // 2] ^= 1
    with pytest.raises(DataError, match=r"x\.png is damaged.*copy it again"):
        read_image_bytes(bytes(content), "x.png")


def test_missing_empty_and_foreign_files_say_what_and_remedy(tmp_path):
    (tmp_path / "zero.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"<!DOCTYPE html> not found")
    (tmp_path / "folder.png").mkdir()
    for name, message in [
        ("none.png", "does not exist.*check"),
        ("zero.png", "0 bytes.*again"),
        ("text.png", "not a whole .*picture.*copy it again"),
        ("folder.png", "is a folder"),
    ]:
        with pytest.raises(DataError, match=rf"{name}.*{message}"):
            read_image(tmp_path / name)
    for name in ("none.png", "zero.png", "text.png"):
        with pytest.raises(DataError, match=name):
            image_size(tmp_path / name)


def test_pixels_that_are_not_integers_are_refused(picture):
    _, encoded = cv2.imencode(".tif", picture.astype(np.float32))
    with pytest.raises(DataError, match=r"x\.tif has float32 pixels: save it with 8 or 16 bits"):
        read_image_bytes(encoded.tobytes(), "x.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_wrong_channel_count_is_refused(tmp_path, dtype):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((8, 9, 5), dtype), photometric="minisblack", planarconfig="contig")
    with pytest.raises(DataError, match=r"five\.tif has 5 channels: save it"):
        read_image(tmp_path / "five.tif")


def test_failed_write_leaves_the_old_picture_and_no_temporary_file(tmp_path, picture, monkeypatch):
    write_image(tmp_path / "x.png", picture)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(HriusrError, match=r"x\.png"):
        write_image(tmp_path / "x.png", picture[:5])
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]
    np.testing.assert_array_equal(read_image(tmp_path / "x.png"), picture)


@pytest.mark.parametrize(
    ("name", "dtype", "message"),
    [("x.gif", np.uint8, r"x\.gif.*\.png"), ("x", np.uint8, "no suffix"), ("x.jpg", np.uint16, "16 bits.*png")],
)
def test_impossible_formats_name_the_file_and_the_remedy(tmp_path, name, dtype, message):
    with pytest.raises(DataError, match=message):
        write_image(tmp_path / name, np.zeros((4, 4, 3), dtype))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "image", [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros(4, np.uint8)]
)
def test_array_that_is_no_picture_is_refused(image):
    with pytest.raises(ValueError, match="must be"):
        encode_image(image, ".png")


def test_listing_is_in_natural_order_without_hidden_and_foreign_files(tmp_path):
    names = ["b10.png", "b2.PNG", "a.jpg", ".hidden.png", "notes.txt", "C.webp"]
    for name in names:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "folder.png" / "deep.bmp").write_bytes(b"x")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b2.PNG", "b10.png", "C.webp"]
    assert "deep.bmp" in [path.name for path in list_images(tmp_path, recursive=True)]


def test_missing_and_empty_folders_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nowhere does not exist.*prepare"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{tmp_path.name} holds no picture"):
        list_images(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is a file"):
        list_images(tmp_path / "file")


def test_tensor_and_back_is_identity():
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([values, values.T, values[::-1]], -1)
    tensor = image_to_tensor(image)
    assert tensor.shape == (3, 16, 16)
    assert tensor.dtype == torch.float32
    assert (tensor.min(), tensor.max()) == (0, 1)
    np.testing.assert_array_equal(tensor_to_image(tensor), image)
    deep = image.astype(np.uint16) * 257
    np.testing.assert_array_equal(tensor_to_image(image_to_tensor(deep), np.uint16), deep)


def test_tensor_owns_its_memory():
    image = np.zeros((2, 2, 3), np.float32)
    image_to_tensor(image).add_(1)
    assert not image.any()


def test_values_equal_basicsr(picture):
    from basicsr.utils import img2tensor, tensor2img

    bgr = picture[..., ::-1].astype(np.float32) / 255.0
    assert torch.equal(image_to_tensor(picture), img2tensor(bgr))
    output = torch.randn(3, 40, 30) * 0.4 + 0.5
    np.testing.assert_array_equal(tensor_to_image(output)[..., ::-1], tensor2img(output))


def test_odd_tensors_become_pictures_or_errors(caplog):
    assert tensor_to_image(torch.ones(1, 1, 2, 3, dtype=torch.bfloat16)).tolist() == [[[255]] * 3] * 2
    assert tensor_to_image(torch.tensor([[[float("nan"), float("inf"), -1]]])).ravel().tolist() == [0, 255, 0]
    assert "NaN" in caplog.text
    with pytest.raises(ValueError, match="must be"):
        tensor_to_image(torch.zeros(2, 3, 4, 4))


def test_png_checksums_are_those_of_zlib(picture):
    content = encode_image(picture, ".png")
    assert struct.unpack(">I", content[-4:])[0] == zlib.crc32(b"IEND")


def test_size_is_read_without_decoding(tmp_path, picture, monkeypatch):
    for suffix in IMAGE_SUFFIXES:
        write_image(tmp_path / f"x{suffix}", picture)
    monkeypatch.setattr(Image.Image, "load", None)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    for suffix in IMAGE_SUFFIXES:
        assert image_size(tmp_path / f"x{suffix}") == picture.shape[:2]


def test_cmyk_is_no_alpha(tmp_path, caplog):
    Image.new("CMYK", (4, 3), (10, 20, 30, 40)).save(tmp_path / "a.tif")
    assert read_image(tmp_path / "a.tif").shape == (3, 4, 3)
    assert not caplog.text
