"""HRViT's attention against a loop over pixels and stripes, its shortcut against a Kronecker product, MixCFN."""

import pytest
import torch
import torch.nn.functional as F

from hriusr.blocks.cross_shaped_attention import (
    CrossShapedAttention,
    DiversityShortcut,
    HRViTBlock,
    attend_in_stripes,
)
from hriusr.blocks.mix_cfn import MixCFN


def stripes_by_loops(q_BHWC, v_BHWC, stripe_size, num_heads):
    height, width, dim = q_BHWC.shape[1:]
    q, v = (x.unflatten(-1, (num_heads, -1)) for x in (q_BHWC, v_BHWC))
    y = torch.empty_like(q)
    for row in range(height):
        for column in range(width):
            top, left = row // stripe_size[0] * stripe_size[0], column // stripe_size[1] * stripe_size[1]
            stripe = v[:, top : top + stripe_size[0], left : left + stripe_size[1]].flatten(1, 2)  # ends with the map
            scores = (q[:, row, column, None] * stripe).sum(-1) * (dim // num_heads) ** -0.5
            y[:, row, column] = (scores.softmax(1)[..., None] * stripe).sum(1)
    return y.flatten(-2)


SIZES = [(4, 6), (5, 7), (1, 1), (2, 11)]  # whole stripes, and not


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("stripe_size", [(2, 3), (3, 2), (1, 6)], ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_stripes_equal_a_loop_with_the_map_as_border(size, stripe_size, grad):
    q_BHWC, v_BHWC = torch.randn(2, 2, *size, 6, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        y_BHWC = attend_in_stripes(q_BHWC, v_BHWC, stripe_size, 2)
    torch.testing.assert_close(y_BHWC, stripes_by_loops(q_BHWC, v_BHWC, stripe_size, 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_attention_equals_loops_both_ways(size):
    unit = CrossShapedAttention(8, head_dim=2, stripe_width=2, stripe_length=5).double()
    torch.nn.init.normal_(unit.layer_scale)
    x_BHWC = torch.randn(2, *size, 8, dtype=torch.float64)
    q, v = unit.qv(x_BHWC).split(8, -1)
    rows = stripes_by_loops(q[..., :4], v[..., :4], (2, 5), 2)
    columns = stripes_by_loops(q[..., 4:], v[..., 4:], (5, 2), 2)
    local = unit.depthwise(F.hardswish(v).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    expected = unit.layer_scale * unit.proj(F.hardswish(torch.cat((rows, columns), -1) + local))
    torch.testing.assert_close(unit(x_BHWC), expected, rtol=1e-12, atol=1e-12)


def test_long_stripes_span_the_map_as_in_the_paper():
    unit = CrossShapedAttention(8, head_dim=4, stripe_width=1, stripe_length=1000).double()
    torch.nn.init.ones_(unit.layer_scale)
    x_BHWC = torch.randn(1, 3, 5, 8, dtype=torch.float64)
    changed = x_BHWC.clone()
    changed[:, 0, 4] += 1
    moved = ((unit(x_BHWC) - unit(changed)).abs().amax((0, 3)) > 1e-9).int()
    cross = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 0, 0, 0, 1]])  # and the 3x3 convolution
    assert torch.equal(moved, cross)


def test_heads_are_narrower_where_there_are_few_channels():
    assert CrossShapedAttention(8, head_dim=32, stripe_width=1, stripe_length=4).num_heads == 1
    assert CrossShapedAttention(96, head_dim=24, stripe_width=1, stripe_length=4).num_heads == 2


def test_attention_starts_at_zero():
    unit = CrossShapedAttention(8, 4, 2, 4)
    assert unit(torch.randn(1, 3, 5, 8)).abs().max() == 0


@pytest.mark.parametrize(("dim", "inner"), [(32, 8), (48, 8), (64, 8), (96, 8), (128, 16), (240, 16), (256, 16)])
def test_shortcut_is_a_kronecker_product_with_gelu_between(dim, inner):
    shortcut = DiversityShortcut(dim).double()
    assert shortcut.inner == inner
    x = torch.randn(3, dim, dtype=torch.float64)
    within, across = shortcut.within, shortcut.across
    first = torch.kron(torch.eye(dim // inner, dtype=torch.float64), within.weight)
    second = torch.kron(across.weight, torch.eye(inner, dtype=torch.float64))
    hidden = F.gelu(x @ first.T + within.bias.repeat(dim // inner))
    expected = hidden @ second.T + across.bias.repeat_interleave(inner)
    torch.testing.assert_close(shortcut(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("dim", "remedy"), [(60, "take 56 or 64"), (180, "take 176 or 192")])
def test_shortcut_names_the_channels_it_could_have(dim, remedy):
    with pytest.raises(ValueError, match=rf"dim \(={dim}\).*{remedy}"):
        DiversityShortcut(dim)


def test_mix_cfn_convolves_one_half_finely_and_one_coarsely():
    ffn = MixCFN(4, 6).double()
    x_BHWC = torch.randn(1, 7, 7, 4, dtype=torch.float64)
    hidden = ffn.fc1(x_BHWC).permute(0, 3, 1, 2)
    mixed = torch.cat((ffn.depthwise3(hidden[:, :3]), ffn.depthwise5(hidden[:, 3:])), 1)
    torch.testing.assert_close(ffn(x_BHWC), ffn.fc2(F.gelu(mixed.permute(0, 2, 3, 1))))


def test_block_trains_every_parameter():
    block = HRViTBlock(16, CrossShapedAttention(16, 4, 2, 4), 2.0, 0.0)
    torch.nn.init.ones_(block.attention.layer_scale)
    block(torch.randn(1, 5, 6, 16)).square().sum().backward()
    assert [name for name, parameter in block.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CrossShapedAttention(60, 24, 2, 4), r"dim \(=60\) must be a multiple of 2 \* head_dim \(=48\)"),
        (lambda: CrossShapedAttention(48, 0, 2, 4), r"head_dim"),
        (lambda: CrossShapedAttention(48, 24, 0, 4), r"stripe_width \(=0\)"),
        (lambda: MixCFN(8, 9), r"hidden_dim \(=9\) must be even"),
    ],
)
def test_wrong_arguments_name_themselves(make, message):
    with pytest.raises(ValueError, match=message):
        make()
