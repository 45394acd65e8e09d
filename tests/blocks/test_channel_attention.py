"""Channel attention against the independent implementation in spandrel, with the same weights."""

import pytest
import torch

from hriusr.blocks.channel_attention import CAB, ChannelAttention


@pytest.mark.parametrize(
    ("ours", "theirs", "args"),
    [("CAB", "CAB", (36, 3, 30)), ("CAB", "CAB", (144, 24, 24)), ("ChannelAttention", "ChannelAttention", (32, 16))],
)
def test_equal_to_spandrel_with_its_state_dict(ours, theirs, args):
    hat = pytest.importorskip("spandrel.architectures.HAT.__arch.HAT")
    reference = getattr(hat, theirs)(*args)
    module = {"CAB": CAB, "ChannelAttention": ChannelAttention}[ours](*args)
    module.load_state_dict(reference.state_dict())
    x_BCHW = torch.randn(2, args[0], 9, 14)
    assert torch.allclose(module(x_BCHW), reference(x_BCHW), atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "name"), [({"compress_ratio": 20}, "compress_ratio"), ({"squeeze_factor": 20}, "squeeze_factor")]
)
def test_too_few_channels_names_the_argument(arguments, name):
    with pytest.raises(ValueError, match=rf"{name} \(=20\)"):
        CAB(12, **{"compress_ratio": 3, "squeeze_factor": 3, **arguments})
