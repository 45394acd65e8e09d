"""The discriminator against BasicSR's, with its weights, on sizes that are no multiples of 8 too."""

import pytest
import torch

from hriusr.archs.registry import build_network
from hriusr.archs.unet_discriminator_arch import UNetDiscriminatorSN
from hriusr.archs.weights import load_weights
from hriusr.archs.weights_fit import apply_weights
from hriusr.basicsr_bridge import REPLACED, register_package


@pytest.mark.parametrize("skip_connection", [True, False])
def test_published_weights_give_the_output_of_basicsrs_class(skip_connection, tmp_path):
    register_package()
    reference = REPLACED["arch", "UNetDiscriminatorSN"](3, 8, skip_connection)
    torch.save({"params": reference.state_dict()}, tmp_path / "net_d.pth")
    state, _ = load_weights(tmp_path / "net_d.pth")
    network = build_network({"type": "UNetDiscriminatorSN", "num_feat": 8, "skip_connection": skip_connection})
    apply_weights(network, state, source="net_d.pth", network_opt=None)
    x_BCHW = torch.rand(2, 3, 32, 24)
    for _ in range(2):  # each training step moves the estimate of the spectral norm
        torch.testing.assert_close(network(x_BCHW), reference(x_BCHW))
    torch.testing.assert_close(network.state_dict(), reference.state_dict())
    torch.testing.assert_close(network.eval()(x_BCHW), reference.eval()(x_BCHW))


@pytest.mark.parametrize("size", [(8, 8), (37, 50)])
def test_any_size_gets_a_logit_a_pixel(size):
    assert UNetDiscriminatorSN(num_feat=4)(torch.rand(1, 3, *size)).shape == (1, 1, *size)


def test_bf16_leaves_the_state_in_fp32():
    network = UNetDiscriminatorSN(num_feat=4)
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(torch.rand(1, 3, 16, 16))
    logits.float().mean().backward()
    assert logits.dtype == torch.bfloat16
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_convolutions_but_first_and_last_have_unit_spectral_norm():
    network = UNetDiscriminatorSN(num_feat=8)
    for _ in range(30):
        network(torch.rand(1, 3, 8, 8))
    for name in (f"conv{number}" for number in range(1, 9)):
        weight = getattr(network, name).weight.detach()
        assert torch.linalg.matrix_norm(weight.flatten(1), 2) == pytest.approx(1, abs=0.02)
