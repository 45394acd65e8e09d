"""Exported networks compute what their networks do, at any size, and a file that does not is never written."""

import copy
import json
import warnings
from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import load_weights, save_weights
from hriusr.errors import HriusrError, OptionsError, WeightsError
from hriusr.exporting import check, export
from hriusr.exporting.capture import exporting_branches
from hriusr.exporting.export import export_network
from hriusr.upscaling.onnx_backend import load_onnx_network

# every family; HRIUSR in three parts of its own
FAMILIES = ["hriusr", "swinir", "hat", "swin2sr", "hrvit_sr", "mobilevit_sr", "involution_sr"]
SMALLEST = {"type": "SwinIR", "upscale": 2, "embed_dim": 8, "depths": [2], "num_heads": [2], "window_size": 4}
SMALLEST |= {"mlp_ratio": 1.0, "upsampler": "pixelshuffledirect"}
SIZES = [(1, 1, 1), (1, 1, 9), (2, 5, 3), (1, 16, 33), (1, 43, 38)]


def wakened(network_opt: dict) -> nn.Module:
    """Return a network in which no gate, scale or head is at its start, where errors could hide."""
    network = build_network(network_opt).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


@pytest.fixture
def weights(tmp_path) -> Path:
    path = tmp_path / "net.safetensors"
    save_weights(path, wakened(SMALLEST), SMALLEST)
    return path


def saved(tmp_path: Path, network_opt: dict) -> tuple[Path, nn.Module]:
    network = wakened(network_opt)
    save_weights(tmp_path / "net.pth", network, network_opt)
    return tmp_path / "net.pth", network


def assert_equal_at_all_sizes(network: nn.Module, exported) -> None:
    for batch, height, width in SIZES:
        lr_BCHW = torch.rand(batch, network.in_chans, height, width)
        with torch.no_grad():
            torch.testing.assert_close(exported(lr_BCHW), network(lr_BCHW), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", [pytest.param(f, marks=[] if f == "swinir" else pytest.mark.slow) for f in FAMILIES])
def test_onnx_equals_the_network_at_every_size(tmp_path, name):
    path, network = saved(tmp_path, VARIANTS[f"{name}_tiny_x2"].network_opt())
    result = export_network(path, tmp_path / "net.onnx")
    assert len(result.errors) == 5
    assert max(result.errors.values()) < 2e-5
    assert_equal_at_all_sizes(network, load_onnx_network(tmp_path / "net.onnx"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"tables": "full"},
        {"tables": "crossed"},
        {"renorm": "l2"},
        {"norm": "instance"},
        {"channel_attention": "global"},
        {"resampling": "merging"},
    ],
    ids=str,
)
def test_variants_of_hriusr_export_too(tmp_path, changes):
    network_opt = VARIANTS["hriusr_tiny_x2"].network_opt() | changes
    path, network = saved(tmp_path, network_opt)
    export_network(path, tmp_path / "net.onnx")
    assert_equal_at_all_sizes(network, load_onnx_network(tmp_path / "net.onnx"))


