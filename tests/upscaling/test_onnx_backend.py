"""An ONNX file takes the network's place in tiles; what is no file of ours is refused in one line."""

import builtins

import onnx
import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import save_weights
from hriusr.errors import HriusrError, OptionsError, WeightsError
from hriusr.exporting.export import export_network
from hriusr.upscaling.ensembles import NetworkEnsemble, SelfEnsemble
from hriusr.upscaling.library import Upscaler
from hriusr.upscaling.load_networks import load_networks
from hriusr.upscaling.memory_plan import bytes_per_pixel
from hriusr.upscaling.onnx_backend import load_onnx_network
from hriusr.upscaling.picture_upscaler import PictureUpscaler, TileOptions
from hriusr.upscaling.receptive_field import receptive_reach
from hriusr.upscaling.tiling import tile_upscale


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """Return (folder with net.pth and net.onnx, the network)."""
    folder = tmp_path_factory.mktemp("onnx")
    network_opt = VARIANTS["swinir_tiny_x2"].network_opt() | {"depths": [2], "num_heads": [2]}
    network = build_network(network_opt).eval()
    save_weights(folder / "net.pth", network, network_opt)
    export_network(folder / "net.pth", folder / "net.onnx", check=False)
    return folder, network


def test_tiles_of_both_backends_agree(exported):
    folder, network = exported
    lr_BCHW = torch.rand(1, 3, 45, 51)
    options = {"scale": 2, "tile_size": 16, "tile_overlap": 8}
    expected = tile_upscale(network, lr_BCHW, **options)
    found = tile_upscale(load_onnx_network(folder / "net.onnx"), lr_BCHW, **options)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)


def test_memory_is_planned_by_what_the_file_says(exported):
    network = load_onnx_network(exported[0] / "net.onnx")
    assert bytes_per_pixel(network, scale=2, device=torch.device("cpu")) == network.bytes_per_pixel


def test_memory_of_ensembles_is_that_of_their_files(exported):
    alone, other = (load_onnx_network(exported[0] / "net.onnx") for _ in range(2))
    device, known = torch.device("cpu"), alone.bytes_per_pixel
    assert bytes_per_pixel(SelfEnsemble(alone), scale=2, device=device) == known
    assert bytes_per_pixel(NetworkEnsemble([alone, other]), scale=2, device=device) == 2 * known
    mixed = SelfEnsemble(NetworkEnsemble([alone, exported[1]]))
    assert bytes_per_pixel(mixed, scale=2, device=device) > known


def test_reach_of_ensembles_is_that_of_the_network(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("HRIUSR_CACHE", str(tmp_path))
    file = load_onnx_network(exported[0] / "net.onnx")
    found = [receptive_reach(network, scale=2) for network in (file, SelfEnsemble(file), NetworkEnsemble([file, file]))]
    assert found[0] == found[1] == found[2] == receptive_reach(exported[1], scale=2)


def test_a_precision_without_effect_is_refused(exported):
    network = load_onnx_network(exported[0] / "net.onnx")
    for refuse in (
        lambda: PictureUpscaler(SelfEnsemble(network), device=torch.device("cpu"), options=TileOptions("bf16")),
        lambda: Upscaler(network, device="cpu").upscale(torch.rand(3, 4, 4), precision="bf16"),
    ):
        with pytest.raises(OptionsError, match=r"precision \(=bf16\) cannot change an ONNX file, which .* fp32"):
            refuse()


def test_the_device_reaches_the_session(exported, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "hriusr.upscaling.load_networks.load_onnx_network",
        lambda path, device: seen.append(device) or load_onnx_network(path),
    )
    load_networks([exported[0] / "net.onnx"], device="cpu")
    assert seen == ["cpu"]


def test_threads_reach_the_session(exported):
    network = load_onnx_network(exported[0] / "net.onnx", threads=3)
    assert network.session.get_session_options().intra_op_num_threads == 3
    with pytest.raises(OptionsError, match=r"threads \(=0\)"):
        load_onnx_network(exported[0] / "net.onnx", threads=0)


def test_foreign_damaged_and_missing_files_are_refused(exported, tmp_path):
    content = (exported[0] / "net.onnx").read_bytes()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    for name, message in (
        ("cut.onnx", "cannot load"),
        ("foreign.onnx", "not made by hriusr export"),
        ("missing.onnx", "no such file"),
        ("n" * 300 + ".onnx", "File name too long"),
    ):
        with pytest.raises(WeightsError, match=message) as caught:
            load_onnx_network(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_missing_onnxruntime_is_told_with_the_remedy(exported, monkeypatch):
    true_import = builtins.__import__

    def without_onnxruntime(name, *arguments, **keywords):
        if name == "onnxruntime":
            raise ImportError(name=name)
        return true_import(name, *arguments, **keywords)

    monkeypatch.setattr(builtins, "__import__", without_onnxruntime)
    with pytest.raises(HriusrError, match=r"pip install .hriusr\[onnx\]"):
        load_onnx_network(exported[0] / "net.onnx")


def test_a_gpu_that_onnxruntime_lacks_is_refused(exported):
    with pytest.raises(OptionsError, match="CPU only"):
        load_onnx_network(exported[0] / "net.onnx", device="cuda:7" if torch.cuda.is_available() else "mps")
