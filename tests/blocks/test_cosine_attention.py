"""Cosine attention against timm's Swin V2 and spandrel's Swin2SR."""

import math

import pytest
import torch

from hriusr.blocks.cosine_attention import CosineWindowAttention, log_spaced_offsets
from hriusr.blocks.windows import window_merge, window_partition


def randomised(module: torch.nn.Module) -> torch.nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.3)
    return module


def without_buffers(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach() for name, value in module.named_parameters()}


def test_offsets_are_symmetric_and_logarithmic():
    table = log_spaced_offsets(8)
    assert table.shape == (15, 15, 2)
    assert torch.equal(table, -table.flip(0, 1))
    assert table[14, 7].tolist() == pytest.approx([math.log2(9) / 3, 0])
    assert table[8, 7, 0].item() == pytest.approx(math.log2(1 + 8 / 7) / 3)
    assert log_spaced_offsets(1).eq(0).all()


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_unshifted_equals_spandrel_with_its_state_dict(qkv_bias):
    swin2sr = pytest.importorskip("spandrel.architectures.Swin2SR.__arch.Swin2SR")
    reference = randomised(swin2sr.WindowAttention(12, (8, 8), 3, qkv_bias=qkv_bias))
    attention = CosineWindowAttention(12, 8, 3, qkv_bias=qkv_bias)
    attention.load_state_dict(without_buffers(reference))
    x_BHWC = torch.randn(2, 16, 24, 12)
    expected = window_merge(reference(window_partition(x_BHWC, 8)), 8, 16, 24)
    assert torch.allclose(attention(x_BHWC), expected, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(16, 24), (8, 8)])
def test_shifted_equals_timms_swin_v2_attention(height, width):
    timm = pytest.importorskip("timm.models.swin_transformer_v2")
    block = timm.SwinTransformerV2Block(
        12, (height, width), 3, window_size=8, shift_size=4, always_partition=True, dynamic_mask=True
    )
    reference = randomised(block.attn)
    attention = CosineWindowAttention(12, 8, 3, shift_size=4)
    attention.load_state_dict(without_buffers(reference))
    x_BHWC = torch.randn(2, height, width, 12)
    if min(height, width) <= 8:  # timm leaves the shift out of a single window: do it by hand
        block.shift_size = (4, 4)
        block.register_buffer("attn_mask", block.get_attn_mask(), persistent=False)
    assert torch.allclose(attention(x_BHWC), block._attn(x_BHWC), atol=1e-5)


def test_logit_scale_is_held_at_100():
    attention = CosineWindowAttention(4, 4, 1)
    x_BHWC = torch.randn(1, 4, 4, 4)
    with torch.no_grad():
        attention.logit_scale.fill_(math.log(100))
        at_100 = attention(x_BHWC)
        attention.logit_scale.fill_(9)
        assert torch.equal(attention(x_BHWC), at_100)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_zero_and_large_features(dtype):
    attention = CosineWindowAttention(8, 4, 2, qkv_bias=False).to(dtype)
    for value in (0.0, 1e4):
        assert attention(torch.full((1, 4, 4, 8), value, dtype=dtype)).isfinite().all()


def test_gradients_in_float64():
    attention = CosineWindowAttention(4, 2, 2, shift_size=1).double()
    assert torch.autograd.gradcheck(attention, torch.randn(1, 4, 4, 4, dtype=torch.float64, requires_grad=True))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"dim \(=10\) must be divisible by num_heads \(=3\)"):
        CosineWindowAttention(10, 4, 3)
    with pytest.raises(ValueError, match=r"shift_size \(=4\)"):
        CosineWindowAttention(9, 4, 3, shift_size=4)
