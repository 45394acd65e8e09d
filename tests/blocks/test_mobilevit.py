"""MobileViT's patches against index arithmetic, its attention against a loop over places and windows."""

import pytest
import torch

from hriusr.blocks.mobilevit import InvertedResidual, MobileViTBlock, PatchAttention, fold_patches, unfold_patches


@pytest.mark.parametrize(("size", "patch_size"), [((4, 6), 2), ((6, 9), 3), ((3, 5), 1)])
def test_fold_is_the_exact_inverse_of_unfold(size, patch_size):
    x_BHWC = torch.randn(2, *size, 5)
    unfolded = unfold_patches(x_BHWC, patch_size)
    assert unfolded.shape == (2 * patch_size**2, size[0] // patch_size, size[1] // patch_size, 5)
    assert torch.equal(fold_patches(unfolded, patch_size), x_BHWC)
    assert torch.equal(unfold_patches(fold_patches(unfolded, patch_size), patch_size), unfolded)


def test_unfold_gathers_the_pixels_at_one_place_of_all_patches():
    x_BHWC = torch.randn(2, 6, 4, 3)
    unfolded = unfold_patches(x_BHWC, 2).unflatten(0, (2, 2, 2))
    for row in range(2):
        for column in range(2):
            assert torch.equal(unfolded[:, row, column], x_BHWC[:, row::2, column::2])


def attention_by_loops(unit, x_BHWC):
    height, width, dim = x_BHWC.shape[1:]
    q, k, v = unit.qkv(x_BHWC).unflatten(-1, (3, unit.num_heads, -1)).unbind(3)
    window, shift = unit.window_size, unit.shift_size

    def cells(row, column):
        """Window of a pixel in the shifted grid; those at opposite borders are two."""
        return (row - shift) // window, (column - shift) // window

    y = torch.zeros_like(q)
    for row, column in torch.cartesian_prod(torch.arange(height), torch.arange(width)).tolist():
        mates = [(r, c) for r in range(height) for c in range(width) if cells(r, c) == cells(row, column)]
        keys = torch.stack([k[:, r, c] for r, c in mates], 1)  # B, N, h, d
        values = torch.stack([v[:, r, c] for r, c in mates], 1)
        scores = (q[:, row, column, None] * keys).sum(-1) * (dim // unit.num_heads) ** -0.5
        y[:, row, column] = (scores.softmax(1)[..., None] * values).sum(1)
    return unit.proj(y.flatten(-2))


@pytest.mark.parametrize("shift_size", [0, 1, 2])
def test_attention_equals_a_loop_over_positions(shift_size):
    unit = PatchAttention(6, num_heads=2, window_size=3, shift_size=shift_size).double()
    x_BHWC = torch.randn(2, 6, 9, 6, dtype=torch.float64)
    torch.testing.assert_close(unit(x_BHWC), attention_by_loops(unit, x_BHWC), rtol=1e-12, atol=1e-12)


def test_block_equals_a_transformer_on_every_place_by_itself():
    block = _block(num_layers=1).double()
    x_BHWC = torch.randn(1, 4, 4, 6, dtype=torch.float64)
    tokens = torch.nn.functional.silu(block.local(x_BHWC.permute(0, 3, 1, 2))).permute(0, 2, 3, 1)
    tokens = block.expand(tokens)
    mixed = torch.empty_like(tokens)
    for row in range(2):
        for column in range(2):
            mixed[:, row::2, column::2] = block.transformer(tokens[:, row::2, column::2])
    y = torch.nn.functional.silu(block.project(mixed))
    fused = torch.nn.functional.silu(block.fuse(torch.cat((x_BHWC, y), -1).permute(0, 3, 1, 2)))
    torch.testing.assert_close(block(x_BHWC), x_BHWC + fused.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-12)


def _block(num_layers=2, **changes):
    arguments = {"transformer_dim": 8, "num_heads": 2, "patch_size": 2, "window_size": 4, "mlp_ratio": 2.0}
    return MobileViTBlock(6, **arguments | {"drop_paths": [0.0] * num_layers} | changes)


@pytest.mark.parametrize("block", [_block(), InvertedResidual(6, 2.0)], ids=lambda block: type(block).__name__)
def test_block_trains_every_parameter(block):
    block(torch.randn(1, 8, 4, 6)).square().sum().backward()
    assert [name for name, parameter in block.named_parameters() if not parameter.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"window_size": 5}, r"window_size \(=5\) must be a multiple of patch_size \(=2\)"),
        ({"patch_size": 0}, r"patch_size \(=0\)"),
        ({"num_heads": 3}, r"transformer_dim \(=8\) must be divisible by num_heads \(=3\)"),
        ({"mlp_ratio": 0}, r"hidden_features \(=0\)"),
    ],
)
def test_wrong_arguments_name_themselves(arguments, message):
    with pytest.raises(ValueError, match=message):
        _block(**arguments)


def test_inverted_residual_without_channels_is_refused():
    with pytest.raises(ValueError, match=r"expand_ratio \(=0.1\)"):
        InvertedResidual(6, 0.1)
