"""Involution-SR: super-resolution with a kernel for every position (blocks/involution.py, after arXiv:2103.06255).

Groups of involution blocks, each group closed by a convolution and with a residual, in the frame of
archs/residual_network.py. What a pixel sees is bounded and there are no windows, so tiles equal the whole picture.
"""

from collections.abc import Sequence

from torch import nn

from hriusr.archs.residual_network import ResidualNetwork
from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.involution import InvolutionBlock
from hriusr.blocks.swin_groups import ResidualGroup


@ARCH_REGISTRY.register()
class InvolutionSR(ResidualNetwork):
    """Network for any scale and any size of picture. The defaults are Involution-SR-light."""

    def __init__(
        self,
        *,
        upscale: int = 2,
        in_chans: int = 3,
        embed_dim: int = 64,
        depths: Sequence[int] = (6, 6, 6, 6),
        kernel_size: int = 7,
        group_channels: int = 16,
        reduction: int = 4,
        mlp_ratio: float = 2.0,
        drop_path_rate: float = 0.0,
        resi_connection: str = "1conv",
        upsampler: str = "pixelshuffledirect",
        num_feat: int = 64,
        img_range: float = 1.0,
        use_checkpoint: bool = False,
    ) -> None:
        """Build the network.

        Args:
            upscale: scale: 1, 2, 3, 4, 8.
            in_chans: channels of the picture; 3 for RGB, 1 for grey.
            embed_dim: channels of the features; a multiple of group_channels.
            depths: blocks of each group.
            kernel_size: odd side of the involutions' kernels, pixels.
            group_channels: channels that share a kernel.
            reduction: kernels are made through embed_dim // reduction channels.
            mlp_ratio: hidden channels of the feed-forward parts, in parts of embed_dim.
            drop_path_rate: stochastic depth of the last block; grows linearly over the blocks.
            resi_connection: "1conv", "3conv" or "identity": what closes a group.
            upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv"; "" at upscale 1.
            num_feat: channels inside the upsampler ("pixelshuffledirect" has none).
            img_range: what the range 0..1 of pixels is stretched to inside.
            use_checkpoint: recompute blocks in the backward pass: less memory, more time.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        if not depths or min(depths) < 1:
            raise ValueError(f"depths (={list(depths)}) must be at least one number, each at least 1")
        groups = []
        for rates in drop_path_rates(drop_path_rate, depths):
            blocks = [
                InvolutionBlock(
                    embed_dim,
                    kernel_size=kernel_size,
                    group_channels=group_channels,
                    reduction=reduction,
                    mlp_ratio=mlp_ratio,
                    drop_path=rate,
                )
                for rate in rates
            ]
            groups.append(ResidualGroup(embed_dim, blocks, resi_connection, use_checkpoint=use_checkpoint))
        super().__init__(
            nn.Sequential(*groups),
            in_chans=in_chans,
            embed_dim=embed_dim,
            upscale=upscale,
            upsampler=upsampler,
            num_feat=num_feat,
            img_range=img_range,
            pad_multiple=1,
            size_multiple=1,
        )
