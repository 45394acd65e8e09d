"""Networks found from tensors alone: every named size, files of spandrel's networks, our own without network_g."""

import contextlib
import random

import pytest
import torch

from hriusr.archs.detect import detect_network
from hriusr.archs.marker import MARKER, read_marker, with_marker
from hriusr.archs.original_buffers import with_original_buffers
from hriusr.archs.registry import build_network, complete_network_opt
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import load_weights, network_from_weights, save_weights
from hriusr.errors import WeightsError
from tests.archs.spandrel_networks import randomise, spandrel_class

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore:__floordiv__")

SWIN_FAMILY = ("SwinIR", "HAT", "Swin2SR")


def shapes_of(network_opt):
    with torch.device("meta"):
        state = build_network(network_opt).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def state_on_meta(network_opt):
    with torch.device("meta"):
        return build_network(network_opt).state_dict()


def is_same(value, expected):
    return list(value) == list(expected) if isinstance(expected, (list, tuple)) else value == expected


@pytest.mark.parametrize("name", VARIANTS)
def test_every_named_size_is_found_from_its_shapes(name):
    network_opt = complete_network_opt(VARIANTS[name].network_opt())
    state = state_on_meta(network_opt)
    if network_opt["type"] in SWIN_FAMILY:
        state = with_original_buffers(state, network_opt)  # as published
    found = detect_network(state)
    assert shapes_of(found.network_opt) == shapes_of(network_opt)
    wrong = {key: value for key, value in found.network_opt.items() if not is_same(value, network_opt[key])}
    assert not wrong.keys() - found.doubtful.keys() - {"img_size"}  # which has no effect
    if network_opt["type"] in (*SWIN_FAMILY, "HRIUSR"):
        # one query and one key for all terms: whether they meet each other, no tensor tells
        is_shared = network_opt.get("shares_projections") and network_opt["num_heads"]
        assert set(found.doubtful) == ({"terms"} if is_shared and {*"nm"} <= {*network_opt["terms"]} else set())


