"""The overlapping cross-attention block against HAT's index formula and against spandrel."""

import pytest
import torch
import torch.nn.functional as F

from hriusr.blocks.overlap_attention import OCAB, overlapping_windows


def hat_index(window_size: int, overlap: int) -> torch.Tensor:
    """HAT's index of key relative to query, with its negative values, (P, N); by its formula, cell by cell."""
    key_side = window_size + overlap
    side = 2 * window_size + overlap - 1
    queries = [(y, x) for y in range(window_size) for x in range(window_size)]
    keys = [(y, x) for y in range(key_side) for x in range(key_side)]
    offset = window_size - key_side + 1
    return torch.tensor([[(ky - qy + offset) * side + kx - qx + offset for ky, kx in keys] for qy, qx in queries])


@pytest.mark.parametrize(("window_size", "overlap_ratio"), [(4, 0.5), (7, 0.5), (6, 0), (4, 1)])
def test_bias_equals_the_table_read_by_hats_wrapping_index(window_size, overlap_ratio):
    block = OCAB(8, window_size, overlap_ratio, 2)
    index = hat_index(window_size, int(window_size * overlap_ratio))
    assert torch.equal(block.relative_bias(), block.relative_position_bias_table[index].permute(2, 0, 1))


def test_index_of_the_published_window_wraps_and_stays_a_bijection():
    index = hat_index(16, 8)
    assert (index.min().item(), index.max().item()) == (-880, 640)
    assert (index % 39**2).unique().numel() == 39**2


def test_windows_overlap_and_are_zero_beyond_the_border():
    x_BHWC = torch.rand(2, 8, 12, 3) + 1
    windows = overlapping_windows(x_BHWC, 4, 2)
    assert windows.shape == (2, 2, 3, 3, 6, 6)
    assert torch.equal(windows[:, 1, 1, :, 0:5], x_BHWC[:, 3:8, 3:9].permute(0, 3, 1, 2))
    assert windows[:, 0, :, :, 0].eq(0).all()
    assert windows[:, 1, :, :, 5].eq(0).all()


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@pytest.mark.parametrize("qkv_bias", [True, False])
def test_equal_to_spandrel_with_its_state_dict(qkv_bias):
    hat = pytest.importorskip("spandrel.architectures.HAT.__arch.HAT")
    reference = hat.OCAB(12, (16, 16), 8, 0.5, 3, qkv_bias=qkv_bias, mlp_ratio=2.0)
    block = OCAB(12, 8, 0.5, 3, qkv_bias=qkv_bias)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter.normal_(std=0.3)
    block.load_state_dict(reference.state_dict())
    x_BHWC = torch.randn(2, 16, 24, 12)
    expected = reference(x_BHWC.flatten(1, 2), (16, 24), hat_index(8, 4)).view_as(x_BHWC)
    assert torch.allclose(block(x_BHWC), expected, atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(block(x_BHWC), expected, atol=1e-5)


def test_without_overlap_is_plain_window_attention():
    block = OCAB(8, 4, 0, 2)
    x_BHWC = torch.randn(1, 4, 4, 8)
    q, k, v = block.qkv(x_BHWC).flatten(1, 2).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=block.relative_bias()[None])
    assert torch.allclose(block.attention(x_BHWC), block.proj(expected.transpose(1, 2).reshape(1, 4, 4, 8)), atol=1e-6)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"dim \(=10\) must be divisible by num_heads \(=3\)"):
        OCAB(10, 4, 0.5, 3)
    with pytest.raises(ValueError, match=r"overlap_ratio \(=-0.5\)"):
        OCAB(9, 4, -0.5, 3)
