"""Weights in files: ours round-trip, others' are read, what does not fit is named."""

import os

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import load_weights, network_from_weights, save_weights
from hriusr.archs.weights_fit import apply_weights
from hriusr.errors import HriusrError, WeightsError

RESNET = {"type": "MSRResNet", "num_feat": 8, "num_block": 1, "upscale": 2}


@pytest.fixture
def network():
    return build_network(RESNET)


def assert_same_state(state, expected):
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_saved_network_is_rebuilt_from_the_file_alone(tmp_path, network, ending):
    path = tmp_path / f"net{ending}"
    save_weights(path, network, RESNET, {"iteration": 7})
    rebuilt = network_from_weights(path)
    assert_same_state(rebuilt.state_dict(), network.state_dict())
    assert not rebuilt.training
    lr_BCHW = torch.rand(1, 3, 8, 9)
    assert torch.equal(rebuilt(lr_BCHW), network.eval()(lr_BCHW))


def test_defaults_of_the_constructor_are_stored(tmp_path, network):
    save_weights(tmp_path / "net.pth", network, RESNET)
    _, network_opt = load_weights(tmp_path / "net.pth")
    assert network_opt == {**RESNET, "num_in_ch": 3, "num_out_ch": 3}
    assert complete_network_opt({"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3})["num_block"] == 23


@pytest.mark.parametrize("prefer_ema", [True, False])
def test_ema_is_chosen_on_wish(tmp_path, network, prefer_ema):
    ema = build_network(RESNET)
    save_weights(tmp_path / "net.pth", network, RESNET, ema=ema)
    state, _ = load_weights(tmp_path / "net.pth", prefer_ema)
    assert_same_state(state, (ema if prefer_ema else network).state_dict())


@pytest.mark.parametrize("wrap", ["bare", "params", "params_ema", "state_dict", "module", "compiled"])
def test_files_of_other_trainers_are_read(tmp_path, network, wrap):
    state = network.state_dict()
    content = {
        "bare": state,
        "params": {"params": state},
        "params_ema": {"params_ema": state},
        "state_dict": {"state_dict": state, "epoch": 3},
        "module": {"params": {f"module.{name}": tensor for name, tensor in state.items()}},
        "compiled": {f"module._orig_mod.{name}": tensor for name, tensor in state.items()},
    }[wrap]
    torch.save(content, tmp_path / "net.pth")
    loaded, network_opt = load_weights(tmp_path / "net.pth")
    assert_same_state(loaded, state)
    assert network_opt is None


def test_strict_load_names_what_does_not_fit_and_what_the_file_is(tmp_path, network):
    save_weights(tmp_path / "net.pth", network, RESNET)
    state, network_opt = load_weights(tmp_path / "net.pth")
    other = build_network({"type": "MSRResNet", "num_feat": 12, "num_block": 2, "upscale": 4})
    with pytest.raises(WeightsError) as caught:
        apply_weights(other, state, source="net.pth", network_opt=network_opt)
    message = str(caught.value)
    assert "net.pth does not fit MSRResNet" in message
    assert "6 missing in the file (body.1.conv1.weight, body.1.conv1.bias, body.1.conv2.weight, ...)" in message
    assert "conv_first.weight: file (8, 3, 3, 3), network (12, 3, 3, 3)" not in message  # sorted by name: body first
    assert "body.0.conv1.bias: file (8,), network (12,)" in message
    assert "says that it is of MSRResNet(num_feat=8, num_block=1, upscale=2, else defaults)" in message
    assert "upscale=2" in message
    assert message.index("strict_load_g: false") < message.index("6 missing")


def test_scale_of_the_file_is_said_also_where_it_is_the_default(network):
    opt = complete_network_opt({"type": "MSRResNet", "num_feat": 9})
    with pytest.raises(WeightsError, match=r"MSRResNet\(num_feat=9, upscale=4, else defaults\)"):
        apply_weights(nn.Conv2d(3, 3, 3), network.state_dict(), source="x.pth", network_opt=opt)


def test_unknown_file_is_recognised_by_its_names(network):
    with pytest.raises(WeightsError, match="seems to be of MSRResNet"):
        apply_weights(nn.Conv2d(3, 3, 3), network.state_dict(), source="x.pth", network_opt=None)


def test_loading_in_part_takes_what_fits_and_lists_the_rest(network, caplog):
    four_times = build_network({**RESNET, "upscale": 4})
    left_out = apply_weights(network, four_times.state_dict(), source="x4.pth", network_opt=None, strict=False)
    assert torch.equal(network.conv_first.weight, four_times.conv_first.weight)
    assert left_out == ["in the file only, ignored: upconv2 (2 tensors, 2,336 numbers)"]
    assert "loaded: conv_first, body.0, upconv1, conv_hr, conv_last (12 tensors, " in caplog.text


def test_loading_in_part_skips_other_shapes(network):
    other = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    other["conv_first.weight"] = torch.zeros(8, 1, 3, 3)
    before = network.conv_first.weight.clone()
    left_out = apply_weights(network, other, source="grey.pth", network_opt=None, strict=False)
    assert torch.equal(network.conv_first.weight, before)
    assert torch.equal(network.conv_last.bias, other["conv_last.bias"])
    assert left_out == [
        "of another shape in the file, left at start values: conv_first (1 tensors, 216 numbers), as "
        "conv_first.weight: file (8, 1, 3, 3), network (8, 3, 3, 3)"
    ]


def test_other_network_is_refused_even_in_part_and_leaves_the_network_alone(network):
    wider = build_network({**RESNET, "num_feat": 12})
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(WeightsError, match=r"wide\.pth is of another network: 3 of the 4,531 numbers of MSRResNet fit"):
        apply_weights(network, wider.state_dict(), source="wide.pth", network_opt=None, strict=False)
    assert_same_state(network.state_dict(), before)


def small(type_name, scale, **changes):
    """Return the options of a small network with a head of several layers."""
    name = {"HAT": "hat_tiny_x2", "SwinIR": "swinir_tiny_x2", "HRIUSR": "hriusr_tiny_x2"}[type_name]
    return {**VARIANTS[name].network_opt(), "upsampler": "pixelshuffle", "num_feat": 8, "upscale": scale, **changes}


@pytest.mark.parametrize("type_name", ["SwinIR", "HAT", "HRIUSR"])
def test_x4_starts_from_the_body_of_x2(tmp_path, type_name, caplog):
    """HAT's issue 90: the head of x4 has one layer more, upsample.2."""
    twice = build_network(small(type_name, 2))
    save_weights(tmp_path / "x2.pth", twice, small(type_name, 2))
    state, network_opt = load_weights(tmp_path / "x2.pth")
    torch.manual_seed(1)
    four_times = build_network(small(type_name, 4))
    new = four_times.upsample[2].weight.clone()
    with pytest.raises(WeightsError, match=r"2 missing in the file \(upsample\.2\.weight, upsample\.2\.bias\)"):
        apply_weights(four_times, state, source="x2.pth", network_opt=network_opt)
    left_out = apply_weights(four_times, state, source="x2.pth", network_opt=network_opt, strict=False)
    assert left_out == ["not in the file, left at start values: upsample.2 (2 tensors, 2,336 numbers)"]
    loaded = four_times.state_dict()
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())
    assert torch.equal(four_times.upsample[2].weight, new)
    assert "x2.pth was loaded in part into" in caplog.text


@pytest.mark.parametrize("type_name", ["SwinIR", "HAT", "HRIUSR"])
def test_one_layer_head_of_another_scale_starts_new(type_name):
    options = {"upsampler": "pixelshuffledirect"}
    twice, four_times = build_network(small(type_name, 2, **options)), build_network(small(type_name, 4, **options))
    head = four_times.upsample[0].weight.clone()
    left_out = apply_weights(four_times, twice.state_dict(), source="x2.pth", network_opt=None, strict=False)
    assert len(left_out) == 1
    assert left_out[0].startswith("of another shape in the file, left at start values: upsample.0 (2 tensors, ")
    assert torch.equal(four_times.upsample[0].weight, head)
    assert all(
        torch.equal(tensor, twice.state_dict()[name])
        for name, tensor in four_times.state_dict().items()
        if not name.startswith("upsample")
    )


def test_groups_of_layers_are_counted_together(caplog):
    deeper = build_network(small("SwinIR", 2, depths=[2] * 4, num_heads=[2] * 4))
    shallow = build_network(small("SwinIR", 2))
    left_out = apply_weights(deeper, shallow.state_dict(), source="x.pth", network_opt=None, strict=False)
    assert left_out[0].startswith("not in the file, left at start values: layers.2-3 (")
    assert "loaded: conv_first, patch_embed, layers.0-1, norm, conv_after_body" in caplog.text


def test_missing_file_is_named(tmp_path):
    with pytest.raises(WeightsError, match=r"weights .*absent\.pth: not there"):
        load_weights(tmp_path / "absent.pth")


def test_safetensors_with_metadata_of_others_is_read(tmp_path, network):
    strings = {"format": "pt", "metadata": "trained by hand", "network_g": "[1]"}
    save_file(network.state_dict(), tmp_path / "net.safetensors", strings)
    state, network_opt = load_weights(tmp_path / "net.safetensors")
    assert_same_state(state, network.state_dict())
    assert network_opt is None


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_truncated_file_is_refused(tmp_path, network, ending):
    path = tmp_path / f"net{ending}"
    save_weights(path, network, RESNET)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(WeightsError, match=r"cut short|damaged"):
        load_weights(path)


def test_flipped_bit_is_found(tmp_path, network):
    path = tmp_path / "net.pth"
    save_weights(path, network, RESNET)
    content = bytearray(path.read_bytes())
    position = content.find(network.conv_first.weight.detach().numpy().tobytes())
    content[position + 5] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="checksum"):
        load_weights(path)


