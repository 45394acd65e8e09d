"""`--backend onnx`: exported once, then found; the pixels of the network."""

import numpy as np
import pytest

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.data.image_io import read_image, write_image
from hriusr.errors import OptionsError, WeightsError
from hriusr.exporting.cached import exported_onnx
from hriusr.upscaling.picture_upscaler import TileOptions
from hriusr.upscaling.upscale import upscale_path


@pytest.fixture
def weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HRIUSR_CACHE", str(tmp_path / "cache"))
    opt = VARIANTS["hat_tiny_x2"].network_opt() | {"depths": [1], "num_heads": [2]}
    save_weights(tmp_path / "net.safetensors", build_network(opt), opt)
    return tmp_path / "net.safetensors"


def test_upscaling_by_onnxruntime_gives_the_same_pixels(tmp_path, weights, photo):
    write_image(tmp_path / "a.png", photo("chelsea")[:51, :130])
    path = exported_onnx(weights)
    written = path.stat().st_mtime_ns
    assert exported_onnx(weights) == path
    assert path.stat().st_mtime_ns == written
    whole = TileOptions(tile_size=0)
    for name, file in (("torch", weights), ("onnx", path)):
        upscale_path(tmp_path / "a.png", tmp_path / f"{name}.png", weights=file, tiles=whole)
    difference = read_image(tmp_path / "torch.png").astype(int) - read_image(tmp_path / "onnx.png")
    assert np.abs(difference).max() <= 1
    write_image(tmp_path / "b.png", photo("chelsea")[:100, :130])
    report = upscale_path(tmp_path / "b.png", weights=path, tiles=TileOptions(tile_size=64))
    assert ["its own means" in note for note in report.outcomes[0].notes] == [True]
    with pytest.raises(OptionsError, match="exact: the network has global pools"):
        upscale_path(tmp_path / "a.png", weights=path, tiles=TileOptions(exact=True))
    with pytest.raises(OptionsError, match="is fixed: leave out compile"):
        upscale_path(tmp_path / "a.png", weights=path, compiles=True)


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(WeightsError, match=r"none\.pth: not there"):
        exported_onnx(tmp_path / "none.pth")
