"""HRIUSR: super-resolution with hyperbolic relative imprinting units.

Residual groups (blocks/hriu_groups.py) in the frame of archs/residual_network.py.
"""

import math

from torch import nn

from hriusr.archs.residual_network import ResidualNetwork
from hriusr.basicsr_bridge import ARCH_REGISTRY
from hriusr.blocks.drop_path import drop_path_rates
from hriusr.blocks.hriu_groups import HRIUGroup, HybridBlock


@ARCH_REGISTRY.register()
class HRIUSR(ResidualNetwork):
    """Network for any scale and any size of picture.

    The defaults are the first design and stay, for the sake of weights that name few arguments; archs/variants.py has
    the arguments of the sizes to train.
    """

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        embed_dim: int = 48,
        depths: tuple[int, ...] = (5, 5, 5),
        num_heads: int = 3,
        window_size: int = 8,
        wide_window_size: int = 0,
        shares_projections: bool = False,
        similarity: str = "product",
        terms: str = "anm",
        tables: str = "axial",
        renorm: str = "softmax",
        ffn: str = "plain",
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
        num_convs: int = 1,
        norm: str = "layer",
        linear_init: str = "swin",
        bias_init: str = "flat",
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
            depths: hybrid blocks of each residual group; a group of 0 is convolutions only.
            num_heads: heads of every attention; 0 leaves attention out: blocks are feed-forward parts alone.
            window_size: side of a window, pixels of the low-resolution picture.
            wide_window_size: side of the windows of every second hybrid block, whose keys are squeezed to as many as
                a window has (a multiple of window_size; embed_dim a multiple of its square): far sight at the same
                price. 0: all windows are alike.
            shares_projections: HRIU's terms share one query and one key (blocks/shared_hriu.py).
            similarity: how they are compared: "product", or "cosine" with a gain a head (with shares_projections).
            terms: letters of HRIU's score: a attention, n involution, m imprinting.
            tables: relative tables: "axial"; "crossed", cheaper, with rows for involution and columns for imprinting;
                "full", by pairs of both.
            renorm: "softmax" or "l2"; overlapping blocks always have softmax.
            ffn: feed-forward parts: "plain", "gated" (one half of the hidden channels gates the other), or "none": the
                convolutions that close a group do their work.
            mlp_ratio: hidden channels of the feed-forward parts, in parts of embed_dim; gated: of each half.
            ffn_kernel_size: side of their depth-wise convolution, pixels; 0 for none (not gated).
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
            num_convs: 3x3 convolutions that close a group, LeakyReLU between them.
            norm: "layer", or "instance" (its result depends on the size of the picture).
            linear_init: deviation that weights of linear layers start with: "swin" 0.02, "fan_in" 1 / sqrt(inputs),
                "quiet" the latter, but 0 where a residual branch ends: at first blocks let features pass unchanged;
                "still" the same for groups too, whose inner convolutions then start by He's rule.
            bias_init: what the relative bias of hybrid blocks starts with: "flat" nearly none, "near" a Gaussian around
                each pixel, wider from head to head.
            drop_path_rate: stochastic depth of the last block; grows linearly over the blocks.
            upsampler: "pixelshuffle", "pixelshuffledirect", "nearest+conv"; "" at upscale 1.
            num_feat: channels inside the upsampler ("pixelshuffledirect" has none).
            img_range: what the range 0..1 of pixels is stretched to inside, as in SwinIR and HAT.
            use_checkpoint: recompute blocks in the backward pass: less memory, more time.

        Raises:
            ValueError: naming the argument, its value and what fits.
        """
        if not depths or min(depths) < 0:
            raise ValueError(f"depths (={depths}) must be at least one number, each at least 0")
        if window_size < 1:
            raise ValueError(f"window_size (={window_size}) must be at least 1")
        if low_resolution_ratio < 0:
            raise ValueError(f"low_resolution_ratio (={low_resolution_ratio}) must be at least 0")
        groups = [
            HRIUGroup(
                embed_dim,
                depth,
                num_heads,
                window_size,
                wide_window_size=wide_window_size,
                shares_projections=shares_projections,
                similarity=similarity,
                terms=terms,
                tables=tables,
                renorm=renorm,
                ffn=ffn,
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
                num_convs=num_convs,
                norm=norm,
                drop_paths=drop_paths,
                use_checkpoint=use_checkpoint,
            )
            for depth, drop_paths in zip(depths, drop_path_rates(drop_path_rate, depths), strict=True)
        ]
        multiple = math.lcm(window_size * max(low_resolution_ratio, 1), wide_window_size or 1)
        if not (low_resolution_ratio or overlap_ratio or (any(depths) and (num_heads or channel_attention == "local"))):
            multiple = 1  # nothing goes by windows
        super().__init__(
            nn.Sequential(*groups),
            body_name="groups",
            norm=norm,
            linear_init="fan_in" if linear_init in ("quiet", "still") else linear_init,
            in_chans=in_chans,
            embed_dim=embed_dim,
            upscale=upscale,
            upsampler=upsampler,
            num_feat=num_feat,
            img_range=img_range,
            pad_multiple=multiple,
            size_multiple=multiple,
        )
        if bias_init not in ("flat", "near"):
            raise ValueError(f"bias_init (={bias_init!r}) must be 'flat' or 'near'")
        for module in self.modules():
            if isinstance(module, HybridBlock) and bias_init == "near":
                module.look_near()
        if linear_init in ("quiet", "still"):
            for module in self.modules():
                if isinstance(module, HybridBlock) or (isinstance(module, HRIUGroup) and linear_init == "still"):
                    module.quieten()
