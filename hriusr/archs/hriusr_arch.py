"""HRIUSR: super-resolution with hyperbolic relative imprinting units.

    LR - mean -> conv -> residual groups (blocks/hriu_groups.py) -> norm, conv, + shallow -> upsampler -> + enlarged LR

Shapes: B batch, C channels, H W pixels of the low-resolution picture, s scale.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.hriu_groups import HRIUGroup
from hriusr.blocks.norms import build_norm
from hriusr.blocks.swin_groups import channels_first, channels_last
from hriusr.blocks.upsamplers import add_steps, build_upsampler, run_steps
from hriusr.blocks.weight_init import initialise_weights
from hriusr.blocks.windows import crop_to, pad_to_multiple

RGB_MEAN = (0.4488, 0.4371, 0.4040)  # of DIV2K, as SwinIR and HAT


@ARCH_REGISTRY.register()
class HRIUSR(nn.Module):
    """Network for any scale and any size of picture. The defaults are HRIUSR-light."""

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        embed_dim: int = 48,
        depths: tuple[int, ...] = (5, 5, 5),
        num_heads: int = 3,
        window_size: int = 8,
        terms: str = "anm",
        tables: str = "axial",
        renorm: str = "softmax",
        mlp_ratio: float = 2.0,
        ffn_kernel_size: int = 3,
        channel_attention: str = "local",
        compress_ratio: float = 12.0,
        squeeze_factor: float = 4.0,
        cab_scale: float = 0.1,
        overlap_ratio: float = 0.5,
        overlap_terms: str | None = None,
        low_resolution_ratio: int = 4,
        low_resolution_depth: int = 2,
        resampling: str = "imprinting",
        norm: str = "layer",
        drop_path_rate: float = 0.0,
        upsampler: str = "pixelshuffledirect",
        num_feat: int = 64,
        img_range: float = 1.0,
        use_checkpoint: bool = False,
    ) -> None:
        """Build the network.

        Args:
            upscale: scale s: 1, 2, 3, 4, 8.
            in_chans: channels of the picture; 3 for RGB, 1 for grey.
            embed_dim: channels C of the features; a multiple of num_heads.
            depths: hybrid blocks of each residual group.
            num_heads: heads of every attention.
            window_size: side of a window, pixels of the low-resolution picture.
            terms: letters of HRIU's score: a attention, n involution, m imprinting.
            tables: relative tables, "axial" or "full".
            renorm: "softmax" or "l2".
            mlp_ratio: hidden channels of the feed-forward parts, in parts of embed_dim.
            ffn_kernel_size: side of their depth-wise convolution, pixels; 0 for a plain MLP.
            channel_attention: "local", "global" (HAT's; tiles then differ from the whole picture) or "none".
            compress_ratio: channel attention convolves in embed_dim // compress_ratio channels.
            squeeze_factor: its gate is computed in embed_dim // squeeze_factor channels.
            cab_scale: what the learned scale of the channel attention starts at.
            overlap_ratio: how much larger the windows of the closing block of a group are, in parts of window_size;
                0 leaves that block out.
            overlap_terms: letters of its score; None for `terms`.
            low_resolution_ratio: how much smaller the low-resolution branch of a group is; 0 leaves it out.
            low_resolution_depth: HRIU blocks in it.
            resampling: how the branch shrinks and grows: "imprinting", "merging" or "conv".
            norm: "layer", or "instance" (its result depends on the size of the picture).
            drop_path_rate: stochastic depth of the last block; grows linearly over the blocks.
            upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv"; "" at upscale 1.
            num_feat: channels inside the upsampler ("pixelshuffledirect" has none).
            img_range: what the range 0..1 of pixels is stretched to inside, as in SwinIR and HAT.
            use_checkpoint: recompute blocks in the backward pass: less memory, more time.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        super().__init__()
        if in_chans < 1 or not depths or min(depths) < 1:
            raise ValueError(f"in_chans (={in_chans}) and every one of depths (={depths}) must be at least 1")
        if low_resolution_ratio < 0:
            raise ValueError(f"low_resolution_ratio (={low_resolution_ratio}) must be at least 0")
        self.upscale = upscale
        self.in_chans = in_chans
        self.img_range = img_range
        self.size_multiple = window_size * max(low_resolution_ratio, 1)
        mean = torch.tensor(RGB_MEAN).view(1, 3, 1, 1) if in_chans == 3 else torch.zeros(1, 1, 1, 1)
        self.register_buffer("mean", mean, persistent=False)
        self.shallow = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.groups = nn.ModuleList(
            HRIUGroup(
                embed_dim,
                depth,
                num_heads,
                window_size,
                terms=terms,
                tables=tables,
                renorm=renorm,
                mlp_ratio=mlp_ratio,
                ffn_kernel_size=ffn_kernel_size,
                channel_attention=channel_attention,
                compress_ratio=compress_ratio,
                squeeze_factor=squeeze_factor,
                cab_scale=cab_scale,
                overlap_ratio=overlap_ratio,
                overlap_terms=overlap_terms or terms,
                low_resolution_ratio=low_resolution_ratio,
                low_resolution_depth=low_resolution_depth,
                resampling=resampling,
                norm=norm,
                drop_paths=drop_paths,
                use_checkpoint=use_checkpoint,
            )
            for depth, drop_paths in zip(depths, drop_path_rates(drop_path_rate, depths), strict=True)
        )
        self.norm = build_norm(norm, embed_dim)
        self.fuse = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        initialise_weights(self)
        upsampler_layers = build_upsampler(upsampler, embed_dim, in_chans, upscale, num_feat)
        self.upsampler_steps = add_steps(self, upsampler_layers)
        # The first picture is nearly the enlarged input: the detail has to be learned, not first to be unlearned.
        convs = [m for layer in upsampler_layers.values() for m in layer.modules() if isinstance(m, nn.Conv2d)]
        nn.init.normal_(convs[-1].weight, std=1e-3)
        nn.init.zeros_(convs[-1].bias)

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """Enlarge pictures.

        Args:
            lr_BCHW: values 0..1, any H, W >= 1.

        Returns:
            sr_BCHW: (B, in_chans, H s, W s).
        """
        height, width = lr_BCHW.shape[-2:]
        padded = pad_to_multiple(lr_BCHW, self.size_multiple)
        normalised = (padded - self.mean) * self.img_range
        shallow = self.shallow(normalised.to(self.shallow.weight.dtype))
        deep = self.fuse(channels_first(self.norm(self.deep_features(channels_last(shallow))))) + shallow
        detail = run_steps(self, self.upsampler_steps, deep) / self.img_range
        enlarged = lr_BCHW
        if self.upscale > 1:
            enlarged = F.interpolate(lr_BCHW, scale_factor=float(self.upscale), mode="bilinear", align_corners=False)
        return crop_to(detail, height * self.upscale, width * self.upscale) + enlarged

    def deep_features(self, x_BHWC: Tensor) -> Tensor:
        """Run the residual groups over (B, H, W, C) features."""
        for group in self.groups:
            x_BHWC = group(x_BHWC)
        return x_BHWC
