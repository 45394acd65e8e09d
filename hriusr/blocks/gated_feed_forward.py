"""Gated feed-forward with a depth-wise convolution (GDFN of Restormer, arXiv:2111.09881, sec. 3.2, on one half)."""

import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.swin_groups import channels_first, channels_last


class GatedConvMlp(nn.Module):
    """Linear into two halves; one goes through a depth-wise convolution and GELU and gates the other; Linear.

    Args:
        dim: channels C in and out.
        hidden_dim: channels of each half.
        kernel_size: odd side of the depth-wise kernel, pixels.
    """

    def __init__(self, dim: int, hidden_dim: int, kernel_size: int):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"ffn_kernel_size (={kernel_size}) must be odd: a gated feed-forward part needs one")
        self.fc1 = nn.Linear(dim, 2 * hidden_dim)
        self.depthwise = nn.Conv2d(hidden_dim, hidden_dim, kernel_size, padding=kernel_size // 2, groups=hidden_dim)
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C); the caller adds the residual."""
        gate, value = self.fc1(x_BHWC).chunk(2, -1)
        return self.fc2(F.gelu(channels_last(self.depthwise(channels_first(gate)))) * value)
