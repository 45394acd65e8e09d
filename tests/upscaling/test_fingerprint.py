"""A run goes on only where an earlier one of the same network was cut off."""

import torch
from torch import nn

from hriusr.archs.registry import build_network
from hriusr.archs.variants import VARIANTS
from hriusr.upscaling.ensembles import SelfEnsemble
from hriusr.upscaling.fingerprint import network_fingerprint
from hriusr.upscaling.picture_upscaler import PictureUpscaler

OPT = VARIANTS["swinir_tiny_x2"].network_opt()


def built(**settings):
    torch.manual_seed(0)
    return build_network({**OPT, **settings})


def identity(network):
    return PictureUpscaler(network, device=torch.device("cpu")).identity()


def test_equal_networks_have_one_identity():
    assert identity(built()) == identity(built().eval())


def test_a_setting_without_weights_changes_the_identity():
    assert identity(built()) != identity(built(img_range=0.25))


def test_weights_and_ensembles_change_the_fingerprint():
    other = built()
    with torch.no_grad():
        next(other.parameters()).view(-1)[0] += 1
    found = {network_fingerprint(network) for network in (built(), other, SelfEnsemble(built()))}
    assert len(found) == 3


def test_a_buffer_that_is_not_stored_counts():
    class Shifted(nn.Module):
        upscale = 1

        def __init__(self, mean):
            super().__init__()
            self.register_buffer("mean", torch.tensor(mean), persistent=False)

    assert network_fingerprint(Shifted(0.5)) != network_fingerprint(Shifted(0.25))


def test_another_version_of_the_package_begins_anew(monkeypatch):
    before = identity(built())
    monkeypatch.setattr("hriusr.upscaling.picture_upscaler.__version__", "0.0.1")
    assert identity(built()) != before
