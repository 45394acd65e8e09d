"""Networks by name."""

import pytest
import torch

from hriusr.archs.registry import build_network, known_networks, network_signature
from hriusr.errors import OptionsError


def test_networks_of_basicsr_are_known():
    assert {"MSRResNet", "EDSR", "RRDBNet", "SwinIR"} <= set(known_networks())
    assert "num_feat" in network_signature("EDSR").parameters
    assert network_signature("NoSuchNetwork") is None


def test_option_dict_is_left_as_it_was():
    network_opt = {"type": "MSRResNet", "num_feat": 4, "num_block": 1, "upscale": 2}
    before = dict(network_opt)
    build_network(network_opt)
    assert network_opt == before


@pytest.mark.parametrize(
    ("network_opt", "message"),
    [
        ({"num_feat": 4}, "network_g has no `type`"),
        ({"type": "MSRResnet"}, "did you mean 'MSRResNet'?"),
        ({"type": "MSRResNet", "num_feats": 4}, "'num_feats' did you mean 'num_feat'?"),
        ({"type": "RRDBNet"}, "missing a required argument: 'num_in_ch'"),
    ],
)
def test_fault_names_its_remedy(network_opt, message):
    with pytest.raises(OptionsError) as caught:
        build_network(network_opt)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"embed_dim": "abc"}, "embed_dim (='abc') must be a whole number"),
        ({"depths": 2}, "depths (=2) must be a list, each a whole number"),
        ({"depths": [1.5]}, "depths (=[1.5]) must be a list, each a whole number"),
        ({"upscale": True}, "upscale (=True) must be a whole number"),
        ({"overlap_ratio": float("nan")}, "overlap_ratio (=nan) must be a number"),
        ({"overlap_ratio": -1}, "overlap_ratio (=-1) must be at least 0"),
        ({"img_range": 0}, "img_range (=0) must be more than 0"),
        ({"num_heads": -1}, "num_heads (=-1) must be at least 0"),
        ({"compress_ratio": 0}, "compress_ratio (=0) must be more than 0"),
        ({"use_checkpoint": "maybe"}, "use_checkpoint (='maybe') must be true or false"),
        ({"overlap_terms": "xyz"}, "overlap_terms (='xyz') must be some of the letters 'anm'"),
        ({"overlap_terms": 3}, "overlap_terms (=3) must be text or null"),
        (
            {"tables": "foo", "depths": [0], "low_resolution_ratio": 0},
            "tables (='foo') must be one of axial, crossed, full",
        ),
        ({"type": "SwinIR", "num_heads": [0] * 4}, "num_heads (=[0, 0, 0, 0]) must each be at least 1"),
        ({"type": "SwinIR", "depths": [-1] * 4}, "depths (=[-1, -1, -1, -1]) must be at least 0"),
        (
            {"type": "HAT", "img_size": [16, 64], "window_size": 16},
            "img_size (=16) must be more than window_size",
        ),
        (
            {"type": "HRViTSR", "depths": [[4], 4]},
            "depths (=[[4], 4]) must be a list, each a list",
        ),
        ({"type": 3}, "network_g has the `type` 3, which is no name"),
        (
            {"type": "EDSR", "num_in_ch": "three", "num_out_ch": 3},
            "network_g (EDSR, num_in_ch='three', num",
        ),
    ],
)
def test_wrong_value_is_named(change, message):
    with pytest.raises(OptionsError) as caught:
        build_network({"type": "HRIUSR", **change})
    assert message in str(caught.value)


def test_value_the_constructor_refuses_is_an_error_of_the_options():
    with pytest.raises(OptionsError, match=r"network_g \(RRDBNet\)|network_g \(EDSR\)"):
        build_network({"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "upscale": 7})


def test_names_that_basicsr_takes_without_their_ending_are_taken():
    network_opt = {"type": "SRVGGNetCompact", "num_feat": 8, "num_conv": 1, "upscale": 2}
    assert build_network(network_opt)(torch.zeros(1, 3, 4, 4)).shape == (1, 3, 8, 8)
    assert "SRVGGNetCompact" in known_networks()
    assert build_network({**network_opt, "type": "SRVGGNetCompact_basicsr"}).upscale == 2


@pytest.mark.parametrize("type_name", ["BasicVSR", "StyleGAN2Generator", "VGGFeatureExtractor"])
def test_networks_for_video_and_faces_are_not_offered(type_name):
    assert type_name not in known_networks()
    with pytest.raises(OptionsError, match=f"unknown network '{type_name}'"):
        build_network({"type": type_name})
