"""Our files through spandrel's loader: found by their tensors, outputs equal to ours."""

import importlib
import sys
from pathlib import Path

import pytest
import torch

from hriusr.archs.convert import convert_weights
from hriusr.archs.original_buffers import with_original_buffers
from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import network_from_weights, save_weights
from hriusr.data.image_io import image_to_tensor
from tests.archs.spandrel_networks import randomise

spandrel = pytest.importorskip("spandrel")
plugin = pytest.importorskip("hriusr.spandrel_plugin")

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore:__floordiv__")

SHIPPED = Path(__file__).resolve().parents[1] / "experiments/pretrained_models/hriusr_fast_x2.safetensors"
TINY = {row.type: row.network_opt() for name, row in VARIANTS.items() if name.endswith("_tiny_x2")}


@pytest.fixture
def loader():
    """Return a loader whose registry is spandrel's and ours, without touching the main one."""
    registry = spandrel.MAIN_REGISTRY.copy()
    plugin.install(registry)
    return spandrel.ModelLoader(registry=registry)


def run(network, lr_BCHW):
    with torch.no_grad():
        return network(lr_BCHW).clamp(0, 1)


def test_shipped_weights_give_our_picture(loader, photo):
    lr_BCHW = image_to_tensor(photo("chelsea")[100:137, 150:203])[None]
    descriptor = loader.load_from_file(SHIPPED)
    assert (descriptor.architecture.id, descriptor.scale, descriptor.purpose) == ("HRIUSR", 2, "SR")
    assert (descriptor.input_channels, descriptor.output_channels) == (3, 3)
    assert descriptor.size_requirements.none
    assert descriptor.tiling == spandrel.ModelTiling.SUPPORTED
    assert torch.equal(descriptor(lr_BCHW), run(network_from_weights(SHIPPED), lr_BCHW))


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
@pytest.mark.parametrize("type_name", plugin.OWN)
def test_own_networks_make_the_round_trip(tmp_path, loader, type_name, ending):
    network = randomise(build_network(TINY[type_name]))
    save_weights(tmp_path / "trained.pth", network, TINY[type_name])
    convert_weights(tmp_path / "trained.pth", tmp_path / f"net{ending}")
    descriptor = loader.load_from_file(tmp_path / f"net{ending}")
    assert descriptor.architecture.id == type_name
    lr_BCHW = torch.rand(1, 3, 13, 22)
    assert torch.equal(descriptor(lr_BCHW), run(network, lr_BCHW))


@pytest.mark.parametrize("type_name", plugin.SHARED)
def test_files_without_the_buffers_of_the_originals_are_taken(tmp_path, loader, type_name):
    network_opt = TINY[type_name]
    network = randomise(build_network(network_opt))
    save_weights(tmp_path / "net.safetensors", network, network_opt)
    with pytest.raises(spandrel.UnsupportedModelError):
        spandrel.ModelLoader().load_from_file(tmp_path / "net.safetensors")
    descriptor = loader.load_from_file(tmp_path / "net.safetensors")
    assert descriptor.architecture.id == f"hriusr-{type_name}"
    assert not descriptor.supports_half
    lr_BCHW = torch.rand(1, 3, 13, 22)
    assert torch.equal(descriptor(lr_BCHW), run(network, lr_BCHW))


UNKNOWN_TO_SPANDREL = {
    "num_feat": TINY["SwinIR"] | {"upsampler": "pixelshuffle", "num_feat": 16},
    "bias": TINY["SwinIR"] | {"qkv_bias": False},
    "identity": TINY["SwinIR"] | {"resi_connection": "identity"},
    "hat-head": TINY["HAT"],
    "nearest-x2": TINY["Swin2SR"] | {"upsampler": "nearest+conv", "num_feat": 64},
}


@pytest.mark.parametrize("name", UNKNOWN_TO_SPANDREL)
def test_kinds_that_spandrel_does_not_build_are_ours(loader, name):
    network_opt = complete_network_opt(UNKNOWN_TO_SPANDREL[name])
    network = randomise(build_network(network_opt))
    descriptor = loader.load_from_state_dict(with_original_buffers(network.state_dict(), network_opt))
    assert descriptor.architecture.id == f"hriusr-{network_opt['type']}"
    lr_BCHW = torch.rand(1, 3, 16, 16)
    assert torch.equal(descriptor(lr_BCHW), run(network, lr_BCHW))


