"""Networks by name."""

import pytest

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


def test_value_the_constructor_refuses_is_an_error_of_the_options():
    with pytest.raises(OptionsError, match=r"network_g \(RRDBNet\)|network_g \(EDSR\)"):
        build_network({"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "upscale": 7})
