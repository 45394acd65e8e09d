"""Recomputed modules: the same step with less kept for the backward pass."""

import copy

import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.errors import OptionsError
from hriusr.models.selective_recompute import recompute_modules
from hriusr.models.sr_model import RestorationModel

DEEP = {"type": "MSRResNet", "num_feat": 8, "num_block": 6, "upscale": 2}
WINDOWS = {"type": "SwinIR", "upscale": 2, "embed_dim": 12, "depths": [4], "num_heads": [2], "window_size": 8}


def kept_bytes(network, x_BCHW):
    """What a forward pass keeps for the way back."""
    sizes = {}

    def note(tensor):
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        network(x_BCHW)
    return sum(sizes.values())


@pytest.mark.parametrize(
    ("network_opt", "pattern"), [(DEEP, "body.*"), (WINDOWS, "*.blocks.*")], ids=["MSRResNet", "SwinIR"]
)
def test_fewer_bytes_are_kept_the_more_modules_are_chosen(network_opt, pattern):
    x_BCHW, kept = torch.rand(1, 3, 24, 24), []
    for every in (None, 2, 1):
        network = build_network(network_opt)
        if every:
            names = recompute_modules(network, {"modules": [pattern], "every": every})
            assert len(names) == {2: 3, 1: 6}[every] if network_opt is DEEP else {2: 2, 1: 4}[every]
        kept.append(kept_bytes(network, x_BCHW))
    assert kept[0] > 1.15 * kept[1] > 1.15**2 * kept[2]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_the_same_bit_for_bit(model_opt, batches, precision):
    weights = []
    for recompute in (None, {"modules": ["body.*"], "every": 2}):
        torch.manual_seed(0)
        model = RestorationModel(model_opt(network_g=DEEP, train__recompute=recompute, precision=precision))
        for number, batch in enumerate(batches, start=1):
            model.feed_data(batch)
            model.optimize_parameters(number)
        weights.append(model.checkpoint_files(0, -1).popitem()[1])
    for key in ("params", "params_ema"):
        assert all(torch.equal(weights[0][key][name], weights[1][key][name]) for name in weights[0][key])


def test_copies_of_the_network_use_their_own_weights():
    network = build_network(DEEP)
    recompute_modules(network, {"modules": ["body.*"]})
    twin = copy.deepcopy(network)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    x_BCHW = torch.rand(1, 3, 8, 8)
    assert not torch.equal(twin(x_BCHW), network(x_BCHW))
    assert set(twin.state_dict()) == set(build_network(DEEP).state_dict())


def test_dropped_paths_are_the_same_on_the_way_back():
    network = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Dropout(0.5)))
    plain, x = copy.deepcopy(network), torch.rand(4, 8)
    recompute_modules(network, {"modules": ["0"]})
    for net in (plain, network):
        torch.manual_seed(3)
        net(x).sum().backward()
    assert torch.equal(plain[0][0].weight.grad, network[0][0].weight.grad)


def test_pattern_that_matches_nothing_is_named():
    with pytest.raises(
        OptionsError, match=r"train\.recompute\.modules .*'layers.*match no module of the network; it has conv_first"
    ):
        recompute_modules(build_network(DEEP), {"modules": ["layers.*"]})
