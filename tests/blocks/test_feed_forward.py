"""The feed-forward block and stochastic depth."""

import pytest
import torch

from hriusr.blocks import gated_feed_forward
from hriusr.blocks.drop_path import DropPath, drop_path_rates
from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.gated_feed_forward import GatedConvMlp


def test_mlp_equals_its_formula():
    mlp = Mlp(6, 13)
    x = torch.randn(2, 3, 5, 6)
    hidden = torch.nn.functional.gelu(x @ mlp.fc1.weight.T + mlp.fc1.bias)
    assert torch.allclose(mlp(x), hidden @ mlp.fc2.weight.T + mlp.fc2.bias, atol=1e-6)
    assert list(mlp.state_dict()) == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]


def test_mlp_dropout_acts_in_training_only():
    mlp = Mlp(6, 12, drop=0.5)
    x = torch.randn(4, 6)
    assert not torch.equal(mlp(x), mlp(x))
    mlp.eval()
    assert torch.equal(mlp(x), mlp(x))


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_gated_mlp_equals_its_formula(kernel_size):
    mlp = GatedConvMlp(6, 10, kernel_size)
    x_BHWC = torch.randn(2, 7, 5, 6)
    hidden_BCHW = mlp.fc1(x_BHWC).permute(0, 3, 1, 2)
    gate = torch.nn.functional.gelu(mlp.depthwise(hidden_BCHW[:, :10]))
    expected = mlp.fc2((gate * hidden_BCHW[:, 10:]).permute(0, 2, 3, 1))
    torch.testing.assert_close(mlp(x_BHWC), expected)


@pytest.mark.parametrize("kernel_size", [3, 5])
@pytest.mark.parametrize("strip", [1, 2, 3, 7])
def test_gated_mlp_by_strips_equals_the_whole(monkeypatch, kernel_size, strip):
    mlp = GatedConvMlp(6, 10, kernel_size)
    x_BHWC = torch.randn(2, 7, 5, 6)
    expected = mlp(x_BHWC)  # with gradients: the whole map
    monkeypatch.setattr(gated_feed_forward, "_STRIP_BYTES", strip * 2 * 5 * 10 * 4)
    tops = []
    monkeypatch.setattr(mlp, "_run", lambda x, top, *rest: tops.append(top) or GatedConvMlp._run(mlp, x, top, *rest))
    with torch.no_grad():
        torch.testing.assert_close(mlp(x_BHWC), expected)
    assert tops == list(range(0, 7, strip))


def test_mlp_without_hidden_features_is_refused():
    with pytest.raises(ValueError, match=r"hidden_features \(=0\)"):
        Mlp(4, 0)


def test_drop_path_drops_whole_samples_and_keeps_the_mean():
    x = torch.ones(4000, 2, 3)
    dropped = DropPath(0.25)(x)
    per_sample = dropped.flatten(1)
    assert torch.equal(per_sample.amin(1), per_sample.amax(1))
    assert sorted(per_sample.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert DropPath(0.25).eval()(x) is x


def test_drop_path_rates_grow_linearly_over_all_blocks():
    rates = drop_path_rates(0.1, (2, 3))
    assert [len(group) for group in rates] == [2, 3]
    assert rates[0] + rates[1] == pytest.approx([0, 0.025, 0.05, 0.075, 0.1])


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_drop_path_rate_out_of_range_is_refused(rate):
    with pytest.raises(ValueError, match="drop_path rate"):
        DropPath(rate)
    with pytest.raises(ValueError, match="drop_path_rate"):
        drop_path_rates(rate, [2])