@pytest.mark.parametrize(
    "changes", [{"renorm": "l2"}, {"window_size": 4, "low_resolution_ratio": 4, "low_resolution_depth": 1}], ids=str
)
def test_variants_of_hriusr_as_torchscript(tmp_path, changes):
    """Windows by number, and windows of one cell that grow."""
    path, network = saved(tmp_path, VARIANTS["hriusr_tiny_x2"].network_opt() | changes)
    export_network(path, tmp_path / "net.pt", to="torchscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.load(tmp_path / "net.pt")
    assert_equal_at_all_sizes(network, script)


@pytest.mark.parametrize("name", FAMILIES)
def test_torchscript_equals_the_network_at_every_size(tmp_path, name):
    path, network = saved(tmp_path, VARIANTS[f"{name}_tiny_x2"].network_opt())
    export_network(path, tmp_path / "net.pt", to="torchscript")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is deprecated
        facts = {"hriusr.json": ""}
        script = torch.jit.load(tmp_path / "net.pt", _extra_files=facts)
    assert_equal_at_all_sizes(network, script)
    assert json.loads(facts["hriusr.json"])["scale"] == 2


@pytest.mark.parametrize("name", [pytest.param(f, marks=[] if f == "swinir" else pytest.mark.slow) for f in FAMILIES])
def test_exported_program_equals_the_network_at_every_size(tmp_path, name):
    path, network = saved(tmp_path, VARIANTS[f"{name}_tiny_x2"].network_opt())
    export_network(path, tmp_path / "net.pt2", to="torch-export")
    facts = {"hriusr.json": ""}
    program = torch.export.load(tmp_path / "net.pt2", extra_files=facts)
    assert_equal_at_all_sizes(network, program.module())
    assert json.loads(facts["hriusr.json"])["network_g"]["type"] == VARIANTS[f"{name}_tiny_x2"].type


def test_safetensors_hold_the_same_network(tmp_path, weights):
    result = export_network(weights, tmp_path / "half.safetensors", to="safetensors", precision="fp16")
    assert 0 < max(result.errors.values()) < 1e-2
    assert (tmp_path / "half.safetensors").stat().st_size < weights.stat().st_size


def test_branches_for_export_equal_the_others():
    for name in FAMILIES:
        network = wakened(VARIANTS[f"{name}_tiny_x2"].network_opt())
        lr_BCHW = torch.rand(2, 3, 33, 20)
        with torch.no_grad():
            expected = network(lr_BCHW)
            with exporting_branches():
                torch.testing.assert_close(network(lr_BCHW), expected, rtol=0, atol=2e-5)


def test_file_says_all_that_tiles_need(tmp_path, weights):
    export_network(weights, tmp_path / "net.onnx", opset=20)
    network = load_onnx_network(tmp_path / "net.onnx", threads=1)
    assert (network.upscale, network.in_chans, network.size_multiple) == (2, 3, 4)
    assert network.network_opt["embed_dim"] == 8
    assert network.bytes_per_pixel > 1000
    model = onnx.load(tmp_path / "net.onnx")
    assert [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim] == [
        "batch",
        3,
        "height",
        "width",
    ]
    assert {item.version for item in model.opset_import if not item.domain} == {20}
    onnx.checker.check_model(model)


def test_half_precision_stores_half(tmp_path, weights):
    for precision in ("fp32", "fp16", "bf16"):
        export_network(weights, tmp_path / f"{precision}.pt", to="torchscript", precision=precision)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripts = {name: torch.jit.load(tmp_path / f"{name}.pt") for name in ("fp32", "fp16", "bf16")}
    found = [next(script.parameters()).dtype for script in scripts.values()]
    assert found == [torch.float32, torch.float16, torch.bfloat16]
    assert all(script(torch.rand(1, 3, 5, 6)).dtype == torch.float32 for script in scripts.values())


def test_wrong_file_is_refused_and_nothing_is_left(tmp_path, weights, monkeypatch):
    true_bytes = export.torchscript_bytes

    def with_another_bias(served, example, facts):
        other = copy.deepcopy(served)
        other.network.conv_first.bias.data += 0.01
        return true_bytes(other, example, facts)

    monkeypatch.setattr(export, "torchscript_bytes", with_another_bias)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(HriusrError, match=r"off by .* nothing is written"):
        export_network(weights, tmp_path / "net.pt", to="torchscript")
    assert sorted(tmp_path.iterdir()) == before
    assert export_network(weights, tmp_path / "net.pt", to="torchscript", check=False).errors == {}


def test_not_a_number_counts_as_an_infinite_error():
    network = wakened(SMALLEST)
    errors = check.largest_errors(network, lambda x: network(x) * float("nan"), 4)
    assert set(errors.values()) == {float("inf")}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"to": "onnx", "precision": "bf16"}, OptionsError, "bf16.*fp16 or fp32"),
        ({"to": "onnx", "opset": 9}, OptionsError, r"opset \(=9\)"),
        ({"to": "torchscript", "opset": 18}, OptionsError, r"opset \(=18\) is for onnx"),
        ({"to": "tflite"}, OptionsError, "tflite.*onnx, torch-export"),
        ({"to": "onnx", "precision": "int8"}, OptionsError, "int8.*fp32, fp16, bf16"),
    ],
)
def test_wrong_options_are_named(tmp_path, weights, options, error, message):
    ending = {"onnx": "onnx", "torchscript": "pt"}.get(options["to"], "onnx")
    with pytest.raises(error, match=message):
        export_network(weights, tmp_path / f"net.{ending}", **options)


def test_endings_and_existing_files_are_respected(tmp_path, weights):
    with pytest.raises(OptionsError, match=r"must end in \.onnx"):
        export_network(weights, tmp_path / "net.pt", to="onnx")
    with pytest.raises(WeightsError, match="the input itself"):
        export_network(weights, weights, to="safetensors", overwrite=True)
    (tmp_path / "net.pt").write_text("mine")
    with pytest.raises(WeightsError, match="exists"):
        export_network(weights, tmp_path / "net.pt", to="torchscript")
    with pytest.raises(OptionsError, match="name a weights file"):
        export_network(SMALLEST, tmp_path / "net.safetensors", to="safetensors")


@pytest.mark.parametrize("to", ["torchscript", "torch-export"])
def test_exported_network_given_as_weights_is_told_from_a_damaged_file(tmp_path, weights, to):
    target = tmp_path / f"net{export.ENDINGS[to]}"
    export_network(weights, target, to=to, check=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WeightsError, match="is an exported network, not a weights file"):
            load_weights(target)


def test_opset_that_the_exporter_cannot_make_is_refused(tmp_path, weights, capfd):
    newest = onnx.defs.onnx_opset_version()
    with pytest.raises(OptionsError, match=rf"opset \(={newest}\) is more than torch's exporter can make.*take \d\d"):
        export_network(weights, tmp_path / "net.onnx", to="onnx", opset=newest, check=False)
    assert not (tmp_path / "net.onnx").exists()
    assert "Traceback" not in "".join(capfd.readouterr())


def test_network_that_enlarges_nothing_is_refused(tmp_path):
    discriminator = {"type": "VGGStyleDiscriminator", "num_in_ch": 3, "num_feat": 4}
    even_alone = {"type": "RRDBNet", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 8, "num_block": 1, "scale": 2}
    for network_opt in (discriminator, even_alone):
        message = f"{network_opt['type']} does not turn pictures of every size into larger ones"
        with pytest.raises(OptionsError, match=message):
            export_network(network_opt, tmp_path / "net.pt", to="torchscript")
        assert not (tmp_path / "net.pt").exists()


def test_folder_that_cannot_be_made_is_found_before_the_work(tmp_path, weights, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setattr(export, "_build", None)
    with pytest.raises(HriusrError, match="cannot make the folder"):
        export_network(weights, tmp_path / "file" / "net.pt", to="torchscript")