@pytest.mark.parametrize("type_name", plugin.SHARED)
def test_published_kinds_stay_spandrels_own(loader, type_name):
    network_opt = complete_network_opt(TINY[type_name] | {"upsampler": "pixelshuffle", "num_feat": 64})
    state = with_original_buffers(build_network(network_opt).state_dict(), network_opt)
    assert loader.load_from_state_dict(state).architecture.id == type_name


@pytest.mark.parametrize("type_name", plugin.OWN)
def test_no_architecture_of_spandrel_takes_ours_for_its_own(type_name):
    state = build_network(TINY[type_name]).state_dict()
    assert [arch.architecture.id for arch in spandrel.MAIN_REGISTRY if arch.detect(state)] == []


def test_install_adds_all_to_any_registry():
    registry = spandrel.ArchRegistry()
    assert plugin.install(registry) == [plugin.architecture_id(name) for name in (*plugin.OWN, *plugin.SHARED)]


@pytest.mark.parametrize("type_name", ["ATD", "CRAFT", "DITN", "OmniSR", "RCAN", "RGT"])
def test_ours_take_no_other_architecture(type_name):
    """Several of these have layers of SwinIR's names."""
    module = importlib.import_module(f"spandrel.architectures.{type_name}")
    state = getattr(module, type_name)().state_dict()
    registry = spandrel.ArchRegistry()
    plugin.install(registry)
    assert [arch.architecture.id for arch in registry if arch.detect(state)] == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("type_name", plugin.OWN)
def test_half_precision_that_is_promised_works(loader, type_name, dtype):
    network = randomise(build_network(TINY[type_name]))
    descriptor = loader.load_from_state_dict(network.state_dict())
    lr_BCHW = torch.rand(1, 3, 16, 20)
    expected = descriptor(lr_BCHW)
    half = descriptor.to(dtype)(lr_BCHW.to(dtype))
    assert half.dtype == dtype
    assert (half.float() - expected).abs().max() < 0.1
    assert (half.float() - expected).abs().mean() < 0.01


def test_shipped_weights_in_fp16_are_the_same_picture(loader, photo):
    lr_BCHW = image_to_tensor(photo("chelsea")[100:132, 150:182])[None]
    descriptor = loader.load_from_file(SHIPPED)
    expected = descriptor(lr_BCHW)
    assert (descriptor.half()(lr_BCHW.half()).float() - expected).abs().max() < 4 / 255


def test_relative_of_swinir_is_left_to_its_own_architecture():
    """SRFormer has SwinIR's names, but for the queries, keys and values of its attention."""
    state = build_network(TINY["SwinIR"]).state_dict()
    relative = {name: tensor for name, tensor in state.items() if ".qkv." not in name}
    other = {**state, "layers.0.residual_group.blocks.0.attn.gate": torch.zeros(1)}
    registry = spandrel.ArchRegistry()
    plugin.install(registry)
    for tensors, ids in ((relative, []), (other, []), (state, ["hriusr-SwinIR"])):
        assert [arch.architecture.id for arch in registry if arch.detect(tensors)] == ids


@pytest.mark.parametrize("pooling", [{"norm": "instance"}, {"channel_attention": "global"}])
def test_network_that_pools_the_picture_discourages_tiles(loader, pooling):
    network = build_network(TINY["HRIUSR"] | pooling)
    assert loader.load_from_state_dict(network.state_dict()).tiling == spandrel.ModelTiling.DISCOURAGED


def test_restoration_at_scale_1(loader):
    network = build_network(TINY["InvolutionSR"] | {"upsampler": "", "upscale": 1, "in_chans": 1})
    descriptor = loader.load_from_state_dict(network.state_dict())
    assert (descriptor.purpose, descriptor.scale, descriptor.input_channels) == ("Restoration", 1, 1)


def test_installing_twice_adds_nothing():
    registry = spandrel.MAIN_REGISTRY.copy()
    assert len(plugin.install(registry)) == 7
    assert plugin.install(registry) == []


def test_missing_spandrel_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel", None)
    monkeypatch.delitem(sys.modules, "hriusr.spandrel_plugin")
    with pytest.raises(ImportError, match="pip install spandrel"):
        import hriusr.spandrel_plugin  # noqa: F401
