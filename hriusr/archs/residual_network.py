"""The frame that HRIUSR, HRViT-SR, MobileViT-SR and Involution-SR share: everything around their bodies.

    LR - mean -> conv -> body -> norm, conv, + shallow -> upsampler -> + enlarged LR

Shapes: B batch, C channels, H W pixels of the low-resolution picture, s scale.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.archs.marker import ignore_marker
from hriusr.archs.mean_colour import mean_colour
from hriusr.blocks.norms import build_norm
from hriusr.blocks.swin_groups import channels_first, channels_last
from hriusr.blocks.upsamplers import add_steps, build_upsampler, run_steps
from hriusr.blocks.weight_init import initialise_weights
from hriusr.blocks.windows import crop_to, pad_to_multiple

_HEAD_START = 1e-3  # deviation of the last convolution's weights


class ResidualNetwork(nn.Module):
    """Learn what the bilinearly enlarged input lacks.

    Args:
        body: (B, H, W, embed_dim) -> the same shape; H and W are multiples of pad_multiple.
        in_chans: channels of the picture, in and out.
        embed_dim: channels of the features.
        upscale: scale s: 1, 2, 3, 4, 8.
        upsampler: kind of the head, see build_upsampler.
        num_feat: channels inside the head.
        img_range: what the range 0..1 of pixels is stretched to inside.
        pad_multiple: H and W are padded to its multiples, by reflection.
        size_multiple: what the body's windows repeat with, pixels of the low-resolution picture; tiles start there.
        body_name: what the body is called in weights files.
        norm: what stands behind the body: "layer" or "instance".
        linear_init: how weights of linear layers start, see initialise_weights.

    Raises:
        ValueError: in_chans is below 1, or an argument of the head does not fit, by name.
    """

    passes_over_marker = True  # see archs/marker.py

    def __init__(
        self,
        body: nn.Module,
        *,
        in_chans: int,
        embed_dim: int,
        upscale: int,
        upsampler: str,
        num_feat: int,
        img_range: float,
        pad_multiple: int,
        size_multiple: int,
        body_name: str = "body",
        norm: str = "layer",
        linear_init: str = "swin",
    ):
        super().__init__()
        if in_chans < 1:
            raise ValueError(f"in_chans (={in_chans}) must be at least 1: 3 for RGB, 1 for grey")
        self.upscale = upscale
        self.in_chans = in_chans
        self.img_range = img_range
        self.pad_multiple = pad_multiple
        self.size_multiple = size_multiple
        self.register_buffer("mean", mean_colour(in_chans), persistent=False)
        self.shallow = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.body_name = body_name
        self.add_module(body_name, body)
        self.norm = build_norm(norm, embed_dim)
        self.fuse = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        initialise_weights(self, linear_init)
        head = build_upsampler(upsampler, embed_dim, in_chans, upscale, num_feat)
        self.upsampler_steps = add_steps(self, head)
        # The first picture is nearly the enlarged input: the detail has to be learned, not first to be unlearned.
        last = [m for layer in head.values() for m in layer.modules() if isinstance(m, nn.Conv2d)][-1]
        nn.init.normal_(last.weight, std=_HEAD_START)
        nn.init.zeros_(last.bias)
        ignore_marker(self)

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """Enlarge pictures.

        Args:
            lr_BCHW: values 0..1, any H, W >= 1.

        Returns:
            sr_BCHW: (B, in_chans, H s, W s), about 0..1, not clamped.
        """
        height, width = lr_BCHW.shape[-2:]
        normalised = (pad_to_multiple(lr_BCHW, self.pad_multiple) - self.mean) * self.img_range
        shallow = self.shallow(normalised.to(self.shallow.weight.dtype))
        deep = run_steps(self, (self.body_name, "norm"), channels_last(shallow))
        deep = self.fuse(channels_first(deep)) + shallow
        detail = run_steps(self, self.upsampler_steps, deep) / self.img_range
        enlarged = lr_BCHW
        if self.upscale > 1:
            enlarged = F.interpolate(lr_BCHW, scale_factor=float(self.upscale), mode="bilinear", align_corners=False)
        return crop_to(detail, height * self.upscale, width * self.upscale) + enlarged
