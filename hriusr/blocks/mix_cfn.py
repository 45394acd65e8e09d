"""MixCFN: a feed-forward part with two sizes of depth-wise kernels (HRViT, arXiv:2111.01236, sec. 3.2)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.linear import Linear
from hriusr.blocks.swin_groups import channels_first, channels_last


class MixCFN(nn.Module):
    """Linear; 3x3 depth-wise on one half of the channels, 5x5 on the other; GELU; Linear.

    Args:
        dim: channels C in and out.
        hidden_dim: channels between, even.

    Raises:
        ValueError: hidden_dim is odd or below 2.
    """

    def __init__(self, dim: int, hidden_dim: int):
        super().__init__()
        if hidden_dim < 2 or hidden_dim % 2:
            raise ValueError(f"hidden_dim (={hidden_dim}) must be even, at least 2: change mlp_ratio")
        half = hidden_dim // 2
        self.fc1 = Linear(dim, hidden_dim)
        self.depthwise3 = nn.Conv2d(half, half, 3, padding=1, groups=half)
        self.depthwise5 = nn.Conv2d(half, half, 5, padding=2, groups=half)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C); the caller adds the residual."""
        fine, coarse = channels_first(self.fc1(x_BHWC)).chunk(2, 1)
        mixed_BCHW = torch.cat((self.depthwise3(fine), self.depthwise5(coarse)), 1)
        return self.fc2(F.gelu(channels_last(mixed_BCHW)))
