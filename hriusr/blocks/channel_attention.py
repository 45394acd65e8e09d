"""Channel attention (RCAN, arXiv:1807.02758, eq. 5-6) and HAT's channel attention block (arXiv:2205.04437, fig. 2).

The pool looks at the whole input: a value far away changes every output a little, whatever the distance, so a picture
computed in tiles differs slightly from the same picture computed whole.

Parameter names are those of HAT's published weights: `cab.{0,2}`, `cab.3.attention.{1,3}`.

Shapes: B batch, C channels, H W pixels
"""

from torch import Tensor, nn


def _divide_channels(channels: int, divisor: float, divisor_name: str) -> int:
    quotient = int(channels // divisor)
    if quotient < 1:
        raise ValueError(f"{divisor_name} (={divisor}) must not exceed the number of channels (={channels})")
    return quotient


class ChannelAttention(nn.Module):
    """Scale each channel by a gate in 0..1 computed from the means of all channels.

    Args:
        num_feat: channels C.
        squeeze_factor: the gate is computed in C // squeeze_factor channels.

    Raises:
        ValueError: squeeze_factor is larger than num_feat.
    """

    def __init__(self, num_feat: int, squeeze_factor: float = 16):
        super().__init__()
        squeezed = _divide_channels(num_feat, squeeze_factor, "squeeze_factor")
        self.attention = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(num_feat, squeezed, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(squeezed, num_feat, 1),
            nn.Sigmoid(),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return x times its gate, (B, C, H, W)."""
        return x_BCHW * self.attention(x_BCHW)


class CAB(nn.Module):
    """Two 3x3 convolutions through fewer channels, closed by channel attention.

    Args:
        num_feat: channels C in and out.
        compress_ratio: the inner width is C // compress_ratio.
        squeeze_factor: see ChannelAttention.

    Raises:
        ValueError: compress_ratio or squeeze_factor is larger than num_feat.
    """

    def __init__(self, num_feat: int, compress_ratio: float = 3, squeeze_factor: float = 30):
        super().__init__()
        compressed = _divide_channels(num_feat, compress_ratio, "compress_ratio")
        self.cab = nn.Sequential(
            nn.Conv2d(num_feat, compressed, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(compressed, num_feat, 3, padding=1),
            ChannelAttention(num_feat, squeeze_factor),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W); the caller adds the residual."""
        return self.cab(x_BCHW)
