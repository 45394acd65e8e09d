"""HRViT-SR: super-resolution by parallel resolutions with cross-shaped attention (HRViT, arXiv:2111.01236).

The first branch keeps the resolution of the picture through the whole network; the others work at 1/2, 1/4, ... of it,
and all exchange their maps before every stage. In the frame of archs/residual_network.py.
"""

import math
from collections.abc import Sequence

from hriusr.archs.residual_network import ResidualNetwork
from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.blocks.cross_resolution import BranchStage, ParallelBranches
from hriusr.blocks.cross_shaped_attention import CrossShapedAttention, HRViTBlock
from hriusr.blocks.drop_path import drop_path_rates


@ARCH_REGISTRY.register()
class HRViTSR(ResidualNetwork):
    """Network for any scale and any size of picture. The defaults are HRViT-SR-light."""

    def __init__(
        self,
        *,
        upscale: int = 2,
        in_chans: int = 3,
        embed_dims: Sequence[int] = (48, 96, 96),
        depths: Sequence[Sequence[int]] = ((6,), (6, 2), (6, 2, 2)),
        head_dim: int = 24,
        stripe_widths: Sequence[int] = (4, 4, 4),
        stripe_lengths: Sequence[int] = (64, 32, 16),
        mlp_ratio: float = 2.0,
        resampling: str = "conv",
        window_size: int = 8,
        drop_path_rate: float = 0.0,
        upsampler: str = "pixelshuffledirect",
        num_feat: int = 64,
        img_range: float = 1.0,
        use_checkpoint: bool = False,
    ) -> None:
        """Build the network.

        Args:
            upscale: scale: 1, 2, 3, 4, 8.
            in_chans: channels of the picture; 3 for RGB, 1 for grey.
            embed_dims: channels of each branch; branch j works at 1 / 2^j of the resolution.
            depths: for each stage, the blocks of each of its branches; the last stage has all branches.
            head_dim: channels of a head; half the channels of a branch are a multiple of it, or fewer than it.
            stripe_widths: for each branch, rows of a horizontal and columns of a vertical stripe, its pixels.
            stripe_lengths: for each branch, the longest a stripe may be, its pixels. By default 64 pixels of the
                picture in every branch: a training patch of 64 x 64 shows no longer ones, and tiles start at multiples.
            mlp_ratio: hidden channels of the feed-forward parts, in parts of the branch's channels.
            resampling: how maps shrink between branches: "conv" as in HRViT, "imprinting" or "merging".
            window_size: side of the imprinting's windows, pixels; a multiple of 2^(branches - 1). Without effect
                otherwise.
            drop_path_rate: stochastic depth of the last stage's blocks; grows linearly over the stages.
            upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv"; "" at upscale 1.
            num_feat: channels inside the upsampler ("pixelshuffledirect" has none).
            img_range: what the range 0..1 of pixels is stretched to inside.
            use_checkpoint: recompute blocks in the backward pass: less memory, more time.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        check_branches(embed_dims, depths, stripe_widths, stripe_lengths)
        stages = []
        for numbers, (drop_path,) in zip(depths, drop_path_rates(drop_path_rate, [1] * len(depths)), strict=True):
            branches = []
            for branch, depth in enumerate(numbers):
                dim = embed_dims[branch]
                blocks = [
                    HRViTBlock(
                        dim,
                        CrossShapedAttention(dim, head_dim, stripe_widths[branch], stripe_lengths[branch]),
                        mlp_ratio,
                        drop_path,
                    )
                    for _ in range(depth)
                ]
                branches.append(BranchStage(dim, blocks, use_checkpoint))
            stages.append(branches)
        body = ParallelBranches(embed_dims, stages, resampling=resampling, head_dim=head_dim, window_size=window_size)
        coarsest = 2 ** (len(embed_dims) - 1)
        repeats = [
            math.lcm(width, length) * 2**branch
            for branch, (width, length) in enumerate(zip(stripe_widths, stripe_lengths, strict=True))
        ]
        pad_multiple = coarsest
        if resampling == "imprinting" and len(embed_dims) > 1:
            pad_multiple = window_size * coarsest // 2  # whole windows on the coarsest map that is imprinted
        super().__init__(
            body,
            in_chans=in_chans,
            embed_dim=embed_dims[0],
            upscale=upscale,
            upsampler=upsampler,
            num_feat=num_feat,
            img_range=img_range,
            pad_multiple=pad_multiple,
            size_multiple=math.lcm(pad_multiple, *repeats),
        )


def check_branches(
    embed_dims: Sequence[int],
    depths: Sequence[Sequence[int]],
    stripe_widths: Sequence[int],
    stripe_lengths: Sequence[int],
) -> None:
    """Refuse lists that do not fit together.

    Raises:
        ValueError: by name; see HRViTSR.
    """
    for name, values in (("stripe_widths", stripe_widths), ("stripe_lengths", stripe_lengths)):
        if len(values) != len(embed_dims):
            raise ValueError(
                f"{name} (={list(values)}) must have one number a branch of embed_dims ({len(embed_dims)})"
            )
    numbers = [len(stage) for stage in depths]
    if not numbers or 0 in numbers or numbers != sorted(numbers) or numbers[-1] != len(embed_dims):
        raise ValueError(
            f"depths (={[list(stage) for stage in depths]}) must have one list a stage, none shorter than the one "
            f"before, the last as long as embed_dims ({len(embed_dims)})"
        )
    if min(min(stage) for stage in depths) < 1:
        raise ValueError(f"depths (={[list(stage) for stage in depths]}) must be numbers of at least 1")
