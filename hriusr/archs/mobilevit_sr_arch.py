"""MobileViT-SR: super-resolution with convolutions and attention across patches (blocks/mobilevit.py).

Groups of inverted residuals and a MobileViT block (arXiv:2110.02178), each group closed by a convolution and with a
residual, in the frame of archs/residual_network.py.
"""

from collections.abc import Sequence

from torch import nn

from hriusr.archs.residual_network import ResidualNetwork
from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.mobilevit import InvertedResidual, MobileViTBlock
from hriusr.blocks.swin_groups import ResidualGroup


@ARCH_REGISTRY.register()
class MobileViTSR(ResidualNetwork):
    """Network for any scale and any size of picture. The defaults are MobileViT-SR-light."""

    def __init__(
        self,
        *,
        upscale: int = 2,
        in_chans: int = 3,
        embed_dim: int = 56,
        transformer_dim: int = 80,
        depths: Sequence[int] = (2, 4, 3),
        num_heads: int = 4,
        patch_size: int = 2,
        window_size: int = 16,
        mlp_ratio: float = 2.0,
        inverted_depth: int = 2,
        expand_ratio: float = 2.0,
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
            embed_dim: channels of the features.
            transformer_dim: channels inside the transformers; a multiple of num_heads.
            depths: transformer layers of each group's MobileViT block.
            num_heads: attention heads.
            patch_size: side of a patch, pixels; attention links equal places of patches.
            window_size: side of the windows that attention stays in, pixels; a multiple of patch_size. The number of
                keys is (window_size / patch_size)².
            mlp_ratio: hidden channels of the feed-forward parts, in parts of transformer_dim.
            inverted_depth: inverted residuals before each MobileViT block.
            expand_ratio: channels of their depth-wise convolutions, in parts of embed_dim.
            drop_path_rate: stochastic depth of the last transformer layer; grows linearly over the layers.
            resi_connection: "1conv", "3conv" or "identity": what closes a group.
            upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv"; "" at upscale 1.
            num_feat: channels inside the upsampler ("pixelshuffledirect" has none).
            img_range: what the range 0..1 of pixels is stretched to inside.
            use_checkpoint: recompute blocks in the backward pass: less memory, more time.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        if not depths or min(depths) < 1 or inverted_depth < 0:
            raise ValueError(
                f"depths (={list(depths)}) must be numbers of at least 1, inverted_depth (={inverted_depth}) at least 0"
            )
        groups = []
        for drop_paths in drop_path_rates(drop_path_rate, depths):
            attention = MobileViTBlock(
                embed_dim,
                transformer_dim=transformer_dim,
                num_heads=num_heads,
                patch_size=patch_size,
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                drop_paths=drop_paths,
            )
            blocks = [InvertedResidual(embed_dim, expand_ratio) for _ in range(inverted_depth)] + [attention]
            groups.append(ResidualGroup(embed_dim, blocks, resi_connection, use_checkpoint=use_checkpoint))
        super().__init__(
            nn.Sequential(*groups),
            in_chans=in_chans,
            embed_dim=embed_dim,
            upscale=upscale,
            upsampler=upsampler,
            num_feat=num_feat,
            img_range=img_range,
            pad_multiple=window_size,
            size_multiple=window_size,
        )
