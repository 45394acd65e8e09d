"""SwinIR, HAT and Swin2SR against the independent implementations in spandrel and BasicSR, with the same weights."""

import pytest
import torch

from hriusr.archs.hat_arch import HAT
from hriusr.archs.registry import build_network
from hriusr.archs.swin2sr_arch import Swin2SR
from hriusr.archs.swinir_arch import SwinIR
from hriusr.archs.variants import VARIANTS
from hriusr.archs.weights import network_from_weights
from hriusr.basicsr_bridge import ARCH_REGISTRY, REPLACED
from hriusr.blocks.windows import pad_to_multiple
from tests.archs.spandrel_networks import randomise, spandrel_class

pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid", "ignore:__floordiv__")

SIZES = [(16, 24), (11, 18)]  # a multiple of the window, and not
COMMON = {"embed_dim": 24, "depths": [2, 2], "num_heads": [3, 3], "window_size": 8, "mlp_ratio": 2.0}
HAT_ONLY = {"compress_ratio": 4, "squeeze_factor": 6, "conv_scale": 0.3, "overlap_ratio": 0.5}

SWIN_HEADS = [
    {"upsampler": "pixelshuffle", "upscale": 2},
    {"upsampler": "pixelshuffle", "upscale": 3},
    {"upsampler": "pixelshuffle", "upscale": 4},
    {"upsampler": "pixelshuffledirect", "upscale": 2},
    {"upsampler": "pixelshuffledirect", "upscale": 3},
    {"upsampler": "nearest+conv", "upscale": 4},
    {"upsampler": "nearest+conv", "upscale": 4, "resi_connection": "3conv"},
    {"upsampler": "", "upscale": 1, "in_chans": 1},
    {"upsampler": "", "upscale": 1, "img_range": 255.0, "window_size": 7, "img_size": 56},
]
CASES = [
    *[(SwinIR, head) for head in SWIN_HEADS],
    (SwinIR, {"upsampler": "nearest+conv", "upscale": 8}),
    (SwinIR, {"upsampler": "pixelshuffle", "upscale": 2, "patch_norm": False, "qkv_bias": False}),
    *[(Swin2SR, head) for head in SWIN_HEADS],
    (Swin2SR, {"upsampler": "pixelshuffledirect", "upscale": 2, "patch_norm": False, "qkv_bias": False}),
    *[(HAT, {"upsampler": "pixelshuffle", "upscale": scale, **HAT_ONLY}) for scale in (2, 3, 4)],
    (HAT, {"upsampler": "pixelshuffle", "upscale": 2, **HAT_ONLY, "resi_connection": "identity", "qkv_bias": False}),
]


def case_name(value):
    return (
        value.__name__ if isinstance(value, type) else "-".join(f"{v}" for k, v in value.items() if k not in HAT_ONLY)
    )


def assert_equal_outputs(ours, theirs, size, in_chans=3):
    lr_BCHW = torch.rand(1, in_chans, *size)
    with torch.no_grad():
        expected = theirs(lr_BCHW)
        assert (ours(lr_BCHW) - expected).abs().max() <= 1e-5 * max(1, expected.abs().max())


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("network_type", "arguments"), CASES, ids=case_name)
def test_equal_to_spandrel_with_its_state_dict(network_type, arguments, size):
    pytest.importorskip("spandrel")
    arguments = COMMON | arguments
    theirs = randomise(spandrel_class(network_type.__name__)(**arguments))
    ours = network_type(**arguments).eval()
    ours.load_state_dict(theirs.state_dict())  # strict, with the index buffers and masks that the file has
    assert_equal_outputs(ours, theirs, size, arguments.get("in_chans", 3))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_compressed_swin2sr_equals_spandrel_on_padded_input(size):
    """Padded beforehand, as the original's test script does: its network enlarges other sizes askew."""
    pytest.importorskip("spandrel")
    arguments = COMMON | {"upsampler": "pixelshuffle_aux", "upscale": 2}
    theirs = randomise(spandrel_class("Swin2SR")(**arguments))
    ours = Swin2SR(**arguments).eval()
    ours.load_state_dict(theirs.state_dict())
    lr_BCHW = torch.rand(2, 3, *size)
    with torch.no_grad():
        expected = theirs(pad_to_multiple(lr_BCHW, 8))[..., : 2 * size[0], : 2 * size[1]]
        sr_BCHW, aux_BCHW = ours(lr_BCHW, return_aux=True)
    assert torch.allclose(sr_BCHW, expected, atol=1e-5)
    assert aux_BCHW.shape == lr_BCHW.shape


