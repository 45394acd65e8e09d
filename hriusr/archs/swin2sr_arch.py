"""Swin2SR: Swin V2 for compressed image super-resolution (Conde et al., arXiv:2209.11345).

Published weights of classical, light, compressed and real-world super-resolution load as they are.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.archs.swin_network import SwinNetwork, check_arguments
from hriusr.basicsr_bridge import ARCH_REGISTRY, replace_in
from hriusr.blocks.cosine_attention import CosineWindowAttention
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.swin_groups import ResidualGroup, SwinV2Block, alternating_shift
from hriusr.blocks.upsamplers import UPSAMPLER_KINDS

_AUX = "pixelshuffle_aux"


@replace_in(ARCH_REGISTRY, "Swin2SR")
class Swin2SR(SwinNetwork):
    """Shallow convolution, residual groups of Swin V2 blocks, and a head.

    Arguments that are not listed mean what they mean in SwinIR.

    Args:
        qkv_bias: whether queries and values have a bias.
        upsampler: as SwinIR's, and "pixelshuffle_aux": the head also predicts the clean low-resolution picture, and
            adds the enlarged features of that to those of the bicubic enlargement.

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
        )
        if upsampler not in (None, _AUX, *UPSAMPLER_KINDS):
            raise ValueError(f"upsampler (={upsampler!r}) must be one of {(_AUX, *UPSAMPLER_KINDS)}")
        groups = []
        for heads, rates in zip(num_heads, drop_path_rates(drop_path_rate, depths), strict=True):
            blocks = []
            for number, rate in enumerate(rates):
                shift = alternating_shift(number, window_size)
                attention = CosineWindowAttention(embed_dim, window_size, heads, qkv_bias=qkv_bias, shift_size=shift)
                blocks.append(SwinV2Block(embed_dim, attention, mlp_ratio, rate))
            group = ResidualGroup(
                embed_dim, blocks, resi_connection, use_projection=True, use_checkpoint=use_checkpoint
            )
            groups.append(group)
        super().__init__(
            groups,
            in_chans=in_chans,
            embed_dim=embed_dim,
            window_size=window_size,
            use_projection=True,
            patch_norm=patch_norm,
            upscale=upscale,
            img_range=img_range,
            upsampler="pixelshuffle" if upsampler == _AUX else upsampler,
            resi_connection=resi_connection,
            num_feat=num_feat,
        )
        self.has_aux = upsampler == _AUX
        if self.has_aux:
            self.conv_bicubic = nn.Conv2d(in_chans, num_feat, 3, padding=1)
            self.conv_aux = nn.Conv2d(num_feat, in_chans, 3, padding=1)
            self.conv_after_aux = nn.Sequential(nn.Conv2d(in_chans, num_feat, 3, padding=1), nn.LeakyReLU(inplace=True))

    def forward(self, lr_BCHW: Tensor, return_aux: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Enlarge (or, at upscale 1, restore) pictures.

        The original enlarges its padded input to the unpadded size, so that at sizes that the window does not divide
        the bicubic part is shrunk against the rest; here both have the same size, and the result is cut.

        Args:
            lr_BCHW: pictures, 0..1, of any H, W >= 1.
            return_aux: also return the clean low-resolution picture, for a loss on it; "pixelshuffle_aux" only.

        Returns:
            sr_BCHW (B, in_chans, upscale * H, upscale * W), about 0..1, not clamped; with return_aux (sr_BCHW,
            aux_BCHW), the latter (B, in_chans, H, W).

        Raises:
            ValueError: return_aux without the upsampler "pixelshuffle_aux".
        """
        if not self.has_aux:
            if return_aux:
                raise ValueError(f"return_aux (=True) needs upsampler: {_AUX}")
            return super().forward(lr_BCHW)
        height, width = lr_BCHW.shape[2:]
        x_BCHW = self.normalise(lr_BCHW)
        aux_BCHW = self.conv_aux(self.conv_before_upsample(self.body(x_BCHW)))
        bicubic_BCHW = F.interpolate(x_BCHW, scale_factor=self.upscale, mode="bicubic", align_corners=False)
        features_BCHW = self.upsample(self.conv_after_aux(aux_BCHW)) + self.conv_bicubic(bicubic_BCHW)
        sr_BCHW = self.denormalise(self.conv_last(features_BCHW), height * self.upscale, width * self.upscale)
        return (sr_BCHW, self.denormalise(aux_BCHW, height, width)) if return_aux else sr_BCHW
