"""The frame that SwinIR, HAT and Swin2SR share: everything around their residual groups.

Shapes: B batch, C channels, H W pixels
"""

from collections.abc import Iterable, Sequence

from torch import Tensor, nn

from hriusr.archs.marker import ignore_marker
from hriusr.archs.mean_colour import mean_colour
from hriusr.blocks.swin_groups import PatchEmbed, ResidualGroup, channels_first, residual_connection
from hriusr.blocks.upsamplers import add_steps, build_upsampler, run_steps
from hriusr.blocks.weight_init import initialise_weights
from hriusr.blocks.windows import crop_to, pad_to_multiple

# Values in published files that follow from the arguments, or fit one picture size only; we compute them anew.
_DERIVED = (
    "relative_position_index",
    "relative_position_index_SA",
    "relative_position_index_OCA",
    "relative_coords_table",
    "attn_mask",
)


def check_arguments(
    *,
    depths: Sequence[int],
    num_heads: Sequence[int],
    img_size: int | Sequence[int],
    window_size: int,
    patch_size: int,
    ape: bool,
    drop_rate: float,
    attn_drop_rate: float,
    qk_scale: float | None = None,
) -> None:
    """Refuse what the originals' signatures allow and no published network uses.

    Raises:
        ValueError: an argument we do not support, by name; or depths and num_heads differ in length.
    """
    supported = {
        "patch_size": (patch_size, 1),
        "ape": (ape, False),
        "qk_scale": (qk_scale, None),
        "drop_rate": (drop_rate, 0),
        "attn_drop_rate": (attn_drop_rate, 0),
    }
    for name, (value, only) in supported.items():
        if value != only:
            raise ValueError(f"{name} (={value!r}) is not supported: leave it out or set it to {only!r}")
    if (side := min([img_size] if isinstance(img_size, int) else img_size)) <= window_size:
        raise ValueError(
            f"img_size (={side}) must be more than window_size (={window_size}), or left out: the original would "
            "shift no window then"
        )
    if len(depths) != len(num_heads):
        raise ValueError(f"depths (={list(depths)}) and num_heads (={list(num_heads)}) must have one number a group")
    if 0 in num_heads:
        raise ValueError(f"num_heads (={list(num_heads)}) must each be at least 1")


class SwinNetwork(nn.Module):
    """Shallow convolution, residual groups, and a head; layers named as in published weights.

    Args:
        groups: the residual groups, each (B, H, W, C) -> (B, H, W, C).
        in_chans: channels of the picture, in and out.
        embed_dim: channels of the features.
        window_size: H and W are padded to its multiples, inside.
        use_projection: whether a 1x1 convolution stands before the first group (Swin2SR).
        patch_norm: whether a LayerNorm stands before the first group.
        upscale: enlargement.
        img_range: the body works on pictures of 0..img_range; input and output are 0..1.
        upsampler: kind of the head, see build_upsampler; with "" or None the input is added to the head's result.
        resi_connection: what closes the body, see residual_connection.
        num_feat: channels of the head.
    """

    passes_over_marker = True  # see archs/marker.py

    def __init__(
        self,
        groups: Iterable[ResidualGroup],
        *,
        in_chans: int,
        embed_dim: int,
        window_size: int,
        use_projection: bool = False,
        patch_norm: bool,
        upscale: int,
        img_range: float,
        upsampler: str | None,
        resi_connection: str,
        num_feat: int,
    ):
        super().__init__()
        self.upscale = upscale
        self.in_chans = in_chans
        self.window_size = window_size
        self.img_range = img_range
        self.adds_input = not upsampler
        self.register_buffer("mean", mean_colour(in_chans), persistent=False)

        self.conv_first = nn.Conv2d(in_chans, embed_dim, 3, padding=1)
        self.patch_embed = PatchEmbed(embed_dim, use_projection=use_projection, use_norm=patch_norm)
        self.layers = nn.Sequential(*groups)
        self.norm = nn.LayerNorm(embed_dim)
        self.conv_after_body = residual_connection(resi_connection, embed_dim)
        self.head_steps = add_steps(self, build_upsampler(upsampler, embed_dim, in_chans, upscale, num_feat))
        initialise_weights(self)
        ignore_marker(self)
        self._register_load_state_dict_pre_hook(_forget_derived_values)  # public only from torch 2.5 on

    def normalise(self, lr_BCHW: Tensor) -> Tensor:
        """Pad to multiples of the window, subtract the mean colour, convert to the range and format of the body."""
        x_BCHW = (pad_to_multiple(lr_BCHW, self.window_size) - self.mean) * self.img_range
        return x_BCHW.to(self.conv_first.weight.dtype)

    def denormalise(self, x_BCHW: Tensor, height: int, width: int) -> Tensor:
        """Undo normalise: back to 0..1, cut to height x width."""
        return crop_to(x_BCHW / self.img_range + self.mean, height, width)

    def body(self, x_BCHW: Tensor) -> Tensor:
        """Return deep features (B, embed_dim, H, W) of normalised pictures."""
        shallow_BCHW = self.conv_first(x_BCHW)
        deep_BHWC = self.norm(self.layers(self.patch_embed(shallow_BCHW)))
        return self.conv_after_body(channels_first(deep_BHWC)) + shallow_BCHW

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """Enlarge (or, at upscale 1, restore) pictures.

        Args:
            lr_BCHW: pictures, 0..1, of any H, W >= 1.

        Returns:
            Pictures (B, in_chans, upscale * H, upscale * W), about 0..1, not clamped.
        """
        x_BCHW = self.normalise(lr_BCHW)
        sr_BCHW = run_steps(self, self.head_steps, self.body(x_BCHW))
        if self.adds_input:
            sr_BCHW = sr_BCHW + x_BCHW
        return self.denormalise(sr_BCHW, lr_BCHW.shape[2] * self.upscale, lr_BCHW.shape[3] * self.upscale)


def _forget_derived_values(state_dict: dict[str, Tensor], prefix: str, *_unused: object) -> None:
    """Leave out index buffers and masks while loading; they are not in our networks."""
    for key in [key for key in state_dict if key.startswith(prefix) and key.rpartition(".")[2] in _DERIVED]:
        del state_dict[key]