PUBLISHED = [
    name for name, row in VARIANTS.items() if row.type in ("SwinIR", "HAT", "Swin2SR") and "_tiny_" not in name
]


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_file_of_a_published_size_gives_equal_outputs(tmp_path, name):
    """Whole networks, with the buffers and keys that published files have; nothing but the file says what it is."""
    pytest.importorskip("spandrel")
    row = VARIANTS[name]
    window_size = row.arguments["window_size"]
    img_size = 126 if window_size == 7 else 64
    theirs = randomise(spandrel_class(row.type)(**row.arguments, img_size=img_size))
    torch.save({"params_ema" if row.type == "HAT" else "params": theirs.state_dict()}, tmp_path / "net.pth")
    ours = network_from_weights(tmp_path / "net.pth")
    assert sum(parameter.numel() for parameter in ours.parameters()) == row.parameters
    sizes = [(2 * window_size, 3 * window_size), (window_size + 3, 2 * window_size + 5)]
    for size in sizes[:1] if "compressed" in name else sizes:  # theirs enlarges other sizes askew, see above
        assert_equal_outputs(ours, theirs, size, row.arguments.get("in_chans", 3))


@pytest.mark.parametrize("network_type", [SwinIR, HAT, Swin2SR])
def test_spandrel_reads_the_same_network_from_the_file(network_type):
    """spandrel finds out the sizes by itself, so this also checks what our arguments mean."""
    spandrel = pytest.importorskip("spandrel")
    arguments = COMMON | {"upsampler": "pixelshuffle", "upscale": 2} | (HAT_ONLY if network_type is HAT else {})
    arguments |= {"conv_scale": 0.01} if network_type is HAT else {}  # no file stores it; spandrel takes HAT's
    state_dict = randomise(spandrel_class(network_type.__name__)(**arguments)).state_dict()
    descriptor = spandrel.ModelLoader().load_from_state_dict({"params_ema": dict(state_dict)})
    ours = network_type(**arguments).eval()
    ours.load_state_dict(state_dict)
    assert_equal_outputs(ours, descriptor.model.eval(), (21, 18))


@pytest.mark.parametrize(
    "arguments",
    [
        {"upsampler": "pixelshuffle", "upscale": 3},
        {"upsampler": "pixelshuffledirect", "upscale": 2},
        {"upsampler": "nearest+conv", "upscale": 4, "resi_connection": "3conv"},
        {"upsampler": "", "upscale": 1},
    ],
    ids=case_name,
)
def test_swinir_replaces_basicsrs_with_equal_outputs(arguments):
    assert ARCH_REGISTRY.get("SwinIR") is SwinIR
    theirs = randomise(REPLACED["arch", "SwinIR"](**COMMON, **arguments))
    ours = SwinIR(**COMMON, **arguments).eval()
    ours.load_state_dict(theirs.state_dict())
    assert_equal_outputs(ours, theirs, (16, 24))  # BasicSR's takes multiples of the window only


@pytest.mark.parametrize("network_type", [SwinIR, HAT, Swin2SR])
def test_loading_still_refuses_foreign_keys_and_leaves_the_file_alone(network_type):
    network = network_type(**COMMON | (HAT_ONLY if network_type is HAT else {}))
    state_dict = network.state_dict() | {"relative_position_index_SA": torch.zeros(2)}
    state_dict["layers.0.residual_group.blocks.1.attn_mask"] = torch.zeros(3)
    keys = set(state_dict)
    torch.nn.ModuleDict({"wrapped": network}).load_state_dict({f"wrapped.{k}": v for k, v in state_dict.items()})
    network.load_state_dict(state_dict)
    assert set(state_dict) == keys
    with pytest.raises(RuntimeError, match=r"Unexpected key.*conv_extra"):
        network.load_state_dict(state_dict | {"conv_extra.weight": torch.zeros(1)})


