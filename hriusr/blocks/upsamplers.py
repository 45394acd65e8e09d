"""From features at low resolution to a picture at high resolution: the heads of SwinIR and HAT.

| kind | steps | made for |
|---|---|---|
| pixelshuffle | conv to num_feat, conv + pixel shuffle for each factor, conv to the picture | classical |
| pixelshuffledirect | one conv + one pixel shuffle straight to the picture | light |
| nearest+conv | conv to num_feat, nearest enlargement + conv for each factor, two convs | real-world |
| "" | one conv at scale 1; the network adds its input to the result | denoising, JPEG artifacts |

Published weights keep a head's layers at the top level of the network (`conv_last`, not `head.conv_last`). So a head
is no module: it is a dict of named children in the order in which they apply, which the network adopts:

    self.upsampler_steps = add_steps(self, build_upsampler("pixelshuffle", 180, 3, 4))
    ...
    sr_BCHW = run_steps(self, self.upsampler_steps, features_BCHW)
"""

from torch import Tensor, nn

UPSAMPLER_KINDS = ("pixelshuffle", "pixelshuffledirect", "nearest+conv", "")


def upscale_factors(scale: int) -> list[int]:
    """Split a scale into the factors of single enlargements: 4 -> [2, 2], 3 -> [3], 1 -> [].

    Raises:
        ValueError: scale is neither 3 nor a power of 2.
    """
    if scale == 3:
        return [3]
    if not isinstance(scale, int) or scale < 1 or scale & (scale - 1):
        raise ValueError(f"upscale (={scale!r}) must be 3 or a power of 2: 1, 2, 3, 4, 8")
    return [2] * (scale.bit_length() - 1)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


def _conv_before_upsample(embed_dim: int, num_feat: int) -> nn.Sequential:
    return nn.Sequential(_conv(embed_dim, num_feat), nn.LeakyReLU(inplace=True))


def _pixelshuffle(embed_dim: int, out_chans: int, scale: int, num_feat: int) -> dict[str, nn.Module]:
    enlargements: list[nn.Module] = []
    for factor in upscale_factors(scale):
        enlargements += [_conv(num_feat, num_feat * factor**2), nn.PixelShuffle(factor)]
    return {
        "conv_before_upsample": _conv_before_upsample(embed_dim, num_feat),
        "upsample": nn.Sequential(*enlargements),
        "conv_last": _conv(num_feat, out_chans),
    }


def _pixelshuffledirect(embed_dim: int, out_chans: int, scale: int) -> dict[str, nn.Module]:
    upscale_factors(scale)  # the same scales as the other kinds
    return {"upsample": nn.Sequential(_conv(embed_dim, out_chans * scale**2), nn.PixelShuffle(scale))}


def _nearest_conv(embed_dim: int, out_chans: int, scale: int, num_feat: int) -> dict[str, nn.Module]:
    steps: dict[str, nn.Module] = {"conv_before_upsample": _conv_before_upsample(embed_dim, num_feat)}
    for number, factor in enumerate(upscale_factors(scale), start=1):
        steps[f"nearest_up{number}"] = nn.Upsample(scale_factor=factor, mode="nearest")
        steps[f"conv_up{number}"] = _conv(num_feat, num_feat)
        steps[f"lrelu_up{number}"] = nn.LeakyReLU(0.2, inplace=True)
    steps["conv_hr"] = _conv(num_feat, num_feat)
    steps["lrelu_hr"] = nn.LeakyReLU(0.2, inplace=True)
    steps["conv_last"] = _conv(num_feat, out_chans)
    return steps


def build_upsampler(
    kind: str | None, embed_dim: int, out_chans: int, scale: int, num_feat: int = 64
) -> dict[str, nn.Module]:
    """Make the layers of one kind of head; names and shapes as in SwinIR's and HAT's published weights.

    Args:
        kind: one of UPSAMPLER_KINDS; None means "".
        embed_dim: channels of the features.
        out_chans: channels of the picture.
        scale: enlargement: 1, 2, 3, 4, 8.
        num_feat: channels inside the head; without effect in "pixelshuffledirect" and "", which have no inside.

    Returns:
        Child name -> module, in the order in which they apply.

    Raises:
        ValueError: unknown kind, unsupported scale, or kind "" with a scale other than 1.
    """
    kind = kind or ""
    if kind == "pixelshuffle":
        return _pixelshuffle(embed_dim, out_chans, scale, num_feat)
    if kind == "pixelshuffledirect":
        return _pixelshuffledirect(embed_dim, out_chans, scale)
    if kind == "nearest+conv":
        return _nearest_conv(embed_dim, out_chans, scale, num_feat)
    if kind == "":
        if scale != 1:
            raise ValueError(
                f"upscale (={scale!r}) must be 1 without an upsampler: choose one of {UPSAMPLER_KINDS[:3]}"
            )
        return {"conv_last": _conv(embed_dim, out_chans)}
    raise ValueError(f"upsampler (={kind!r}) must be one of {UPSAMPLER_KINDS}")


def add_steps(network: nn.Module, steps: dict[str, nn.Module]) -> tuple[str, ...]:
    """Make modules children of a network under their own names; return the names in order."""
    for name, module in steps.items():
        network.add_module(name, module)
    return tuple(steps)


def run_steps(network: nn.Module, names: tuple[str, ...], x: Tensor) -> Tensor:
    """Apply a network's children one after the other."""
    for name in names:
        x = getattr(network, name)(x)
    return x
