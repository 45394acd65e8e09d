"""SwinIR: image restoration with shifted windows (Liang et al., arXiv:2108.10257).

Published weights of classical, light and real-world super-resolution, denoising and JPEG artifact removal load as they
are. Takes over BasicSR's network of the same name; outputs agree.
"""

from collections.abc import Sequence

from hriusr.archs.swin_network import SwinNetwork, check_arguments
from hriusr.basicsr_bridge import ARCH_REGISTRY, replace_in
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.swin_groups import ResidualGroup, SwinBlock, alternating_shift
from hriusr.blocks.window_attention import WindowAttention


@replace_in(ARCH_REGISTRY, "SwinIR")
class SwinIR(SwinNetwork):
    """Shallow convolution, residual groups of shifted-window blocks, and a head.

    Args:
        img_size: without effect: sizes are read from the input, so nothing is built for one size.
        patch_size: 1.
        in_chans: channels of the picture, in and out.
        embed_dim: channels of the features, divisible by each of num_heads.
        depths: blocks in each group.
        num_heads: attention heads in each group.
        window_size: side of a window, pixels of the input.
        mlp_ratio: hidden channels of the feed-forward parts, in parts of embed_dim.
        qkv_bias: whether queries, keys and values have a bias.
        qk_scale: None: scores are scaled by head_dim ** -0.5.
        drop_rate: 0.
        attn_drop_rate: 0.
        drop_path_rate: probability that a sample skips the last block in training; grows linearly from 0 at the first.
        ape: False: no absolute position embedding, which would fix the input's size.
        patch_norm: whether a LayerNorm stands before the first group.
        use_checkpoint: keep only the blocks' inputs for the backward pass: less memory, one more forward pass.
        upscale: 1, 2, 3, 4, 8.
        img_range: the body works on pictures of 0..img_range, 255 in the JPEG models; input and output are 0..1.
        upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv", or "" at upscale 1: the network predicts
            what to add to its input (denoising, JPEG).
        resi_connection: "1conv", "3conv" or "identity", what closes each group and the body.
        num_feat: channels of the head.

    Raises:
        ValueError: an argument that is out of range or not supported, by name.
    """

    def __init__(
        self,
        *,
        img_size: int | Sequence[int] = 64,
        patch_size: int = 1,
        in_chans: int = 3,
        embed_dim: int = 96,
        depths: Sequence[int] = (6, 6, 6, 6),
        num_heads: Sequence[int] = (6, 6, 6, 6),
        window_size: int = 7,
        mlp_ratio: float = 4.0,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        drop_rate: float = 0.0,
        attn_drop_rate: float = 0.0,
        drop_path_rate: float = 0.1,
        ape: bool = False,
        patch_norm: bool = True,
        use_checkpoint: bool = False,
        upscale: int = 2,
        img_range: float = 1.0,
        upsampler: str | None = "pixelshuffle",
        resi_connection: str = "1conv",
        num_feat: int = 64,
    ):
        check_arguments(
            img_size=img_size,
            window_size=window_size,
            depths=depths,
            num_heads=num_heads,
            patch_size=patch_size,
            ape=ape,
            drop_rate=drop_rate,
            attn_drop_rate=attn_drop_rate,
            qk_scale=qk_scale,
        )
        groups = []
        for heads, rates in zip(num_heads, drop_path_rates(drop_path_rate, depths), strict=True):
            blocks = []
            for number, rate in enumerate(rates):
                shift = alternating_shift(number, window_size)
                attention = WindowAttention(embed_dim, window_size, heads, qkv_bias=qkv_bias, shift_size=shift)
                blocks.append(SwinBlock(embed_dim, attention, mlp_ratio, rate))
            groups.append(ResidualGroup(embed_dim, blocks, resi_connection, use_checkpoint=use_checkpoint))
        super().__init__(
            groups,
            in_chans=in_chans,
            embed_dim=embed_dim,
            window_size=window_size,
            patch_norm=patch_norm,
            upscale=upscale,
            img_range=img_range,
            upsampler=upsampler,
            resi_connection=resi_connection,
            num_feat=num_feat,
        )
