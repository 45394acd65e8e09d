"""Shrinking and growing: one interface, Swin's patch merging, imprinting's shortcut."""

import pytest
import torch
from torch import nn
from torchvision.models.swin_transformer import PatchMerging as TorchvisionPatchMerging

from hriusr.blocks.norms import build_norm
from hriusr.blocks.resampling import RESAMPLINGS, ImprintingResize, PatchMerging, build_resampling


@pytest.mark.parametrize("kind", RESAMPLINGS)
@pytest.mark.parametrize("ratio", [2, 4])
@pytest.mark.parametrize("size", [(16, 24), (13, 7), (1, 1)])
def test_all_kinds_have_one_interface(kind, ratio, size):
    shrink, grow = (
        build_resampling(kind, 8, 12, ratio, grows=grows, num_heads=2, window_size=8) for grows in (False, True)
    )
    x = torch.randn(1, *size, 8)
    assert shrink(x).shape == (1, -(-size[0] // ratio), -(-size[1] // ratio), 12)
    assert grow(x).shape == (1, size[0] * ratio, size[1] * ratio, 12)


@pytest.mark.parametrize("size", [(8, 12), (7, 5)])
def test_patch_merging_equals_torchvision(size):
    ours, theirs = PatchMerging(6), TorchvisionPatchMerging(6)
    nn.init.normal_(ours.norm.weight)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, *size, 6)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize(("source", "target"), [(8, 4), (4, 8)])
def test_without_imprinting_the_shortcut_carries_the_map(source, target):
    block = ImprintingResize(4, 4, num_heads=2, source_size=source, target_size=target, mlp_ratio=0)
    nn.init.eye_(block.shortcut.weight)
    nn.init.zeros_(block.shortcut.bias)
    nn.init.zeros_(block.imprint.project_out.weight)
    nn.init.zeros_(block.imprint.project_out.bias)
    flat = torch.full((1, 9, 7, 4), 0.3)  # a border cell counts only the pixels it has
    torch.testing.assert_close(block(flat), torch.full_like(block(flat), 0.3))


def test_defaults_halve_the_map_and_double_the_channels():
    assert ImprintingResize(8, num_heads=2)(torch.randn(1, 16, 16, 8)).shape == (1, 8, 8, 16)


def test_imprinting_needs_a_ratio_of_its_window():
    with pytest.raises(ValueError, match=r"ratio \(=3\).*window_size \(=8\)"):
        build_resampling("imprinting", 8, 8, 3, grows=False, num_heads=2, window_size=8)
    with pytest.raises(ValueError, match=r"resampling \(='pool'\).*imprinting, merging, conv"):
        build_resampling("pool", 8, 8, 2, grows=False, num_heads=2, window_size=8)


def test_layer_norm_looks_at_one_place_and_instance_norm_at_the_map():
    x = torch.randn(1, 6, 6, 4)
    changed = x.clone()
    changed[0, 5, 5] += 10
    for kind, is_local in (("layer", True), ("instance", False)):
        norm = build_norm(kind, 4)
        assert torch.equal(norm(x)[0, 0, 0], norm(changed)[0, 0, 0]) == is_local
    means = build_norm("instance", 4)(x).mean((1, 2))
    torch.testing.assert_close(means, torch.zeros_like(means), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match=r"norm \(='batch'\)"):
        build_norm("batch", 4)