def random_arguments(type_name, seed):
    """Small networks of all kinds that spandrel's own class can be and its detection can tell."""
    draw = random.Random(f"{type_name}{seed}")
    window_size = draw.choice([4, 6, 8])
    num_groups = draw.randint(1, 3)
    num_heads = draw.choice([2, 3])
    head = draw.choice(["pixelshuffle", "pixelshuffledirect", "nearest+conv", ""])
    arguments = {
        "embed_dim": num_heads * draw.choice([4, 8]),
        "depths": [draw.randint(2, 3) for _ in range(num_groups)],
        "num_heads": [num_heads] * num_groups,
        "window_size": window_size,
        "img_size": window_size * draw.choice([2, 3]),
        "mlp_ratio": draw.choice([1.5, 2.0, 4.0]),
        "upsampler": head,
        "upscale": {"": 1, "nearest+conv": 4}.get(head) or draw.choice([2, 3, 4]),
        "resi_connection": draw.choice(["1conv", "3conv"]),
        "in_chans": draw.choice([1, 3]),
    }
    if type_name == "HAT":
        arguments |= {"upsampler": "pixelshuffle", "resi_connection": "1conv", "num_feat": draw.choice([16, 64])}
        arguments["upscale"] = draw.choice([2, 3, 4])
        arguments |= {"compress_ratio": draw.choice([2, 3]), "squeeze_factor": draw.choice([3, 4])}
        arguments["overlap_ratio"] = {4: 0.5, 6: 1.0, 8: 0.25}[window_size]  # theirs dies at odd overlaps
    return arguments


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("type_name", SWIN_FAMILY)
def test_file_of_spandrels_network_gives_equal_outputs(tmp_path, type_name, seed):
    pytest.importorskip("spandrel")
    torch.manual_seed(seed)
    arguments = random_arguments(type_name, seed)
    theirs = randomise(spandrel_class(type_name)(**arguments))
    torch.save({"params": theirs.state_dict()}, tmp_path / "net.pth")
    ours = network_from_weights(tmp_path / "net.pth")
    lr_BCHW = torch.rand(1, arguments["in_chans"], 2 * arguments["window_size"], 3 * arguments["window_size"])
    with torch.no_grad():
        expected = theirs(lr_BCHW)
        assert (ours(lr_BCHW) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("type_name", SWIN_FAMILY)
def test_detection_agrees_with_spandrels(type_name, seed):
    spandrel = pytest.importorskip("spandrel")
    arguments = random_arguments(type_name, seed)
    state = spandrel_class(type_name)(**arguments).state_dict()
    found = detect_network(state).network_opt
    descriptor = spandrel.ModelLoader().load_from_state_dict(dict(state))
    assert descriptor.architecture.id == found["type"]
    assert (descriptor.scale, descriptor.input_channels) == (found["upscale"], found["in_chans"])
    model = descriptor.model
    for name in ("window_size", "embed_dim", "mlp_ratio", "img_range", "upsampler"):
        assert getattr(model, name) == found[name], name
    assert [len(layer.residual_group.blocks) for layer in model.layers] == found["depths"]
    if type_name != "HAT":
        assert found["img_size"] == arguments["img_size"]


HRIUSR = {"embed_dim": 24, "depths": [2, 1], "num_heads": 2, "window_size": 4, "low_resolution_ratio": 2}
HRVIT = VARIANTS["hrvit_sr_tiny_x2"].network_opt() | {"stripe_widths": [4, 4], "stripe_lengths": [64, 32]}
MOBILE = VARIANTS["mobilevit_sr_tiny_x2"].network_opt() | {"num_heads": 4, "window_size": 16}
INVOLUTION = VARIANTS["involution_sr_tiny_x2"].network_opt()
OWN = {
    "axial": {"type": "HRIUSR", **HRIUSR},
    "crossed": {"type": "HRIUSR", **HRIUSR, "tables": "crossed", "overlap_terms": "m"},
    "full-am": {"type": "HRIUSR", **HRIUSR, "tables": "full", "terms": "am", "overlap_terms": "n"},
    "m-global": {"type": "HRIUSR", **HRIUSR, "terms": "m", "channel_attention": "global", "norm": "instance"},
    "no-overlap": {"type": "HRIUSR", **HRIUSR, "overlap_ratio": 0, "mlp_ratio": 1.4, "in_chans": 1},
    "merging": {"type": "HRIUSR", **HRIUSR, "resampling": "merging", "channel_attention": "none"},
    "conv": {"type": "HRIUSR", **HRIUSR, "resampling": "conv", "ffn_kernel_size": 0, "upsampler": "pixelshuffle"},
    "no-branch": {"type": "HRIUSR", **HRIUSR, "low_resolution_ratio": 0, "upsampler": "nearest+conv", "upscale": 4},
    "wide": {"type": "HRIUSR", **HRIUSR, "wide_window_size": 8, "depths": [1, 3], "num_convs": 2},
    "shared": {"type": "HRIUSR", **HRIUSR, "shares_projections": True, "overlap_ratio": 0, "ffn": "gated"},
    "shared-an": {"type": "HRIUSR", **HRIUSR, "shares_projections": True, "terms": "an", "overlap_terms": "a"},
    "shared-cosine": {"type": "HRIUSR", **HRIUSR, "shares_projections": True, "similarity": "cosine"},
    "shared-m": {"type": "HRIUSR", **HRIUSR, "shares_projections": True, "terms": "m"},
    "no-attention": {"type": "HRIUSR", "embed_dim": 12, "depths": [0, 2], "num_heads": 0, "ffn": "gated"}
    | {"overlap_ratio": 0, "low_resolution_ratio": 0, "channel_attention": "none"},
    "no-feed-forward": {"type": "HRIUSR", **HRIUSR, "ffn": "none", "num_convs": 2},
    "convs": {"type": "HRIUSR", **HRIUSR, "depths": [0, 0], "overlap_ratio": 0, "low_resolution_ratio": 0},
    "convs-and-branch": {"type": "HRIUSR", **HRIUSR, "depths": [0, 0], "overlap_ratio": 0},
    "wide-last": {"type": "HRIUSR", **HRIUSR, "wide_window_size": 8, "depths": [2, 2], "overlap_ratio": 0},
    "deepest-last": {"type": "HRIUSR", **HRIUSR, "depths": [0, 2], "low_resolution_ratio": 0},
    "shared-no-pixel": {"type": "HRIUSR", **HRIUSR, "shares_projections": True, "depths": [1, 1]}
    | {"channel_attention": "none", "overlap_ratio": 0.1},
    "hrvit-imprinting": {**HRVIT, "resampling": "imprinting", "window_size": 4},
    "hrvit-merging": {**HRVIT, "resampling": "merging"},
    "mobilevit-3conv": {**MOBILE, "depths": [2, 1], "resi_connection": "3conv", "expand_ratio": 1.5},
    "mobilevit-bare": {**MOBILE, "inverted_depth": 0, "resi_connection": "identity"},
    "involution-5": {**INVOLUTION, "kernel_size": 5, "reduction": 2, "upsampler": "", "upscale": 1},
    "involution-9": {**INVOLUTION, "kernel_size": 9, "group_channels": 16},
}


@pytest.mark.parametrize("name", OWN)
def test_own_network_without_network_g_gives_equal_outputs(tmp_path, name):
    network = randomise(build_network(OWN[name]))
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    rebuilt = network_from_weights(tmp_path / "bare.pth")
    lr_BCHW = torch.rand(1, network.in_chans, 9, 14)
    with torch.no_grad():
        assert torch.equal(rebuilt(lr_BCHW), network(lr_BCHW))


def test_what_no_tensor_tells_is_said_and_can_be_set(tmp_path, caplog):
    network_opt = VARIANTS["mobilevit_sr_tiny_x2"].network_opt()
    network = randomise(build_network(network_opt))
    torch.save(network.state_dict(), tmp_path / "bare.pth")
    other = network_from_weights(tmp_path / "bare.pth")
    assert "bare.pth: not in the file, assumed: num_heads=4, patch_size=2, window_size=16" in caplog.text
    caplog.clear()
    settings = {name: network_opt.get(name, 2) for name in ("num_heads", "patch_size", "window_size")}
    same = network_from_weights(tmp_path / "bare.pth", settings=settings)
    assert "assumed" not in caplog.text
    lr_BCHW = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(same(lr_BCHW), network(lr_BCHW))
        assert not torch.equal(other(lr_BCHW), network(lr_BCHW))


def test_swin2sr_without_buffers_doubts_its_window():
    found = detect_network(state_on_meta(VARIANTS["swin2sr_light_x2"].network_opt()))
    assert found.network_opt["window_size"] == 8
    assert list(found.doubtful) == ["window_size"]


def test_jpeg_range_is_taken_at_scale_1_only():
    arguments = VARIANTS["swinir_jpeg_x1"].network_opt()
    assert detect_network(state_on_meta(arguments)).network_opt["img_range"] == 255
    enlarging = {**arguments, "upsampler": "pixelshuffle", "upscale": 2}
    found = detect_network(state_on_meta(enlarging))
    assert found.network_opt["img_range"] == 1
    assert "img_range" in found.doubtful


def test_only_block_that_may_overlap_is_doubted():
    arguments = {"type": "HRIUSR", **HRIUSR, "depths": [0, 0], "low_resolution_ratio": 0}
    assert "overlap_ratio" in detect_network(state_on_meta(arguments)).doubtful


@pytest.mark.parametrize("name", ["axial", "shared", "hrvit-merging", "mobilevit-3conv", "involution-5"])
def test_no_tensor_of_another_shape_is_a_crash(name):
    whole = state_on_meta(OWN[name])
    for changed in whole:
        for replaced in (torch.zeros(()), torch.zeros(0), torch.zeros(3)):
            with contextlib.suppress(WeightsError):
                detect_network({**whole, changed: replaced})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"absolute_pos_embed": torch.zeros(1, 16, 16)}, r"net\.pth has an absolute position embedding"),
        ({"conv_first.1.weight": torch.zeros(16, 12, 3, 3)}, "pixel-unshuffling"),
        ({"conv_last.weight": torch.zeros(1, 16, 3, 3)}, "takes 3 channels and gives 1"),
        ({"upsample.0.weight": torch.zeros(15, 16, 3, 3)}, r"upsample\.0\.weight of 5 entries"),
        ({"conv_first.weight": None}, "lacks conv_first"),
        ({"upsample.0.weight": None}, "no head that is known"),
        ({"layers.0.residual_group.blocks.0.attn.extra": torch.zeros(1)}, "1 unknown to the network"),
    ],
    ids=["ape", "unshuffle", "channels", "scale", "first", "head", "relative"],
)
def test_relative_of_swinir_is_refused_with_the_reason(tmp_path, change, words):
    state = build_network(VARIANTS["swinir_tiny_x2"].network_opt()).state_dict() | change
    torch.save({name: tensor for name, tensor in state.items() if tensor is not None}, tmp_path / "net.pth")
    with pytest.raises(WeightsError, match=words):
        network_from_weights(tmp_path / "net.pth")


def test_marker_says_everything_and_is_taken_out(tmp_path):
    network_opt = complete_network_opt(VARIANTS["hrvit_sr_tiny_x2"].network_opt())
    network = build_network(network_opt)
    state = with_marker(network.state_dict(), network_opt)
    assert read_marker(state) == network_opt
    assert detect_network(state).network_opt == network_opt
    network.load_state_dict(state)  # strict
    torch.save(state, tmp_path / "marked.pth")
    loaded, found = load_weights(tmp_path / "marked.pth")
    assert MARKER not in loaded
    assert found == network_opt


def test_damaged_marker_is_no_marker():
    assert read_marker({MARKER: torch.tensor([1.5, 200.0])}) is None
    assert read_marker({MARKER: "text"}) is None
    assert read_marker({}) is None


def test_safetensors_tells_its_network_by_tensors_too(tmp_path):
    from safetensors.torch import load_file

    network_opt = VARIANTS["swin2sr_tiny_x2"].network_opt()
    save_weights(tmp_path / "net.safetensors", build_network(network_opt), network_opt)
    state = load_file(tmp_path / "net.safetensors")
    assert detect_network(state).network_opt == complete_network_opt(network_opt)
