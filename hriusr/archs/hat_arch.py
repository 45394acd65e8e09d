"""HAT: hybrid attention transformer for super-resolution (Chen et al., arXiv:2205.04437).

Published weights of HAT-S, HAT, HAT-L and the real-world GAN model load as they are. Unlike the original, this network
takes any input size, half precision and every upsampler, recomputes when told to, and builds no mask.
"""

from collections.abc import Sequence

from hriusr.archs.swin_network import SwinNetwork, check_arguments
from hriusr.basicsr_bridge import ARCH_REGISTRY, replace_in
from hriusr.blocks.channel_attention import CAB
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.overlap_attention import OCAB
from hriusr.blocks.swin_groups import HAB, ResidualGroup, alternating_shift
from hriusr.blocks.window_attention import WindowAttention


@replace_in(ARCH_REGISTRY, "HAT")
class HAT(SwinNetwork):
    """Shallow convolution, residual groups of hybrid blocks closed by an overlapping one, and a head.

    Arguments that are not listed mean what they mean in SwinIR.

    Args:
        compress_ratio: the channel attention's convolutions work on embed_dim // compress_ratio channels.
        squeeze_factor: the channel attention's gate is computed in embed_dim // squeeze_factor channels.
        conv_scale: weight of the channel attention beside the window attention; not stored in weights files.
        overlap_ratio: how much larger the closing block's key windows are, in parts of window_size.
        upsampler: as SwinIR's; published weights have "pixelshuffle".

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
        compress_ratio: float = 3,
        squeeze_factor: float = 30,
        conv_scale: float = 0.01,
        overlap_ratio: float = 0.5,
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
                convolution = CAB(embed_dim, compress_ratio, squeeze_factor)
                blocks.append(HAB(embed_dim, attention, convolution, conv_scale, mlp_ratio, rate))
            overlap = OCAB(embed_dim, window_size, overlap_ratio, heads, qkv_bias=qkv_bias, mlp_ratio=mlp_ratio)
            groups.append(
                ResidualGroup(embed_dim, blocks, resi_connection, overlap_attn=overlap, use_checkpoint=use_checkpoint)
            )
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
