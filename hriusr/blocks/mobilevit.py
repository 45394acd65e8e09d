"""MobileViT block (Mehta & Rastegari, arXiv:2110.02178, sec. 3.1) and the inverted residuals between them, for SR.

Pixels at the same place of their patches form one small map each; attention links positions of that map, so every
pixel reaches every patch at a quarter (patch 2 x 2) of the keys. Two departures from the original, for pictures of any
size: attention is cut into windows (its cost grew with the square of the picture), shifted by turns as in Swin, and
there is no BatchNorm; residuals take over its part.

Shapes: B batch, C channels, d channels of the transformer, H W pixels, P = p*p pixels of a patch, M windows,
N patches of a window, h heads.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import attend_shifted, computes_in_place, windows_at_once
from hriusr.blocks.linear import Linear
from hriusr.blocks.swin_groups import SwinBlock, alternating_shift, channels_first, channels_last
from hriusr.blocks.window_map import map_windows
from hriusr.blocks.windows import ShiftRegions


def unfold_patches(x_BHWC: Tensor, patch_size: int) -> Tensor:
    """Sort pixels by their place in their patch.

    Args:
        x_BHWC: features; H and W are multiples of patch_size.
        patch_size: side p of a patch, pixels.

    Returns:
        x_QYXC: (B*P, H/p, W/p, C), one small map for each place, places row-major.
    """
    x = x_BHWC.unflatten(2, (-1, patch_size)).unflatten(1, (-1, patch_size))  # B, H/p, p, W/p, p, C
    return x.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)


def fold_patches(x_QYXC: Tensor, patch_size: int) -> Tensor:
    """Put pixels back where they came from; the inverse of unfold_patches.

    Args:
        x_QYXC: (B*P, H/p, W/p, C).
        patch_size: side p of a patch, pixels.

    Returns:
        x_BHWC.
    """
    x = x_QYXC.unflatten(0, (-1, patch_size, patch_size))  # B, p, p, H/p, W/p, C
    return x.permute(0, 3, 1, 4, 2, 5).flatten(3, 4).flatten(1, 2)


class PatchAttention(nn.Module):
    """Multi-head self-attention among the positions of a window, without position bias.

    Args:
        dim: channels, a multiple of num_heads.
        num_heads: attention heads.
        window_size: side of a window, positions.
        shift_size: positions that windows are moved down and right by, 0 to window_size - 1.

    Raises:
        ValueError: dim does not divide by num_heads.
    """

    def __init__(self, dim: int, num_heads: int, window_size: int, shift_size: int = 0):
        super().__init__()
        if dim % num_heads:
            raise ValueError(f"transformer_dim (={dim}) must be divisible by num_heads (={num_heads})")
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift_size = shift_size
        self.scale = (dim // num_heads) ** -0.5
        self.qkv = Linear(dim, 3 * dim)
        self.proj = Linear(dim, dim)
        self.regions = ShiftRegions((window_size,) * 2, (shift_size,) * 2) if shift_size else None

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape; H and W are multiples of the window."""
        grid = (x_BHWC.shape[1] // self.window_size, x_BHWC.shape[2] // self.window_size)

        def attend_cells(x_MNC: Tensor, numbers: range) -> Tensor:
            qkv = self.qkv(x_MNC).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)  # MhNd each
            y_MhNd = attend_shifted(*qkv.unbind(0), None, self.regions, numbers, grid, scale=self.scale)
            return self.proj(y_MhNd.transpose(1, 2).flatten(2))

        cells = self.window_size**2
        at_once = windows_at_once(self.num_heads, cells, cells) if computes_in_place(x_BHWC) else None
        window, shift = (self.window_size,) * 2, (self.shift_size,) * 2
        return map_windows(x_BHWC, window, shift, attend_cells, windows_at_once=at_once)


class MobileViTBlock(nn.Module):
    """x + fuse(x, project(fold(transformer(unfold(conv x))))).

    Args:
        dim: channels C of the map.
        transformer_dim: channels d inside the transformer, a multiple of num_heads.
        num_heads: attention heads.
        patch_size: side of a patch, pixels.
        window_size: side of the windows that attention stays in, pixels; a multiple of patch_size.
        mlp_ratio: hidden channels of the feed-forward parts, in parts of d.
        drop_paths: for each transformer layer, the probability that a sample skips a branch in training.

    Raises:
        ValueError: window_size does not divide by patch_size, or transformer_dim by num_heads.
    """

    def __init__(
        self,
        dim: int,
        *,
        transformer_dim: int,
        num_heads: int,
        patch_size: int,
        window_size: int,
        mlp_ratio: float,
        drop_paths: list[float],
    ):
        super().__init__()
        if patch_size < 1 or window_size < patch_size or window_size % patch_size:
            raise ValueError(
                f"window_size (={window_size}) must be a multiple of patch_size (={patch_size}), both >= 1"
            )
        self.patch_size = patch_size
        positions = window_size // patch_size
        self.local = nn.Conv2d(dim, dim, 3, padding=1)
        self.expand = Linear(dim, transformer_dim)
        layers = []
        for number, drop_path in enumerate(drop_paths):
            attention = PatchAttention(transformer_dim, num_heads, positions, alternating_shift(number, positions))
            layers.append(SwinBlock(transformer_dim, attention, mlp_ratio, drop_path))
        self.transformer = nn.Sequential(*layers, nn.LayerNorm(transformer_dim))
        self.project = Linear(transformer_dim, dim)
        self.fuse = nn.Conv2d(2 * dim, dim, 3, padding=1)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape; H and W are multiples of the window."""
        x_BCHW = channels_first(x_BHWC)
        tokens = self.expand(channels_last(F.silu(self.local(x_BCHW))))
        tokens = fold_patches(self.transformer(unfold_patches(tokens, self.patch_size)), self.patch_size)
        y_BCHW = channels_first(F.silu(self.project(tokens)))
        return x_BHWC + channels_last(F.silu(self.fuse(torch.cat((x_BCHW, y_BCHW), 1))))


class InvertedResidual(nn.Module):
    """MobileNetV2's block (arXiv:1801.04381) without norms: widen, depth-wise 3 x 3, narrow, + x.

    Args:
        dim: channels C.
        expand_ratio: channels of the depth-wise convolution, in parts of C.

    Raises:
        ValueError: expand_ratio leaves no channel.
    """

    def __init__(self, dim: int, expand_ratio: float):
        super().__init__()
        hidden_dim = int(dim * expand_ratio)
        if hidden_dim < 1:
            raise ValueError(f"expand_ratio (={expand_ratio}) must leave at least one channel of {dim}: raise it")
        self.widen = Linear(dim, hidden_dim)
        self.depthwise = nn.Conv2d(hidden_dim, hidden_dim, 3, padding=1, groups=hidden_dim)
        self.narrow = Linear(hidden_dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        hidden = F.silu(self.depthwise(channels_first(F.silu(self.widen(x_BHWC)))))
        return x_BHWC + self.narrow(channels_last(hidden))
