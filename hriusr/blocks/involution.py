"""Involution (Li et al., arXiv:2103.06255): a kernel for every position, shared by the channels of a group.

    y[c, p] = sum_k weight[g(c), k, p] x[c, p + k],   weight = conv1x1(relu(norm(conv1x1(x))))

A convolution has one kernel for all positions and another for each channel; an involution has it the other way round.
The weights are neither normalised nor bounded.

Shapes: B batch, C channels, H W pixels, K side of the kernel, G groups of channels, c = C/G.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hriusr.blocks.attention_core import computes_in_place
from hriusr.blocks.drop_path import DropPath
from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.linear import Linear
from hriusr.blocks.residual import add_branch

_MAP_BYTES = 3 << 17  # a map of the samples computed at a time: four of them stay in the L2 cache of a core
_KERNEL_BYTES = 1 << 21  # kernels computed at a time without gradients: they stay in the L2 cache of a core


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
    side = math.isqrt(weight_BNGHW.shape[1])
    if torch.compiler.is_exporting():
        return _involve_by_rows(x_BCHW, weight_BNGHW, side, stride)
    if x_BCHW.device.type == "cpu" and not torch.compiler.is_compiling():
        return _InvolveOnCpu.apply(x_BCHW, weight_BNGHW, stride)
    return _involve_by_places(x_BCHW, weight_BNGHW, side, stride)


def _involve_by_places(x_BCHW: Tensor, weight_BNGHW: Tensor, side: int, stride: int) -> Tensor:
    y_BGcHW = torch.zeros_like(x_BCHW[..., ::stride, ::stride]).unflatten(1, (weight_BNGHW.shape[2], -1))
    # unbind, not indexing: the gradient of an index is a map of zeros for all places
    neighbours = _neighbours(_padded(x_BCHW, weight_BNGHW), weight_BNGHW.shape[-2:], side, stride)
    for weight_BGHW, neighbour in zip(weight_BNGHW.unbind(1), neighbours, strict=True):
        y_BGcHW = torch.addcmul(y_BGcHW, weight_BGHW.unsqueeze(2), neighbour)
    return y_BGcHW.flatten(1, 2)


def _padded(x_BCHW: Tensor, weight_BNGHW: Tensor) -> Tensor:
    """Return x_BGcHW with the zeros around it that kernels reach."""
    num_places, num_groups = weight_BNGHW.shape[1:3]
    return F.pad(x_BCHW, (math.isqrt(num_places) // 2,) * 4).unflatten(1, (num_groups, -1))


def _neighbours(x_BGcHW: Tensor, size: tuple[int, int], side: int, stride: int) -> Iterator[Tensor]:
    """Yield for each place of the kernel what the positions, `size` of them, see there: views of the padded map."""
    height, width = ((length - 1) * stride + 1 for length in size)
    for place in range(side**2):
        top, left = divmod(place, side)
        yield x_BGcHW[..., top : top + height : stride, left : left + width : stride]


class _InvolveOnCpu(torch.autograd.Function):
    """Do what involve does in float32; half precision would add 49 roundings.

    A few samples at a time, whose maps stay in the cache while all places of the kernel pass over them.
    """

    @staticmethod
    def forward(ctx: Any, x_BCHW: Tensor, weight_BNGHW: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x_BCHW, weight_BNGHW)
        ctx.stride = stride
        y_BCHW = x_BCHW.new_empty(*x_BCHW.shape[:2], *weight_BNGHW.shape[3:])
        for part in _few_samples(x_BCHW):
            x_BGcHW = _padded(_lying(x_BCHW[part]), weight_BNGHW)
            y_BCHW[part] = _sum_of_neighbours(x_BGcHW, weight_BNGHW[part], stride).flatten(1, 2)
        return y_BCHW

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy_BCHW: Tensor) -> tuple[Tensor, Tensor, None]:
        x_BCHW, weight_BNGHW = ctx.saved_tensors
        dx_BCHW, dweight_BNGHW = torch.empty_like(x_BCHW), torch.empty_like(weight_BNGHW)
        side, size = math.isqrt(weight_BNGHW.shape[1]), dy_BCHW.shape[-2:]
        inner = slice(side // 2, -(side // 2) or None)
        for part in _few_samples(x_BCHW):
            x_BGcHW = _padded(_lying(x_BCHW[part]), weight_BNGHW)
            dy_BGcHW = _lying(dy_BCHW[part]).unflatten(1, x_BGcHW.shape[1:3])
            dx_BGcHW, product_BGcHW = torch.zeros_like(x_BGcHW), torch.empty_like(dy_BGcHW)
            maps = zip(*(_neighbours(x, size, side, ctx.stride) for x in (x_BGcHW, dx_BGcHW)), strict=True)
            for place, (x_there, dx_there) in enumerate(maps):
                torch.mul(dy_BGcHW, x_there, out=product_BGcHW)
                dweight_BNGHW[part, place] = product_BGcHW.sum(2)
                dx_there.addcmul_(dy_BGcHW, _lying(weight_BNGHW[part, place]).unsqueeze(2))
            dx_BCHW[part] = dx_BGcHW.flatten(1, 2)[..., inner, inner]
        return dx_BCHW, dweight_BNGHW, None


def _few_samples(x_BCHW: Tensor) -> Iterator[slice]:
    """Yield parts of the batch."""
    length = max(_MAP_BYTES // max(4 * x_BCHW[:1].numel(), 1), 1)
    return (slice(start, start + length) for start in range(0, len(x_BCHW), length))


def _lying(x: Tensor) -> Tensor:
    """Return x as at least float32, contiguous."""
    return x.to(torch.promote_types(x.dtype, torch.float32), memory_format=torch.contiguous_format)


def _sum_of_neighbours(x_BGcHW: Tensor, weight_BNGHW: Tensor, stride: int) -> Tensor:
    """Weight and add up the neighbours of all positions; x is padded."""
    num_places, size = weight_BNGHW.shape[1], weight_BNGHW.shape[-2:]
    y_BGcHW = x_BGcHW.new_zeros(*x_BGcHW.shape[:3], *size)
    neighbours = _neighbours(x_BGcHW, size, math.isqrt(num_places), stride)
    for weight_BGHW, neighbour in zip(weight_BNGHW.unbind(1), neighbours, strict=True):
        y_BGcHW.addcmul_(neighbour, _lying(weight_BGHW).unsqueeze(2))
    return y_BGcHW


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
        self.reduce = Linear(dim, dim // reduction)
        self.norm = nn.LayerNorm(dim // reduction)  # in place of the original's BatchNorm: the same in training and use
        self.span = Linear(dim // reduction, self.num_places * (dim // group_channels))

    def kernels(self, x_BHWC: Tensor) -> Tensor:
        """Return weight_BNGHW, the kernel of every output position."""
        if self.stride > 1:
            means = F.avg_pool2d(x_BHWC.permute(0, 3, 1, 2), self.stride, ceil_mode=True, count_include_pad=False)
            x_BHWC = means.permute(0, 2, 3, 1)
        size = x_BHWC.shape[1:3]
        narrow_BSk = F.relu(self.norm(self.reduce(x_BHWC))).flatten(1, 2)
        # the other way round than a linear layer, so that one place's weights lie together
        span_Bok = self.span.weight.expand(narrow_BSk.shape[0], -1, -1)  # len would be a constant of exported networks
        weight_BoS = torch.baddbmm(self.span.bias.unsqueeze(1), span_Bok, narrow_BSk.transpose(1, 2))
        return weight_BoS.unflatten(2, size).unflatten(1, (self.num_places, -1))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, ceil(H / stride), ceil(W / stride), C)."""
        if self.stride > 1 or not computes_in_place(x_BHWC):
            return involve(x_BHWC.permute(0, 3, 1, 2), self.kernels(x_BHWC), self.stride).permute(0, 2, 3, 1)
        # without gradients some rows at a time: the kernels, many times the map, never leave the cache
        side, (batch, height, width, _) = math.isqrt(self.num_places), x_BHWC.shape
        num_rows = max(_KERNEL_BYTES // (4 * batch * width * self.span.out_features), 1)
        num_groups = self.span.out_features // self.num_places
        x_BGcHW = F.pad(_lying(x_BHWC.permute(0, 3, 1, 2)), (side // 2,) * 4).unflatten(1, (num_groups, -1))
        y_BHWC = torch.empty_like(x_BHWC)
        for top in range(0, height, num_rows):
            weight_BNGHW = self.kernels(x_BHWC[:, top : top + num_rows])
            around_BGcHW = x_BGcHW[..., top : top + weight_BNGHW.shape[3] + side - 1, :]
            rows_BCHW = _sum_of_neighbours(around_BGcHW, weight_BNGHW, 1).flatten(1, 2)
            y_BHWC[:, top : top + num_rows] = rows_BCHW.permute(0, 2, 3, 1)
        return y_BHWC


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
        self.project_in = Linear(dim, dim)
        self.involution = Involution(dim, kernel_size, group_channels, reduction)
        self.project_out = Linear(dim, dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        mixed = self.involution(F.gelu(self.project_in(self.norm1(x_BHWC))))
        x_BHWC = x_BHWC + self.drop_path(self.project_out(mixed))
        return add_branch(x_BHWC, self.mlp, self.norm2, self.drop_path)