def test_code_in_a_file_is_not_run(tmp_path):
    class Payload:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"params": Payload()}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match="more than tensors"):
        load_weights(tmp_path / "net.pth")
    assert not (tmp_path / "ran").exists()


def test_text_under_the_name_of_weights_is_called_so(tmp_path):
    (tmp_path / "net.pth").write_text("# Weights\n")
    with pytest.raises(WeightsError, match=r"net\.pth is no weights file, or a damaged one: give a \.pth"):
        load_weights(tmp_path / "net.pth")


def test_file_without_network_asks_for_an_option_file(tmp_path, network):
    torch.save({"params": network.state_dict()}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=r"does not say with what arguments.*seems to be of MSRResNet.*network_g"):
        network_from_weights(tmp_path / "net.pth")


def test_picture_as_weights_is_refused(tmp_path):
    (tmp_path / "net.pth").write_bytes(b"\x89PNG\r\n" + bytes(100))
    with pytest.raises(WeightsError, match=r"net\.pth"):
        load_weights(tmp_path / "net.pth")


def test_full_disk_is_an_error_and_keeps_the_old_file(tmp_path, network, monkeypatch):
    path = tmp_path / "net.pth"
    save_weights(path, network, RESNET)
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HriusrError, match=r"net\.pth .* No space left on device"):
        save_weights(path, network, RESNET)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["net.pth"]


def test_entry_of_another_name_is_taken_or_missed(tmp_path, network):
    torch.save({"params": network.state_dict(), "generator": {"x": torch.ones(2)}}, tmp_path / "net.pth")
    assert list(load_weights(tmp_path / "net.pth", key="generator")[0]) == ["x"]
    with pytest.raises(WeightsError, match=r"no entry 'parms' with weights; it has params, generator"):
        load_weights(tmp_path / "net.pth", key="parms")
