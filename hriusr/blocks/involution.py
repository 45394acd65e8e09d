"""Involution (Li et al., arXiv:2103.06255): a kernel for every position, shared by the channels of a group.

    y[c, p] = sum_k weight[g(c), k, p] x[c, p + k],   weight = conv1x1(relu(norm(conv1x1(x))))

A convolution has one kernel for all positions and another for each channel; an involution has it the other way round.
The weights are neither normalised nor bounded.

Shapes: B batch, C channels, H W pixels, K side of the kernel, G groups of channels, c = C/G.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.drop_path import DropPath
from hriusr.blocks.feed_forward import Mlp


def involve(x_BCHW: Tensor, weight_BNGHW: Tensor, stride: int = 1) -> Tensor:
    """Weight the neighbours of each position by that position's own kernel; what lies outside is zero.

    One multiply-add for each place of the kernel on views of the map: the K² copies of the map that unfolding makes
    never exist, in memory or for the backward pass.

    Args:
        x_BCHW: features, H and W of any size.
        weight_BNGHW: kernels (B, K*K, G, ceil(H / stride), ceil(W / stride)), K odd, places row-major.
        stride: distance of neighbouring positions, pixels of x.

    Returns:
        y_BCHW: (B, C, ceil(H / stride), ceil(W / stride)).
    """
    num_groups, height, width = weight_BNGHW.shape[2:]
    side = math.isqrt(weight_BNGHW.shape[1])
    if torch.compiler.is_exporting():
        return _involve_by_rows(x_BCHW, weight_BNGHW, side, stride)
    x_BGcHW = F.pad(x_BCHW, (side // 2,) * 4).unflatten(1, (num_groups, -1))
    y_BGcHW = torch.zeros_like(x_BCHW[..., ::stride, ::stride]).unflatten(1, (num_groups, -1))
    # unbind, not indexing: the gradient of an index is a map of zeros for all places
    for place, weight_BGHW in enumerate(weight_BNGHW.unbind(1)):
        top, left = divmod(place, side)
        rows = x_BGcHW[..., top : top + (height - 1) * stride + 1 : stride, :]
        neighbour = rows[..., left : left + (width - 1) * stride + 1 : stride]
        y_BGcHW = torch.addcmul(y_BGcHW, weight_BGHW.unsqueeze(2), neighbour)
    return y_BGcHW.flatten(1, 2)


def _involve_by_rows(x_BCHW: Tensor, weight_BNGHW: Tensor, side: int, stride: int) -> Tensor:
    """Do what involve does in a tenth of the operations, with K copies of the map: exporting is ten times faster."""
    num_groups, height, width = weight_BNGHW.shape[2:]
    x_BCHW = F.pad(x_BCHW, (side // 2,) * 4)
    shifted = [x_BCHW[..., left : left + (width - 1) * stride + 1 : stride] for left in range(side)]
    x_BKGcHW = torch.stack(shifted, 1).unflatten(2, (num_groups, -1))
    y_BGcHW = None
    for top, weight_BKGHW in enumerate(weight_BNGHW.split(side, 1)):
        rows = x_BKGcHW[..., top : top + (height - 1) * stride + 1 : stride, :]
        part = (weight_BKGHW.unsqueeze(3) * rows).sum(1)
        y_BGcHW = part if y_BGcHW is None else y_BGcHW + part
    return y_BGcHW.flatten(1, 2)


class Involution(nn.Module):
    """Involution 2D with the kernels made from the map itself; with a stride, from the means of its cells.

    Args:
        dim: channels C in and out, a multiple of group_channels.
        kernel_size: odd side K of the kernel, pixels.
        group_channels: channels c that share a kernel.
        reduction: kernels are made through dim // reduction channels.
        stride: how much smaller the output is on each side; sizes are rounded up.

    Raises:
        ValueError: dim does not divide, kernel_size is even, or reduction exceeds dim.
    """

    def __init__(self, dim: int, kernel_size: int = 7, group_channels: int = 16, reduction: int = 4, stride: int = 1):
        super().__init__()
        if group_channels < 1 or dim % group_channels:
            raise ValueError(f"dim (={dim}) must be a multiple of group_channels (={group_channels})")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size (={kernel_size}) must be odd, at least 1")
        if not 1 <= reduction <= dim:
            raise ValueError(f"reduction (={reduction}) must be at least 1 and at most dim (={dim})")
        self.num_places = kernel_size**2
        self.stride = stride
        self.reduce = nn.Linear(dim, dim // reduction)
        self.norm = nn.LayerNorm(dim // reduction)  # in place of the original's BatchNorm: the same in training and use
        self.span = nn.Linear(dim // reduction, self.num_places * (dim // group_channels))

    def kernels(self, x_BHWC: Tensor) -> Tensor:
        """Return weight_BNGHW, the kernel of every output position."""
        if self.stride > 1:
            means = F.avg_pool2d(x_BHWC.permute(0, 3, 1, 2), self.stride, ceil_mode=True, count_include_pad=False)
            x_BHWC = means.permute(0, 2, 3, 1)
        weight_BHWk = self.span(F.relu(self.norm(self.reduce(x_BHWC))))
        return weight_BHWk.permute(0, 3, 1, 2).unflatten(1, (self.num_places, -1))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), C)."""
        return involve(x_BHWC.permute(0, 3, 1, 2), self.kernels(x_BHWC), self.stride).permute(0, 2, 3, 1)


class InvolutionBlock(nn.Module):
    """x += Linear(Involution(gelu(Linear(norm x)))), then x += MLP(norm x).

    RedNet's bottleneck without its narrowing, before a feed-forward part as in transformers.

    Args:
        dim: channels C.
        kernel_size: see Involution.
        group_channels: see Involution.
        reduction: see Involution.
        mlp_ratio: hidden channels of the feed-forward part, in parts of C.
        drop_path: probability that a sample skips a branch in training.
    """

    def __init__(
        self, dim: int, *, kernel_size: int, group_channels: int, reduction: int, mlp_ratio: float, drop_path: float
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.project_in = nn.Linear(dim, dim)
        self.involution = Involution(dim, kernel_size, group_channels, reduction)
        self.project_out = nn.Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        mixed = self.involution(F.gelu(self.project_in(self.norm1(x_BHWC))))
        x_BHWC = x_BHWC + self.drop_path(self.project_out(mixed))
        return x_BHWC + self.drop_path(self.mlp(self.norm2(x_BHWC)))
