"""Maps of several resolutions side by side, and their dense fusion (HRNet, arXiv:1908.07919; HRViT, arXiv:2111.01236).

Branch j works at 1 / 2^j of the resolution. Before every stage each branch receives the sum of all branches, resized.

Shapes: B batch, C channels, H W pixels of branch 0, multiples of 2^(branches - 1).
"""

import itertools
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.linear import Linear
from hriusr.blocks.recompute import run_block
from hriusr.blocks.resampling import build_resampling
from hriusr.blocks.swin_groups import channels_first, channels_last


class DepthwiseShrink(nn.Module):
    """HRViT's shrinking path: depth-wise convolution of side r + 1 and stride r, norm, Linear, norm.

    Args:
        dim: channels in.
        out_dim: channels out.
        ratio: r, a power of 2.
    """

    def __init__(self, dim: int, out_dim: int, ratio: int):
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, ratio + 1, ratio, ratio // 2, groups=dim)
        self.mix = nn.Sequential(nn.LayerNorm(dim), Linear(dim, out_dim), nn.LayerNorm(out_dim))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, ceil(H / r), ceil(W / r), out_dim)."""
        return self.mix(channels_last(self.depthwise(channels_first(x_BHWC))))


class Grow(nn.Module):
    """Linear, norm, nearest enlargement by a ratio.

    Args:
        dim: channels in.
        out_dim: channels out.
        ratio: whole number.
    """

    def __init__(self, dim: int, out_dim: int, ratio: int):
        super().__init__()
        self.ratio = ratio
        self.mix = nn.Sequential(Linear(dim, out_dim), nn.LayerNorm(out_dim))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return (B, H r, W r, out_dim)."""
        return self.mix(x_BHWC).repeat_interleave(self.ratio, 1).repeat_interleave(self.ratio, 2)


def build_path(
    source: int, target: int, dims: Sequence[int], *, resampling: str, head_dim: int, window_size: int
) -> nn.Module:
    """Make what carries the map of one branch to another.

    Args:
        source: number of the branch it comes from.
        target: number of the branch it goes to.
        dims: channels of every branch.
        resampling: how maps shrink: "conv" (HRViT's), or "imprinting" or "merging" of blocks/resampling.py.
        head_dim: channels of a head of the imprinting.
        window_size: side of its windows, pixels of the source.

    Raises:
        ValueError: unknown resampling, or window_size does not divide.
    """
    if source == target:
        return nn.Identity()
    if source > target:
        return Grow(dims[source], dims[target], 2 ** (source - target))
    ratio = 2 ** (target - source)
    if resampling == "conv":
        return DepthwiseShrink(dims[source], dims[target], ratio)
    num_heads = max(dims[source] // head_dim, 1)
    shrink = build_resampling(
        resampling, dims[source], dims[target], ratio, grows=False, num_heads=num_heads, window_size=window_size
    )
    return nn.Sequential(shrink, nn.LayerNorm(dims[target]))


class CrossResolutionFusion(nn.Module):
    """From the maps of some branches to those of as many or more: resized sums through a GELU.

    Args:
        num_sources: branches that there are.
        num_targets: branches that there will be; new ones draw from all that there are.
        dims: channels of every branch.
        resampling: see build_path.
        head_dim: see build_path.
        window_size: see build_path.
    """

    def __init__(
        self,
        num_sources: int,
        num_targets: int,
        dims: Sequence[int],
        *,
        resampling: str,
        head_dim: int,
        window_size: int,
    ):
        super().__init__()
        options = {"resampling": resampling, "head_dim": head_dim, "window_size": window_size}
        self.paths = nn.ModuleList(
            nn.ModuleList(build_path(source, target, dims, **options) for source in range(num_sources))
            for target in range(num_targets)
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Fuse maps, each (B, H / 2^j, W / 2^j, C_j)."""
        return [F.gelu(sum(path(x) for path, x in zip(paths, maps, strict=True))) for paths in self.paths]


class BranchStage(nn.Module):
    """One branch of one stage: Linear and depth-wise 3x3 convolution, norm, blocks, norm.

    Args:
        dim: channels C.
        blocks: each (B, H, W, C) -> the same shape.
        use_checkpoint: keep only the blocks' inputs for the backward pass.
    """

    def __init__(self, dim: int, blocks: Sequence[nn.Module], use_checkpoint: bool):
        super().__init__()
        self.embed = Linear(dim, dim)
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.norm1 = nn.LayerNorm(dim)
        self.blocks = nn.ModuleList(blocks)
        self.norm2 = nn.LayerNorm(dim)
        self.use_checkpoint = use_checkpoint

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        x_BHWC = self.norm1(channels_last(self.depthwise(channels_first(self.embed(x_BHWC)))))
        for block in self.blocks:
            x_BHWC = run_block(block, x_BHWC, self.use_checkpoint)
        return self.norm2(x_BHWC)


class BranchMerge(nn.Module):
    """All branches enlarged bilinearly to the first, side by side, through one Linear.

    The Linear is applied before enlarging, branch by branch, and summed: the same values, most of them computed at low
    resolution.

    Args:
        dims: channels of every branch.
        out_dim: channels out.
    """

    def __init__(self, dims: Sequence[int], out_dim: int):
        super().__init__()
        self.mix = nn.ModuleList(Linear(dim, out_dim, bias=number == 0) for number, dim in enumerate(dims))

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return (B, H, W, out_dim)."""
        mixed = [channels_first(mix(x)) for mix, x in zip(self.mix, maps, strict=True)]
        size = mixed[0].shape[-2:]
        enlarged = (F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in mixed[1:])
        return channels_last(sum(enlarged, start=mixed[0]))


class ParallelBranches(nn.Module):
    """Stages of parallel branches, dense fusion before each, one map at the end.

    Args:
        dims: channels of every branch; the first's are those of the input and the output.
        stages: for each stage its branches, from the first on, never fewer than in the stage before.
        resampling: see build_path.
        head_dim: see build_path.
        window_size: see build_path.
    """

    def __init__(
        self,
        dims: Sequence[int],
        stages: Sequence[Sequence[BranchStage]],
        *,
        resampling: str,
        head_dim: int,
        window_size: int,
    ):
        super().__init__()
        options = {"resampling": resampling, "head_dim": head_dim, "window_size": window_size}
        numbers = [1, *(len(branches) for branches in stages)]
        self.fusions = nn.ModuleList(
            CrossResolutionFusion(before, after, dims, **options) for before, after in itertools.pairwise(numbers)
        )
        self.stages = nn.ModuleList(nn.ModuleList(branches) for branches in stages)
        self.merge = BranchMerge(dims, dims[0])

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        maps = [x_BHWC]
        for number, (fusion, branches) in enumerate(zip(self.fusions, self.stages, strict=True)):
            if number > 0 or len(branches) > 1:  # a single map has nothing to fuse with
                maps = fusion(maps)
            maps = [branch(x) for branch, x in zip(branches, maps, strict=True)]
        return self.merge(maps)
