"""Weights rewritten for other programs: spandrel's loader is asked, and our own."""

import os

import pytest
import torch

from hriusr.archs.convert import convert_weights
from hriusr.archs.original_buffers import overlap_index, with_original_buffers
from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import load_weights, network_from_weights, read_weights_file, save_weights
from hriusr.checked_file import write_checked
from hriusr.errors import HriusrError, OptionsError, WeightsError
from tests.archs.spandrel_networks import randomise, spandrel_class

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore:__floordiv__")

TINY = {
    "SwinIR": VARIANTS["swinir_tiny_x2"].network_opt(),
    "HAT": VARIANTS["hat_tiny_x2"].network_opt() | {"upsampler": "pixelshuffle"},
    "Swin2SR": VARIANTS["swin2sr_tiny_x2"].network_opt() | {"num_feat": 64, "upsampler": "pixelshuffle"},
    "jpeg": VARIANTS["swinir_tiny_x2"].network_opt()
    | {"upsampler": "", "upscale": 1, "window_size": 7, "img_range": 255.0, "in_chans": 1},
}


def save_random(path, network_opt):
    network = randomise(build_network(network_opt))
    save_weights(path, network, network_opt)
    return network


def assert_equal_outputs(ours, theirs, in_chans=3, side=21):
    lr_BCHW = torch.rand(1, in_chans, side, side)
    with torch.no_grad():
        expected = theirs(lr_BCHW)
        assert (ours(lr_BCHW) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("name", TINY)
def test_spandrel_loads_the_pth_with_equal_outputs(tmp_path, name):
    spandrel = pytest.importorskip("spandrel")
    network = save_random(tmp_path / "net.safetensors", TINY[name])
    result = convert_weights(tmp_path / "net.safetensors", tmp_path / "net.pth")
    assert result.notes == []
    descriptor = spandrel.ModelLoader().load_from_file(tmp_path / "net.pth")
    assert descriptor.architecture.id == TINY[name]["type"]
    assert descriptor.scale == TINY[name]["upscale"]
    assert_equal_outputs(network, descriptor.model.eval(), network.in_chans)


@pytest.mark.parametrize("img_size", [8, 12, 50, 64])
@pytest.mark.parametrize("type_name", ["SwinIR", "HAT", "Swin2SR"])
def test_rebuilt_buffers_are_those_of_spandrels_network(type_name, img_size):
    pytest.importorskip("spandrel")
    network_opt = complete_network_opt(TINY[type_name] | {"img_size": img_size})
    buffers = with_original_buffers({}, network_opt)
    arguments = {name: value for name, value in network_opt.items() if name not in ("type", "num_feat")}
    if img_size == 50 and type_name != "HAT":  # not a multiple of the window: theirs dies
        arguments["img_size"] = 64
    expected = dict(spandrel_class(type_name)(**arguments).named_buffers())
    assert buffers.keys() == expected.keys()
    for name, tensor in buffers.items():
        assert torch.equal(tensor, expected[name]) or torch.allclose(tensor, expected[name], atol=1e-6), name
        assert tensor.dtype == expected[name].dtype


def test_hats_published_index_runs_below_zero():
    index = overlap_index(16, 24)
    assert index.shape == (256, 576)
    assert (index.min(), index.max()) == (-880, 640)


@pytest.mark.parametrize("key", ["params", "params_ema", "bare", "module"])
def test_foreign_file_becomes_ours_and_back(tmp_path, key):
    pytest.importorskip("spandrel")
    arguments = {name: value for name, value in TINY["HAT"].items() if name not in ("type", "num_feat")}
    theirs = randomise(spandrel_class("HAT")(**arguments, img_size=8))
    state = theirs.state_dict()
    content = {"bare": state, "module": {f"module.{name}": tensor for name, tensor in state.items()}}
    torch.save(content.get(key, {key: state}), tmp_path / "hat.pth")
    result = convert_weights(tmp_path / "hat.pth", tmp_path / "hat.safetensors")
    assert not result.says_network
    assert set(result.found.assumed) == {"conv_scale", "img_range"}
    assert result.num_parameters == sum(parameter.numel() for parameter in theirs.parameters())
    assert_equal_outputs(network_from_weights(tmp_path / "hat.safetensors"), theirs)
    convert_weights(tmp_path / "hat.safetensors", tmp_path / "again.pth")
    again = torch.load(tmp_path / "again.pth", weights_only=True)["params"]
    assert again.keys() == state.keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in state.items())


def test_params_or_ema_are_taken_on_wish(tmp_path):
    network_opt = TINY["SwinIR"]
    network, ema = (randomise(build_network(network_opt)) for _ in range(2))
    save_weights(tmp_path / "net.pth", network, network_opt, {"iteration": 7}, ema=ema)
    for prefer_ema, expected in ((True, ema), (False, network)):
        convert_weights(tmp_path / "net.pth", tmp_path / "out.safetensors", prefer_ema=prefer_ema, overwrite=True)
        file = read_weights_file(tmp_path / "out.safetensors")
        assert torch.equal(file.state["conv_first.weight"], expected.conv_first.weight)
        assert file.metadata == {"iteration": 7}
        assert file.network_opt == complete_network_opt(network_opt)


