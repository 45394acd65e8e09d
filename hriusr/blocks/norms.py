"""Normalisation of channels-last feature maps by name.

"layer" looks at one position only, so a picture in tiles is normalised as the whole is. "instance" takes mean and
variance of each channel over the map, as HRIU-net did: its result depends on the size of the input.
"""

from torch import Tensor, nn

NORMS = ("layer", "instance")


class InstanceNorm(nn.Module):
    """Normalise each channel of each sample over H and W (arXiv:1607.08022), with learned scale and shift.

    Args:
        dim: channels C.
        eps: added to the variance.
    """

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.norm = nn.GroupNorm(dim, dim, eps)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.norm(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def build_norm(kind: str, dim: int) -> nn.Module:
    """Make a norm over (B, H, W, C) features.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "layer":
        return nn.LayerNorm(dim)
    if kind == "instance":
        return InstanceNorm(dim)
    raise ValueError(f"norm (={kind!r}) must be one of {', '.join(NORMS)}")
