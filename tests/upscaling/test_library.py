"""hriusr.load and Upscaler: every form of image comes back in its own form, with the network's values."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import hriusr
from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.errors import DataError, OptionsError, WeightsError
from hriusr.upscaling.library import Upscaler
from tests.upscaling.nearest_network import Nearest


@pytest.fixture(params=[3, 1], ids=["colour network", "grey network"])
def upscaler(request) -> Upscaler:
    return Upscaler(Nearest(in_chans=request.param), device="cpu")


def test_import_is_light():
    code = "import hriusr, sys; assert not {'torch', 'numpy', 'PIL'} & set(sys.modules); assert callable(hriusr.load)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16])
@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 3)], ids=str)
def test_arrays_keep_dtype_and_layout(upscaler, dtype, shape):
    values = np.random.default_rng(0).random(shape)
    image = (values * (np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1)).astype(dtype)
    result = upscaler.upscale(image)
    assert result.dtype == dtype
    np.testing.assert_allclose(result, image.repeat(2, 0).repeat(2, 1), rtol=1e-6)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", ">f2", ">f8"])
def test_arrays_keep_their_order_of_bytes(upscaler, dtype):
    image = np.arange(12).reshape(3, 4, 1) / (16 if "f" in dtype else 1)
    image = image.astype(dtype)
    result = upscaler.upscale(image)
    assert result.dtype == image.dtype
    assert np.array_equal(result, image.repeat(2, 0).repeat(2, 1))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.uint16])
@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 4, 6), (2, 3, 4, 6), (2, 1, 4, 6)], ids=str)
def test_tensors_keep_dtype_and_layout(upscaler, dtype, shape):
    image = torch.rand(shape) if dtype.is_floating_point else torch.randint(0, 256, shape)
    image = image.to(dtype)
    result = upscaler.upscale(image)
    assert result.dtype == dtype
    expected = image.to(torch.float64).repeat_interleave(2, -1).repeat_interleave(2, -2)
    torch.testing.assert_close(result.to(torch.float64), expected)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I"])
def test_pil_images_keep_their_mode(upscaler, mode):
    array = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype=np.uint8)
    array[..., 3] = 255
    image = Image.fromarray(array)
    if mode == "P":
        image = image.convert("RGB").quantize(16)
    elif mode in ("I;16", "I"):
        image = Image.fromarray(array[..., 0].astype(np.uint16) * 257)
        image = image if mode == "I;16" else image.convert("I")
    else:
        image = image.convert(mode)
    image.info["dpi"] = (300, 300)
    result = upscaler.upscale(image)
    assert (result.mode, result.size) == (mode, (16, 12))
    assert result.info["dpi"] == (300, 300)
    found, expected = (x.convert("RGB") if mode == "P" else x for x in (result, image))
    np.testing.assert_array_equal(np.array(found), np.array(expected).repeat(2, 0).repeat(2, 1))


def test_transparent_palette_stays_transparent(upscaler):
    image = Image.new("P", (6, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(0, (0, 0, 3, 4))
    image.info["transparency"] = 0
    result = upscaler.upscale(image)
    assert result.mode == "P"
    alpha = np.array(result.convert("RGBA"))[..., 3]
    assert (alpha[:, :6] == 0).all()
    assert (alpha[:, 6:] == 255).all()


@pytest.mark.parametrize(("mode", "clear", "result_mode"), [("RGB", (1, 2, 3), "RGBA"), ("L", 7, "LA"), ("1", 0, "LA")])
def test_a_colour_that_is_transparent_becomes_alpha(upscaler, mode, clear, result_mode):
    image = Image.new(mode, (6, 4), clear)
    image.paste((9, 9, 9) if mode == "RGB" else 255, (0, 0, 3, 4))
    image.info["transparency"] = clear
    result = upscaler.upscale(image)
    assert result.mode == result_mode
    assert "transparency" not in result.info
    alpha = np.array(result)[..., -1]
    assert (alpha[:, :6] == 255).all()
    assert (alpha[:, 6:] == 0).all()


@pytest.mark.parametrize("num_channels", [2, 4])
def test_hidden_colours_do_not_shine_through_and_alpha_stays_in_bounds(num_channels):
    class Ringing(Nearest):
        def forward(self, lr_BCHW):
            blurred = F.avg_pool2d(F.pad(lr_BCHW, (1, 1, 1, 1), mode="replicate"), 3, 1)
            return super().forward(2 * lr_BCHW - blurred)  # overshoots at edges

    image = np.zeros((12, 12, num_channels), np.uint8)
    image[:, :6] = 200
    image[:, 6:, :-1] = 13  # garbage that nobody sees
    image[:, :6, -1] = 255
    result = Upscaler(Ringing(), device="cpu").upscale(image)
    assert set(np.unique(result[..., -1])) == {0, 255}
    assert (result[result[..., -1] == 255][:, :-1] == 200).all()


def test_batches_of_alpha_are_treated_one_by_one(upscaler):
    images = torch.rand(2, 4, 6, 5)
    whole = upscaler.upscale(images)
    for image, result in zip(images, whole, strict=True):
        torch.testing.assert_close(upscaler.upscale(image), result)


def test_read_only_arrays_are_taken_as_they_are(upscaler):
    array = np.asarray(Image.fromarray(np.full((6, 7, 3), 9, np.uint8)))
    assert not array.flags.writeable
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upscaler.upscale(array).max() == 9


def test_floats_are_not_clamped(upscaler):
    image = np.array([[-0.5, 1.5]], np.float32)
    assert upscaler.upscale(image).min() == -0.5
    assert upscaler.upscale(image).max() == 1.5


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_loaded_file_gives_the_network_s_values(tmp_path, ending, photo):
    network_opt = VARIANTS["swinir_tiny_x2"].network_opt()
    network = build_network(network_opt).eval()
    save_weights(tmp_path / f"net.{ending}", network, network_opt)
    image = photo("astronaut")[100:131, 200:245]
    upscaler = hriusr.load(tmp_path / f"net.{ending}", device="cpu")
    assert upscaler.scale == 2
    lr_BCHW = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        expected = (network(lr_BCHW)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    found = upscaler.upscale(image)
    assert np.abs(found - expected).max() <= 1  # a rounding at most
    assert (found == expected).mean() > 0.999


def test_tiles_batches_and_progress_are_as_asked():
    calls, shapes = [], []

    class Noting(Nearest):
        def forward(self, lr_BCHW):
            shapes.append(tuple(lr_BCHW.shape))
            return super().forward(lr_BCHW)

    upscaler = Upscaler(Noting(), device="cpu")
    image = np.random.default_rng(0).random((40, 40, 3), np.float32)
    result = upscaler.upscale(
        image, tile_size=16, tile_overlap=2, batch_size=4, progress=lambda done, count: calls.append((done, count))
    )
    np.testing.assert_allclose(result, image.repeat(2, 0).repeat(2, 1), rtol=1e-6)
    assert shapes[0][0] == 4
    assert shapes[0][2] <= 20
    assert calls[-1][0] == calls[-1][1] > 4
    shapes.clear()
    upscaler.upscale(image, tile_size=0)
    assert shapes == [(1, 3, 40, 40)]


def test_precision_reaches_the_network():
    class Multiplying(Nearest):
        def __init__(self):
            super().__init__()
            self.mix = nn.Conv2d(3, 3, 1)

        def forward(self, lr_BCHW):
            dtypes.append(self.mix(lr_BCHW).dtype)
            return super().forward(lr_BCHW)

    dtypes: list[torch.dtype] = []
    upscaler = Upscaler(Multiplying(), device="cpu")
    upscaler.upscale(torch.rand(3, 4, 4), precision="bf16")
    assert dtypes[-1] == torch.bfloat16
    upscaler.upscale(torch.rand(3, 4, 4))
    assert dtypes[-1] == torch.float32


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 5), np.uint8), "5 channels"),
        (np.zeros((4, 4), np.int16), "int16"),
        (np.zeros((4, 4), "complex64"), "complex64"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((1, 1, 4, 4), np.uint8), "shape"),
        (np.full((2, 2), np.nan), "NaN"),
        (torch.zeros(4, 4), "shape"),
        (Image.new("CMYK", (2, 2)), "CMYK"),
        ("picture.png", "str"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_is_no_image_is_named(upscaler, image, message):
    with pytest.raises(DataError, match=message):
        upscaler.upscale(image)


def test_wrong_options_are_named(upscaler, tmp_path):
    image = np.zeros((4, 4), np.uint8)
    for options in ({"tile_size": -1}, {"tile_overlap": -2}, {"batch_size": 0}, {"precision": "int4"}):
        with pytest.raises(OptionsError, match=next(iter(options))):
            upscaler.upscale(image, **options)
    with pytest.raises(WeightsError, match=r"net\.pth"):
        hriusr.load(tmp_path / "net.pth")
    with pytest.raises(OptionsError, match="settings"):
        hriusr.load(tmp_path / "net.onnx", settings={"window_size": 8})