@pytest.mark.parametrize(("dtype", "tolerance"), [("fp16", 2e-3), ("bf16", 2e-2)])
def test_half_precision_halves_the_file_and_loads_into_fp32(tmp_path, dtype, tolerance):
    network = save_random(tmp_path / "net.safetensors", VARIANTS["hriusr_tiny_x2"].network_opt())
    convert_weights(tmp_path / "net.safetensors", tmp_path / "half.safetensors", dtype=dtype)
    full, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("net", "half"))
    assert half < 0.6 * full
    rebuilt = network_from_weights(tmp_path / "half.safetensors")
    for name, parameter in rebuilt.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.allclose(parameter, network.get_parameter(name), rtol=tolerance, atol=tolerance)


def test_value_too_large_for_fp16_is_refused(tmp_path):
    network_opt = TINY["SwinIR"]
    network = build_network(network_opt)
    torch.nn.init.constant_(network.norm.weight, 1e5)
    save_weights(tmp_path / "net.pth", network, network_opt)
    with pytest.raises(WeightsError, match=r"norm\.weight holds values up to 1e\+05: too large for fp16"):
        convert_weights(tmp_path / "net.pth", tmp_path / "half.pth", dtype="fp16")
    assert not (tmp_path / "half.pth").exists()


def test_own_network_as_pth_is_read_from_its_tensors_exactly(tmp_path):
    network_opt = VARIANTS["mobilevit_sr_tiny_x2"].network_opt()
    network = save_random(tmp_path / "net.safetensors", network_opt)
    convert_weights(tmp_path / "net.safetensors", tmp_path / "net.pth")
    content = torch.load(tmp_path / "net.pth", weights_only=True)
    torch.save(content["params"], tmp_path / "bare.pth")
    assert load_weights(tmp_path / "bare.pth")[1] == complete_network_opt(network_opt)
    assert_equal_outputs(network_from_weights(tmp_path / "bare.pth"), network)


def test_what_others_would_take_for_another_network_is_said(tmp_path):
    save_random(tmp_path / "net.pth", TINY["HAT"] | {"conv_scale": 0.3, "upsampler": "pixelshuffledirect"})
    notes = convert_weights(tmp_path / "net.pth", tmp_path / "out.pth").notes
    assert notes == [
        "the original code of HAT and spandrel do not know upsampler='pixelshuffledirect'",
        "programs that read the tensors only take conv_scale=0.01, not 0.3",
    ]


def test_settings_replace_what_the_file_says(tmp_path):
    save_random(tmp_path / "net.pth", TINY["HAT"])
    convert_weights(tmp_path / "net.pth", tmp_path / "out.safetensors", settings={"conv_scale": 0.5})
    assert load_weights(tmp_path / "out.safetensors")[1]["conv_scale"] == 0.5


def test_nothing_is_replaced_unasked_and_nothing_half_written(tmp_path, monkeypatch):
    save_random(tmp_path / "net.pth", TINY["SwinIR"])
    target = tmp_path / "out.safetensors"
    target.write_bytes(b"precious")
    with pytest.raises(WeightsError, match="exists"):
        convert_weights(tmp_path / "net.pth", target)
    with pytest.raises(WeightsError, match="is the input itself"):
        convert_weights(tmp_path / "net.pth", tmp_path / "net.pth", overwrite=True)
    with pytest.raises(OptionsError, match="must end in"):
        convert_weights(tmp_path / "net.pth", tmp_path / "net.onnx")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HriusrError, match="No space left"):
        convert_weights(tmp_path / "net.pth", target, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["net.pth", "out.safetensors"]


RRDB = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 2}


@pytest.mark.parametrize("ending", [".safetensors", ".pth"])
def test_esrgan_is_found_and_stays_readable_for_others(tmp_path, ending):
    spandrel = pytest.importorskip("spandrel")
    network = randomise(build_network(RRDB))
    torch.save({"params_ema": network.state_dict()}, tmp_path / "esrgan.pt")
    convert_weights(tmp_path / "esrgan.pt", tmp_path / f"out{ending}")
    assert_equal_outputs(network_from_weights(tmp_path / f"out{ending}"), network)
    descriptor = spandrel.ModelLoader().load_from_file(tmp_path / f"out{ending}")
    assert descriptor.architecture.id == "ESRGAN"
    assert_equal_outputs(descriptor.model.eval(), network)


def test_esrgan_of_scale_2_is_refused_with_the_reason(tmp_path):
    torch.save(build_network(RRDB | {"scale": 2}).state_dict(), tmp_path / "x2.pth")
    with pytest.raises(WeightsError, match=r"x2\.pth is of an RRDBNet of scale 2, which takes only"):
        convert_weights(tmp_path / "x2.pth", tmp_path / "out.safetensors")


def test_old_esrgan_is_named_and_refused(tmp_path):
    state = {"conv_first.weight": torch.zeros(4, 3, 3, 3), "body.0.rdb1.conv1.weight": torch.zeros(4, 4, 3, 3)}
    torch.save({"params_ema": state}, tmp_path / "esrgan.pth")
    with pytest.raises(WeightsError, match=r"seems to be of RRDBNet \(ESRGAN, Real-ESRGAN\)"):
        convert_weights(tmp_path / "esrgan.pth", tmp_path / "out.safetensors")


def test_written_over_what_a_list_of_checksums_knows(tmp_path):
    source, target = tmp_path / "a.safetensors", tmp_path / "models" / "net_g_latest.pth"
    network = save_random(source, TINY["SwinIR"])
    write_checked(target, b"another")
    convert_weights(source, target, overwrite=True)
    assert_equal_outputs(network, network_from_weights(target))
