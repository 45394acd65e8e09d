"""What is written is what independent decoders read: Pillow, OpenCV, tifffile."""

import os
import signal
import subprocess
import sys
import threading
import time

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from hriusr.errors import DataError, HriusrError
from hriusr.pictures.encoder import encode_picture
from hriusr.pictures.formats import check_target
from hriusr.pictures.metadata import PictureMetadata
from hriusr.pictures.source import open_source

PLAIN = PictureMetadata()


def noise(shape, dtype=np.uint8):
    generator = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape, dtype=np.float32)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def encode(pixels, target, metadata=PLAIN, **settings):
    """Write (H, W, C) or (frames, H, W, C) by way of a raw file with a name that libvips would read options in."""
    pixels = pixels[None] if pixels.ndim == 3 else pixels
    raw = target.parent / "canvas[2].raw"
    raw.parent.mkdir(parents=True, exist_ok=True)
    pixels.tofile(raw)
    try:
        encode_picture(raw, pixels.shape, pixels.dtype, metadata, target, **settings)
    finally:
        raw.unlink()


def decoded(path, dtype):
    if path.suffix == ".tif":
        pixels = tifffile.imread(path)
    elif dtype == np.uint16:
        pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)  # Pillow has no RGB of 16 bits
        pixels = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    else:
        pixels = np.array(Image.open(path))
    return pixels if pixels.ndim == 3 else pixels[..., None]


@pytest.mark.parametrize(
    ("suffix", "dtype", "num_channels"),
    [
        *((".tif", dtype, c) for dtype in (np.uint8, np.uint16) for c in (1, 2, 3, 4)),
        *((".png", np.uint8, c) for c in (1, 2, 3, 4)),
        *((".png", np.uint16, c) for c in (1, 3, 4)),  # neither Pillow nor OpenCV reads grey and alpha of 16 bits
        *((".tif", np.float32, c) for c in (1, 2, 3, 4)),
        *((".webp", np.uint8, c) for c in (3, 4)),
        *((".bmp", np.uint8, c) for c in (1, 3)),
    ],
)
def test_independent_decoder_reads_what_was_written(tmp_path, suffix, dtype, num_channels):
    pixels = noise((9, 13, num_channels), dtype)
    path = tmp_path / f"a[1]{suffix}"
    encode(pixels, path)
    assert np.array_equal(decoded(path, dtype), pixels)
    assert [left.name for left in tmp_path.iterdir()] == [path.name]
    with open_source(path) as source:
        assert np.array_equal(source.read_rows(0, 9), pixels)


def test_jpeg_keeps_its_quality_and_full_colour(tmp_path, photo):
    pixels = photo("astronaut")[:128, :128]
    errors = []
    for quality in (50, 95):
        encode(pixels, tmp_path / "a.jpg", jpeg_quality=quality)
        with Image.open(tmp_path / "a.jpg") as image:
            errors.append(np.abs(np.array(image).astype(int) - pixels).mean())
            layers = image.layer
    assert errors[1] < 2 < errors[0]
    assert {layer[1:3] for layer in layers} == {(1, 1)}  # colours are not halved at 95


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".tif"])
def test_frames_come_back_with_their_delays(tmp_path, suffix):
    frames = np.stack([np.full((6, 8, 3), value, np.uint8) for value in (0, 100, 255)])
    encode(frames, tmp_path / f"a{suffix}", PictureMetadata({"delay": [40, 80, 120], "loop": 0}))
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.n_frames == 3
        for number, frame in enumerate(frames):
            image.seek(number)
            image.load()
            assert np.array_equal(np.array(image.convert("RGB")), frame)
            if suffix != ".tif":
                assert image.info["duration"] == (40, 80, 120)[number]
                assert image.info["loop"] == 0