@pytest.mark.parametrize("network_type", [SwinIR, HAT, Swin2SR])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"upsampler": "pixelshufle"}, r"upsampler \(='pixelshufle'\) must be one of .*'nearest\+conv'"),
        ({"resi_connection": "2conv"}, r"resi_connection \(='2conv'\) must be one of .*'3conv'"),
        ({"ape": True}, r"ape \(=True\) is not supported"),
        ({"patch_size": 4}, r"patch_size \(=4\) is not supported"),
        ({"drop_rate": 0.1}, r"drop_rate \(=0.1\) is not supported"),
        ({"attn_drop_rate": 0.1}, r"attn_drop_rate \(=0.1\) is not supported"),
        ({"depths": [2, 2, 2]}, r"depths \(=\[2, 2, 2\]\) and num_heads \(=\[3, 3\]\)"),
        ({"upscale": 5}, r"upscale \(=5\) must be 3 or a power of 2"),
        ({"upsampler": "", "upscale": 2}, r"upscale \(=2\) must be 1 without an upsampler"),
        ({"num_heads": [5, 5]}, r"\(=24\) must be divisible by num_heads \(=5\)"),
        ({"window_size": 0}, r"window_size \(=0\)"),
        ({"drop_path_rate": 1.5}, r"drop_path"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_wrong_argument_is_named(network_type, arguments, message):
    with pytest.raises(ValueError, match=message):
        network_type(**COMMON | (HAT_ONLY if network_type is HAT else {}) | arguments)


@pytest.mark.parametrize("network_type", [SwinIR, HAT])
def test_qk_scale_is_refused_by_name(network_type):
    with pytest.raises(ValueError, match=r"qk_scale \(=0.1\) is not supported"):
        network_type(**COMMON, qk_scale=0.1)


def test_aux_output_without_the_aux_head_is_refused():
    network = Swin2SR(**COMMON, upsampler="pixelshuffledirect")
    with pytest.raises(ValueError, match=r"return_aux \(=True\) needs upsampler: pixelshuffle_aux"):
        network(torch.rand(1, 3, 8, 8), return_aux=True)


@pytest.mark.parametrize("network_type", [SwinIR, HAT, Swin2SR])
def test_defaults_build_a_network_that_runs(network_type):
    with torch.device("meta"):
        network = network_type()
        assert network(torch.rand(1, 3, 10, 9)).shape == (1, 3, 20, 18)


NETWORK_G = {  # keys and values as the originals' option files have them
    "HAT": {
        "type": "HAT", "upscale": 4, "in_chans": 3, "img_size": 64, "window_size": 16, "compress_ratio": 3,
        "squeeze_factor": 30, "conv_scale": 0.01, "overlap_ratio": 0.5, "img_range": 1.0,
        "depths": [6, 6, 6, 6, 6, 6], "embed_dim": 180, "num_heads": [6, 6, 6, 6, 6, 6], "mlp_ratio": 2,
        "upsampler": "pixelshuffle", "resi_connection": "1conv",
    },
    "SwinIR": {
        "type": "SwinIR", "upscale": 4, "in_chans": 3, "img_size": 48, "window_size": 8, "img_range": 1.0,
        "depths": [6, 6, 6, 6, 6, 6], "embed_dim": 180, "num_heads": [6, 6, 6, 6, 6, 6], "mlp_ratio": 2,
        "upsampler": "pixelshuffle", "resi_connection": "1conv",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "parameters"), [("HAT", 20_772_507), ("SwinIR", 11_900_199)])
def test_network_g_of_the_originals_option_files_builds(name, parameters):
    with torch.device("meta"):
        network = build_network(NETWORK_G[name])
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize("network_type", [SwinIR, HAT, Swin2SR])
def test_unknown_argument_is_refused(network_type):
    with pytest.raises(TypeError, match="windw_size"):
        network_type(windw_size=8)
