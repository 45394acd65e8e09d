"""Rivals that only the study has: blocks of others in HRIUSR's frame. Importing this registers them."""

from collections.abc import Sequence

from torch import nn

from hriusr.archs.residual_network import ResidualNetwork
from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.blocks.cosine_attention import CosineWindowAttention
from hriusr.blocks.swin_groups import ResidualGroup, SwinV2Block, alternating_shift


@ARCH_REGISTRY.register()
class FramedSwin2SR(ResidualNetwork):
    """Swin2SR's groups (arXiv:2209.11345): cosine scores, norms behind the branches, a 1x1 convolution a group."""

    def __init__(
        self,
        *,
        upscale: int,
        embed_dim: int,
        depths: Sequence[int],
        num_heads: int,
        window_size: int = 8,
        mlp_ratio: float = 2.0,
    ):
        """Build the network; the arguments are those of hriusr.archs.hriusr_arch.HRIUSR."""
        groups = []
        for depth in depths:
            blocks = []
            for number in range(depth):
                shift = alternating_shift(number, window_size)
                attention = CosineWindowAttention(embed_dim, window_size, num_heads, shift_size=shift)
                blocks.append(SwinV2Block(embed_dim, attention, mlp_ratio, drop_path=0.0))
            groups.append(ResidualGroup(embed_dim, blocks, "1conv", use_projection=True))
        super().__init__(
            nn.Sequential(*groups),
            in_chans=3,
            embed_dim=embed_dim,
            upscale=upscale,
            upsampler="pixelshuffledirect",
            num_feat=64,
            img_range=1.0,
            pad_multiple=window_size,
            size_multiple=window_size,
        )
