"""Dense fusion of parallel resolutions: sizes, paths, sums."""

import pytest
import torch
import torch.nn.functional as F

from hriusr.blocks.cross_resolution import BranchMerge, BranchStage, CrossResolutionFusion, ParallelBranches, build_path

DIMS = (4, 6, 8)
PATHS = {"head_dim": 2, "window_size": 4}


@pytest.mark.parametrize("resampling", ["conv", "imprinting", "merging"])
def test_every_branch_receives_every_branch(resampling):
    fusion = CrossResolutionFusion(2, 3, DIMS, resampling=resampling, **PATHS)
    maps = [torch.randn(1, 8, 12, 4), torch.randn(1, 4, 6, 6)]
    fused = fusion(maps)
    assert [tuple(x.shape) for x in fused] == [(1, 8, 12, 4), (1, 4, 6, 6), (1, 2, 3, 8)]
    for source in range(2):
        changed = [x + (number == source) * torch.rand_like(x) for number, x in enumerate(maps)]
        assert all((x - y).abs().max() > 1e-6 for x, y in zip(fused, fusion(changed), strict=True))


def test_fusion_is_the_sum_of_its_paths():
    fusion = CrossResolutionFusion(2, 2, DIMS, resampling="conv", **PATHS)
    fine, coarse = torch.randn(1, 4, 4, 4), torch.randn(1, 2, 2, 6)
    grown = fusion.paths[0][1].mix(coarse).permute(0, 3, 1, 2)
    grown = F.interpolate(grown, scale_factor=2.0, mode="nearest").permute(0, 2, 3, 1)
    torch.testing.assert_close(fusion([fine, coarse])[0], F.gelu(fine + grown))


@pytest.mark.parametrize("ratio", [2, 4])
def test_shrinking_convolution_is_strided_and_depthwise(ratio):
    path = build_path(0, ratio // 2, DIMS, resampling="conv", **PATHS)
    assert path.depthwise.weight.shape == (4, 1, ratio + 1, ratio + 1)
    assert path.depthwise.stride == (ratio, ratio)


def test_merge_equals_a_linear_over_enlarged_branches_side_by_side():
    merge = BranchMerge((4, 6), 5).double()
    maps = [torch.randn(1, 4, 6, 4, dtype=torch.float64), torch.randn(1, 2, 3, 6, dtype=torch.float64)]
    enlarged = F.interpolate(maps[1].permute(0, 3, 1, 2), size=(4, 6), mode="bilinear", align_corners=False)
    side_by_side = torch.cat((maps[0], enlarged.permute(0, 2, 3, 1)), -1)
    weight = torch.cat([mix.weight for mix in merge.mix], 1)
    torch.testing.assert_close(merge(maps), F.linear(side_by_side, weight, merge.mix[0].bias))


def test_single_map_enters_the_first_stage_as_it_is():
    stage = BranchStage(4, [], use_checkpoint=False)
    body = ParallelBranches((4,), [[stage]], resampling="conv", **PATHS)
    x_BHWC = torch.randn(1, 3, 5, 4)
    torch.testing.assert_close(body(x_BHWC), body.merge([stage(x_BHWC)]))


def test_unknown_resampling_is_named():
    with pytest.raises(ValueError, match=r"resampling \(='pool'\)"):
        build_path(0, 1, DIMS, resampling="pool", **PATHS)