@pytest.mark.parametrize(("size", "kernel"), [((37, 41), "LANCZOS"), ((64, 71), "BICUBIC"), ((131, 200), "BICUBIC")])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_resampling_lies_where_pillows_lies(tmp_path, photo, size, kernel, dtype):
    pixels = photo("astronaut")[:50, 100:160]
    pixels = pixels if dtype == np.uint8 else pixels.astype(np.float32) / 255
    path = tmp_path / ("a.png" if dtype == np.uint8 else "a.tif")
    encode(pixels, path, size=size)
    result = decoded(path, dtype)
    channels = [
        Image.fromarray(channel).resize(size[::-1], Image.Resampling[kernel]) for channel in np.moveaxis(pixels, 2, 0)
    ]
    expected = np.stack([np.array(channel) for channel in channels], axis=2)
    difference = np.abs(result.astype(float) - expected) * (1 if dtype == np.uint8 else 255)
    assert result.shape == expected.shape
    assert difference.mean() < 0.3  # half a pixel beside: 4
    assert difference.max() < 5  # Pillow weighs otherwise at the picture's own edges


@pytest.mark.parametrize("size", [(5, 5), (40, 37)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_hidden_colours_do_not_shine_through_when_resampled(tmp_path, size, dtype):
    greatest = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    pixels = np.zeros((10, 10, 4), dtype)
    pixels[..., 1] = greatest  # hidden pixels are green, visible ones red
    pixels[:, :5] = (greatest, 0, 0, greatest)
    encode(pixels, tmp_path / "a.tif", size=size)
    result = tifffile.imread(tmp_path / "a.tif").astype(float) / greatest
    alpha = result[..., 3]
    assert ((alpha > 0.05) & (alpha < 0.95)).any()
    assert alpha.min() == 0
    assert alpha.max() == 1
    assert result[alpha > 0][:, 1].max() == 0
    assert result[alpha > 0][:, 0].min() > 0.99


@pytest.mark.parametrize("size", [(25, 30), (90, 77)])
def test_colours_at_an_edge_stay_between_those_around(tmp_path, size):
    """Sharp kernels give black and white specks where little opacity divides their ringing."""
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[8:30, 9:31, :3] = 120 + noise((22, 22, 3)) % 20
    pixels[8:30, 9:31, 3] = 255
    pixels[8:30, 9, 3], pixels[8, 9:31, 3], pixels[8:30, 30, 3] = 28, 168, 5
    encode(pixels, tmp_path / "a.png", size=size)
    result = decoded(tmp_path / "a.png", np.uint8)
    visible = result[result[..., 3] > 0]
    assert visible[:, :3].min() >= 112
    assert visible[:, :3].max() <= 147


@pytest.mark.parametrize("size", [(20, 28), (48, 70)])
def test_floats_beyond_1_are_kept_when_resampled_with_alpha(tmp_path, size):
    pixels = np.full((32, 40, 4), 5, np.float32)
    pixels[..., 1], pixels[..., 3] = -2, 1
    pixels[8:20, 8:20, 3] = 0.5
    encode(pixels, tmp_path / "a.tif", size=size)
    result = tifffile.imread(tmp_path / "a.tif")
    assert np.abs(result[..., :3] - (5, -2, 5)).max() < 0.01


def test_each_frame_is_resampled_by_itself(tmp_path):
    frames = np.stack([np.full((8, 8, 1), value, np.uint8) for value in (0, 255)])
    encode(frames, tmp_path / "a.tif", size=(6, 20))
    assert np.array_equal(
        tifffile.imread(tmp_path / "a.tif"), np.stack([np.full((6, 20), v, np.uint8) for v in (0, 255)])
    )


@pytest.mark.parametrize(
    ("name", "size", "dtype", "has_alpha", "num_frames", "message"),
    [
        (
            "a.jpg",
            (9, 65501),
            np.uint8,
            False,
            1,
            r"cannot hold 65501x9 pixels \(at most 65500 a side\): use .png or .tif",
        ),
        (
            "a.webp",
            (16384, 9),
            np.uint8,
            False,
            1,
            r"9x16384 pixels \(at most 16383 a side\): use .png or .jpg or .tif",
        ),
        ("a.gif", (65536, 9), np.uint8, False, 2, "at most 65535 a side.*: use .tif$"),
        ("a.bmp", (40000, 40000), np.uint8, False, 1, "cannot hold 4.8 GB: use .png or .jpg or .tif or .gif"),
        ("a.jpg", (9, 9), np.uint8, True, 1, "cannot hold transparency: use .png or .webp or .tif or .gif"),
        ("a.webp", (9, 9), np.uint16, False, 1, "cannot hold 16 bits a channel: use .png or .tif$"),
        ("a.png", (9, 9), np.float32, False, 1, "cannot hold floating-point pixels: use .tif$"),
        ("a.png", (9, 9), np.uint8, False, 3, "cannot hold 3 frames: use .webp or .tif or .gif"),
        ("a.xyz", (9, 9), np.uint8, False, 1, r"\.xyz is not a format to write: use one of \.png, "),
        ("a", (9, 9), np.uint8, False, 1, "no suffix is not a format to write"),
    ],
)
def test_what_a_format_cannot_hold_is_refused_before(name, size, dtype, has_alpha, num_frames, message):
    with pytest.raises(DataError, match=message):
        check_target(name, *size, dtype, has_alpha, num_frames)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp", ".bmp", ".gif"])
def test_full_disk_leaves_what_stood_there(tmp_path, suffix, file_size_limit, capfd):
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"old")
    pixels = noise((300, 300, 3))
    (tmp_path / "raw").write_bytes(pixels.tobytes())
    message = f"cannot write .*a{suffix}.*what stood there before is untouched"
    with file_size_limit(2000), pytest.raises(HriusrError, match=message) as caught:
        encode_picture(tmp_path / "raw", (1, *pixels.shape), np.uint8, PLAIN, path)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert sorted(left.name for left in tmp_path.iterdir()) == [path.name, "raw"]
    assert capfd.readouterr().err == ""


def test_what_a_killed_process_left_of_this_picture_is_removed(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".a.png.{gone.pid}.tmp"
    others = [tmp_path / f".b.png.{gone.pid}.tmp", tmp_path / f".a.png.{os.getppid()}.tmp"]
    for path in (left, *others):
        path.write_bytes(b"half a picture")
    encode(noise((9, 9, 3)), tmp_path / "a.png")
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_read_only_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(HriusrError, match=r"cannot write .*a\.png"):
        encode_picture(tmp_path / "file", (1, 3, 3, 1), np.uint8, PLAIN, tmp_path / "file" / "a.png")


def test_pictures_of_many_strips_are_written_in_order(tmp_path, monkeypatch):
    """Also where they are resampled: rows are read once, from top to bottom."""
    monkeypatch.setattr("hriusr.pictures.raw_image._STRIP_BYTES", 4000)
    pixels = np.cumsum(noise((1500, 700, 1)), axis=0, dtype=np.uint8)
    for suffix in (".tif", ".png"):
        encode(pixels, tmp_path / f"a{suffix}")
        assert np.array_equal(decoded(tmp_path / f"a{suffix}", np.uint8), pixels)
    for size in ((1700, 900), (1100, 601)):
        encode(pixels, tmp_path / "b.tif", size=size)
        encode(pixels, tmp_path / "b.bmp", size=size)
        assert np.array_equal(tifffile.imread(tmp_path / "b.tif"), np.array(Image.open(tmp_path / "b.bmp")))
        with_alpha = np.concatenate([pixels, np.full_like(pixels, 255)], axis=2)
        encode(with_alpha, tmp_path / "c.tif", size=size)
        difference = tifffile.imread(tmp_path / "c.tif")[..., 0].astype(int) - tifffile.imread(tmp_path / "b.tif")
        assert np.abs(difference).max() <= 1


def test_large_tiffs_are_bigtiffs(tmp_path, monkeypatch):
    pixels = noise((20, 30, 3))
    for limit, is_big in ((1801, False), (1800, True)):
        monkeypatch.setattr("hriusr.pictures.encoder._BIGTIFF_FROM", limit)
        encode(pixels, tmp_path / "a.tif")
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.is_bigtiff == is_big
            assert np.array_equal(file.asarray(), pixels)


@pytest.fixture
def interrupt_soon():
    """Press Ctrl-C half a second from now; what an earlier test made of that signal does not count."""
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    yield
    timer.cancel()
    timer.join()
    signal.signal(signal.SIGINT, handler)


@pytest.mark.usefixtures("interrupt_soon")
def test_interrupt_ends_encoding_at_once_and_leaves_nothing(tmp_path):
    side = 60_000
    (tmp_path / "raw").touch()
    os.truncate(tmp_path / "raw", side * side)  # a file of zeros that takes no room, and minutes to encode
    started = time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        encode_picture(tmp_path / "raw", (1, side, side, 1), np.uint8, PLAIN, tmp_path / "a.png")
    assert time.perf_counter() - started < 15
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]
