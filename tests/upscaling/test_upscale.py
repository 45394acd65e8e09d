"""`hriusr upscale`: kinds of pictures, bad pictures, reports."""

import io

import cv2
import numpy as np
import pytest
import tifffile
import torch
from PIL import Image
from rich.console import Console

from hriusr.archs.registry import build_network
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import image_to_tensor, read_image, write_image
from hriusr.errors import DataError, OptionsError, WeightsError
from hriusr.pictures.source import open_source
from hriusr.upscaling.picture_upscaler import TileOptions
from hriusr.upscaling.upscale import upscale_path
from tests.upscaling.nearest_network import Nearest

TINY = {
    "type": "SwinIR",
    "upscale": 2,
    "window_size": 4,
    "depths": [2],
    "embed_dim": 8,
    "num_heads": [2],
    "mlp_ratio": 1,
    "upsampler": "pixelshuffledirect",
}


def repeated(array, scale=2):
    return array.repeat(scale, axis=0).repeat(scale, axis=1)


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def write_pixels(path, pixels_HWC):
    """Write grey, grey and alpha, RGB or RGBA with OpenCV, floats with tifffile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if pixels_HWC.dtype.kind == "f":
        is_grey = pixels_HWC.shape[2] == 1
        more = {} if pixels_HWC.shape[2] != 4 else {"extrasamples": ["unassalpha"]}
        tifffile.imwrite(path, pixels_HWC.squeeze(), photometric="minisblack" if is_grey else "rgb", **more)
    else:
        order = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}[pixels_HWC.shape[2]]
        assert cv2.imwrite(str(path), pixels_HWC[..., order])


def read_pixels(path):
    with open_source(path) as source:
        return np.array(source.read_rows(0, source.height))


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("num_channels", [1, 3, 4])
def test_kind_and_depth_are_kept_whatever_the_network_takes(tmp_path, num_channels, dtype, in_chans):
    if dtype == np.float32:
        pixels = noise((21, 34, num_channels), np.uint16).astype(np.float32) / 65535
        pixels[..., :3] *= 7.5  # brighter than white
    else:
        pixels = noise((21, 34, num_channels), dtype)
    name = "a.tif" if dtype == np.float32 else "a.png"
    write_pixels(tmp_path / name, pixels)
    report = upscale_path(
        tmp_path / name,
        tmp_path / f"b{name}",
        network=Nearest(in_chans=in_chans),
        tiles=TileOptions(tile_size=8, tile_overlap=4, batch_size=3),
    )
    result = read_pixels(tmp_path / f"b{name}")
    assert not report.failures
    assert result.dtype == dtype
    expected = repeated(pixels)
    if num_channels == 4:
        assert np.abs(result[..., 3] - expected[..., 3]).max() <= (1e-6 if dtype == np.float32 else 0)
        result, expected = (x[expected[..., 3] > 0] for x in (result, expected))
    np.testing.assert_allclose(result, expected, rtol=1e-5 if dtype == np.float32 else 0)


def test_result_of_weights_equals_the_network(tmp_path, photo):
    network = build_network(TINY).eval()
    save_weights(tmp_path / "net.safetensors", network, TINY)
    image = photo("chelsea")[:50, :70]
    write_image(tmp_path / "in" / "cat.png", image)
    upscale_path(tmp_path / "in", tmp_path / "out", weights=tmp_path / "net.safetensors")
    with torch.no_grad():
        expected = network(image_to_tensor(image)[None]).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(read_image(tmp_path / "out" / "cat.png") - expected.round()).max() <= 1


def test_tile_options_reach_the_tiles(tmp_path):
    network = Nearest()
    write_image(tmp_path / "a.png", noise((64, 64, 3)))
    upscale_path(tmp_path / "a.png", network=network, tiles=TileOptions(tile_size=16, tile_overlap=0, batch_size=4))
    assert network.num_calls == 4
    assert (tmp_path / "a_x2.png").exists()


def test_planned_tiles_shrink_with_free_memory(tmp_path, monkeypatch):
    write_image(tmp_path / "a.png", noise((200, 200, 3)))
    calls = []
    for free in (2**40, 400_000):
        monkeypatch.setattr("hriusr.upscaling.picture_upscaler.available_bytes", lambda _, free=free: free)
        network = Nearest()
        upscale_path(tmp_path / "a.png", network=network, overwrite=True)
        calls.append(network.num_calls)
    assert calls[0] == 2  # the probe and the whole picture
    assert calls[1] > 5


def test_bad_pictures_get_a_line_and_the_others_are_written(tmp_path):
    source, target = tmp_path / "in", tmp_path / "out"
    for name in ("1.png", "2.png", "10.png"):
        write_image(source / name, noise((9, 9, 3)))
    (source / "2.png").write_bytes((source / "2.png").read_bytes()[:100])
    (source / "3.jpg").write_bytes(b"")
    (source / "4.png").write_text("no picture")
    console = Console(file=io.StringIO(), width=300)
    report = upscale_path(source, target, network=Nearest(), console=console)
    assert [outcome.status for outcome in report.outcomes] == ["written", "failed", "failed", "failed", "written"]
    assert sorted(path.name for path in target.iterdir()) == ["1.png", "10.png"]
    lines = console.file.getvalue().splitlines()
    assert [line.split(" is ")[0].split(": ")[:2] for line in lines[:3]] == [
        ["failed", "2.png"],
        ["failed", "3.jpg"],
        ["failed", "4.png"],
    ]
    assert len(lines) == 4
    assert lines[3].startswith(f"2 of 5 picture(s) written to {target}, x2, 0.0 megapixels in")
    assert lines[3].endswith("3 failed")


def test_network_that_fails_on_one_picture_does_not_end_the_batch(tmp_path):
    class Picky(Nearest):
        def forward(self, x):
            if x.shape[-1] == 9:
                raise RuntimeError("9 is not my number\nand more")
            return super().forward(x)

    write_image(tmp_path / "in" / "a.png", noise((9, 9, 3)))
    write_image(tmp_path / "in" / "b.png", noise((9, 8, 3)))
    report = upscale_path(tmp_path / "in", tmp_path / "out", network=Picky())
    assert [outcome.reason for outcome in report.outcomes] == ["RuntimeError: 9 is not my number", ""]


def test_existing_result_is_skipped_unless_overwrite(tmp_path):
    write_image(tmp_path / "a.png", noise((9, 9, 3)))
    (tmp_path / "b.png").write_text("old")
    report = upscale_path(tmp_path / "a.png", tmp_path / "b.png", network=Nearest())
    assert [(outcome.status, report.failures) for outcome in report.outcomes] == [("skipped", [])]
    assert (tmp_path / "b.png").read_text() == "old"
    upscale_path(tmp_path / "a.png", tmp_path / "b.png", network=Nearest(), overwrite=True)
    assert read_image(tmp_path / "b.png").shape == (18, 18, 3)


@pytest.mark.parametrize("inputs", ["*.png", "."])
def test_second_run_beside_the_inputs_skips_or_replaces_its_results(tmp_path, inputs):
    write_image(tmp_path / "a.png", noise((9, 9, 3)))
    for overwrite, status in ((False, "written"), (False, "skipped"), (True, "written")):
        if overwrite:
            (tmp_path / "a_x2.png").write_text("old")
        report = upscale_path(tmp_path / inputs, tmp_path, network=Nearest(), overwrite=overwrite)
        assert [(outcome.name, outcome.status) for outcome in report.outcomes] == [("a.png", status)]
    assert read_image(tmp_path / "a_x2.png").shape == (18, 18, 3)
    assert report.notes == ["a_x2.png is left out: it has the name of a.png's result"]


def test_input_is_never_overwritten(tmp_path):
    for name in ("a/x.png", "b/x.png"):
        write_image(tmp_path / name, noise((9, 9, 3)))
    before = (tmp_path / "b" / "x.png").read_bytes()
    inputs = [tmp_path / "a" / "x.png", tmp_path / "b"]
    report = upscale_path(inputs, tmp_path / "b", network=Nearest(), overwrite=True)
    assert "its result would replace the input" in report.failures[0].reason
    assert (tmp_path / "b" / "x.png").read_bytes() == before


def test_target_that_cannot_be_a_folder_is_named_before_computing(tmp_path, monkeypatch):
    network = Nearest()
    write_image(tmp_path / "in" / "sub" / "a.png", noise((9, 9, 3)))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("in the way")
    report = upscale_path(tmp_path / "in", tmp_path / "out", network=network)
    assert "cannot make the folder" in report.failures[0].reason
    monkeypatch.setattr("os.access", lambda *_: False)
    report = upscale_path(tmp_path / "in", tmp_path / "out2", network=network)
    assert "is read-only: choose another output" in report.failures[0].reason
    assert network.num_calls == 0


def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    write_image(tmp_path / "a.png", noise((9, 9, 3)))
    monkeypatch.setattr("os.replace", full)
    report = upscale_path(tmp_path / "a.png", tmp_path / "out" / "b.png", network=Nearest())
    assert "No space left on device" in report.failures[0].reason
    assert not list((tmp_path / "out").iterdir())


def test_interruption_says_what_is_done(tmp_path):
    class Interrupted(Nearest):
        def forward(self, x):
            if self.num_calls == 1:
                raise KeyboardInterrupt
            return super().forward(x)

    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, noise((9, 9, 3)))
    console = Console(file=io.StringIO(), width=300)
    with pytest.raises(KeyboardInterrupt):
        upscale_path(tmp_path / "in", tmp_path / "out", network=Interrupted(), console=console)
    assert console.file.getvalue().startswith("1 of 2 picture(s) written")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_interruption_in_the_middle_says_where_it_goes_on(tmp_path):
    class Interruptible(Nearest):
        limit = 2

        def forward(self, x):
            if self.num_calls == self.limit:
                raise KeyboardInterrupt
            return super().forward(x)

    write_image(tmp_path / "a.png", noise((40, 8, 3)))
    console = Console(file=io.StringIO(), width=300)
    options = TileOptions(tile_size=8, tile_overlap=4)
    with pytest.raises(KeyboardInterrupt):
        upscale_path(tmp_path / "a.png", network=Interruptible(), tiles=options, console=console)
    folder = tmp_path / ".a_x2.png.hriusr"
    expected = f"note: a.png: finished rows are kept in {folder}: the same command goes on from there"
    assert console.file.getvalue().splitlines()[0] == expected
    Interruptible.limit = 100
    network = Interruptible()
    report = upscale_path(tmp_path / "a.png", network=network, tiles=options)
    assert report.outcomes[0].notes == ("continued where an earlier run was cut off",)
    assert network.num_calls == 2  # of four tiles
    assert np.array_equal(read_pixels(tmp_path / "a_x2.png"), repeated(read_pixels(tmp_path / "a.png")))


def test_bar_shows_name_and_speed_on_a_terminal(tmp_path):
    write_image(tmp_path / "in" / "a[b].png", noise((40, 40, 3)))
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    upscale_path(tmp_path / "in", tmp_path / "out", network=Nearest(), tiles=TileOptions(tile_size=8), console=console)
    shown = console.file.getvalue()
    assert "1/1 a[b].png" in shown
    assert "MP/s" in shown


def test_jpeg_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise((10, 16, 3))).save(tmp_path / "a.jpg", exif=exif)
    upscale_path(tmp_path / "a.jpg", tmp_path / "b.png", network=Nearest())
    assert read_image(tmp_path / "b.png").shape == (32, 20, 3)


def test_16_bits_in_half_precision_are_noted(tmp_path):
    write_pixels(tmp_path / "a.png", noise((9, 9, 3), np.uint16))
    report = upscale_path(tmp_path / "a.png", network=Nearest(), tiles=TileOptions(precision="bf16"))
    assert report.outcomes[0].notes == ("bf16 keeps 8 to 11 bits of a picture with more: use precision fp32",)


def test_float_pixels_that_are_not_finite_are_named(tmp_path):
    pixels = np.ones((9, 9, 3), np.float32)
    pixels[3, 3] = np.nan
    write_pixels(tmp_path / "a.tif", pixels)
    report = upscale_path(tmp_path / "a.tif", network=Nearest())
    assert report.failures[0].reason == "rows 0 to 9 hold NaN or infinite pixels: mend them"


@pytest.mark.parametrize("least", [255, 254])
def test_alpha_that_hides_nothing_does_not_keep_from_jpeg(tmp_path, least):
    pixels = np.full((20, 30, 4), 255, np.uint8)
    pixels[..., :3], pixels[3, 4, 3] = 90, least
    write_pixels(tmp_path / "a.png", pixels)
    report = upscale_path(tmp_path / "a.png", network=Nearest(), extension="jpg")
    if least == 255:
        assert abs(read_pixels(tmp_path / "a_x2.jpg").astype(int) - 90).max() <= 1
    else:
        assert ".jpg cannot hold transparency" in report.failures[0].reason


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            {"tiles": TileOptions(tile_size=-1, batch_size=0)},
            "tile_size \\(=-1\\) must be at least 0\nbatch_size \\(=0\\) must be at least 1",
        ),
        ({"tiles": TileOptions(tile_overlap=-3)}, r"tile_overlap \(=-3\) must be at least 0"),
        ({"tiles": TileOptions(exact=True, tile_overlap=8)}, r"tile_overlap \(=8\) and exact contradict each other"),
        ({"max_pixels": 0}, r"max_pixels \(=0\) must be at least 1"),
        ({"self_ensemble": True}, "self_ensemble and compiles go with weights"),
        ({"tiles": TileOptions(precision="int8")}, "precision: unknown 'int8'; one of fp32, bf16, fp16"),
        ({"jpeg_quality": 101}, r"jpeg_quality \(=101\) must lie between 0 and 100"),
        ({"device": "toaster"}, r"device \(='toaster'\) must be cpu, cuda or cuda:<number>"),
        ({"device": "cuda:99"}, r"device \(='cuda:99'\): PyTorch sees \d+ GPU\(s\): use cpu"),
        ({"network": None}, "give weights .* or a network, one of the two"),
    ],
)
def test_a_wrong_option_is_named(tmp_path, more, message):
    write_image(tmp_path / "a.png", noise((9, 9, 3)))
    with pytest.raises(OptionsError, match=message):
        upscale_path(tmp_path / "a.png", **{"network": Nearest(), **more})


def test_missing_input_and_missing_weights_are_named(tmp_path):
    with pytest.raises(DataError, match=r"nothing\.png does not exist"):
        upscale_path(tmp_path / "nothing.png", weights=tmp_path / "none.pth")
    write_image(tmp_path / "a.png", noise((9, 9, 3)))
    with pytest.raises(WeightsError, match=r"none\.pth"):
        upscale_path(tmp_path / "a.png", weights=tmp_path / "none.pth")
