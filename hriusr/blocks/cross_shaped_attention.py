"""HRViT's attention in horizontal and vertical stripes, its diversity-enhanced shortcut, and the block of both.

After Gu et al., "Multi-Scale High-Resolution Vision Transformer" (arXiv:2111.01236, sec. 3.2). Half of the channels
attend in stripes s rows high, the other half in stripes s columns wide; keys and values are one projection. Stripes
span the whole map in the paper, at a cost of H W² s; here they are at most `stripe_length` long.

Shapes: B batch, C channels, H W pixels, M stripes, N pixels of a stripe, h heads, d channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import MASKED, attend
from hriusr.blocks.drop_path import DropPath
from hriusr.blocks.linear import Linear
from hriusr.blocks.mix_cfn import MixCFN
from hriusr.blocks.swin_groups import channels_first, channels_last
from hriusr.blocks.windows import crop_to, window_merge, window_partition


def attend_in_stripes(q_BHWC: Tensor, v_BHWC: Tensor, stripe_size: tuple[int, int], num_heads: int) -> Tensor:
    """Attend within the stripes of a map, with the values as keys: softmax(q v^T d^-0.5) v.

    Stripes that reach beyond the map are completed with pixels that no query sees.

    Args:
        q_BHWC: queries, not yet scaled; any H, W >= 1.
        v_BHWC: values, which are the keys too.
        stripe_size: (height, width) of a stripe, pixels.
        num_heads: divides C.

    Returns:
        y_BHWC.
    """
    height, width, dim = q_BHWC.shape[1:]
    full_height, full_width = (
        (side + stripe - 1) // stripe * stripe for side, stripe in zip((height, width), stripe_size, strict=True)
    )
    padding = (0, 0, 0, full_width - width, 0, full_height - height)
    # One graph for every size: the mask is there whether or not it is needed
    is_padded = torch.compiler.is_exporting() or (full_height, full_width) != (height, width)
    qv_BHWC = torch.cat((q_BHWC * (dim // num_heads) ** -0.5, v_BHWC), -1)
    qv_MNC = window_partition(F.pad(qv_BHWC, padding) if is_padded else qv_BHWC, stripe_size)
    q_MhNd, v_MhNd = qv_MNC.unflatten(-1, (2, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
    k_MhNd = v_MhNd
    if is_padded:  # one more channel: 1 in queries, MASKED in keys beyond the border
        inside_1HW1 = F.pad(q_BHWC.new_ones(1, height, width, 1), padding)
        outside_MN1 = (1 - window_partition(inside_1HW1, stripe_size)) * MASKED
        outside_BMhN1 = outside_MN1[None, :, None].expand(q_BHWC.shape[0], -1, num_heads, -1, -1)
        q_MhNd = F.pad(q_MhNd, (0, 1), value=1.0)
        k_MhNd = torch.cat((k_MhNd, outside_BMhN1.flatten(0, 1).to(k_MhNd.dtype)), -1)
    y_MNC = attend(q_MhNd, k_MhNd, v_MhNd).transpose(1, 2).flatten(2)
    y_BHWC = window_merge(y_MNC, stripe_size, full_height, full_width)
    return channels_last(crop_to(channels_first(y_BHWC), height, width)) if is_padded else y_BHWC


class CrossShapedAttention(nn.Module):
    """HRViTAttn: stripes both ways, plus a depth-wise convolution of the values, behind a scale that starts at zero.

    Args:
        dim: channels C, even; half of them must divide into heads.
        head_dim: channels d of a head; C / 2 where that is smaller.
        stripe_width: rows of a horizontal stripe and columns of a vertical one, pixels.
        stripe_length: the other side, pixels; on a smaller map the stripe spans the map.

    Raises:
        ValueError: dim does not divide into heads, or a side is below 1.
    """

    def __init__(self, dim: int, head_dim: int, stripe_width: int, stripe_length: int):
        super().__init__()
        if head_dim < 1 or dim < 2 or dim % 2 or (dim // 2) % min(head_dim, dim // 2):
            raise ValueError(f"dim (={dim}) must be a multiple of 2 * head_dim (={2 * head_dim})")
        if min(stripe_width, stripe_length) < 1:
            raise ValueError(f"stripe_width (={stripe_width}) and stripe_length (={stripe_length}) must be at least 1")
        self.num_heads = dim // 2 // min(head_dim, dim // 2)
        self.stripe_width = stripe_width
        self.stripe_length = stripe_length
        self.qv = Linear(dim, 2 * dim)
        self.depthwise = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.proj = Linear(dim, dim)
        self.layer_scale = nn.Parameter(torch.zeros(dim))  # the original's last BatchNorm starts at zero too

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape, any H, W >= 1."""
        q_BHWC, v_BHWC = self.qv(x_BHWC).chunk(2, -1)
        q_rows, q_columns = q_BHWC.chunk(2, -1)
        v_rows, v_columns = v_BHWC.chunk(2, -1)
        row_length, column_length = self._length(x_BHWC.shape[2]), self._length(x_BHWC.shape[1])
        y_BHWC = torch.cat(
            (
                attend_in_stripes(q_rows, v_rows, (self.stripe_width, row_length), self.num_heads),
                attend_in_stripes(q_columns, v_columns, (column_length, self.stripe_width), self.num_heads),
            ),
            -1,
        )
        y_BHWC = y_BHWC + channels_last(self.depthwise(channels_first(F.hardswish(v_BHWC))))
        return self.layer_scale * self.proj(F.hardswish(y_BHWC))

    def _length(self, side: int) -> int:
        # Longer than the map would be masked away: the same result at a higher cost
        return self.stripe_length if torch.compiler.is_exporting() else min(self.stripe_length, side)


class DiversityShortcut(nn.Module):
    """HRViT's DES: mix channels by a Kronecker product of two small matrices with a GELU between, C -> (C/p, p) -> C.

    Args:
        dim: channels C, a multiple of p = 2^ceil(floor(log2 C) / 2).

    Raises:
        ValueError: C does not divide by p.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.inner = 2 ** -(-(dim.bit_length() - 1) // 2)
        if dim % self.inner:
            raise ValueError(
                f"dim (={dim}) must be a multiple of {self.inner} for the diversity-enhanced shortcut: "
                f"take {dim // self.inner * self.inner} or {(dim // self.inner + 1) * self.inner}"
            )
        self.within = Linear(self.inner, self.inner)
        self.across = Linear(dim // self.inner, dim // self.inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        x = F.gelu(self.within(x.unflatten(-1, (-1, self.inner))).transpose(-1, -2))
        return self.across(x).transpose(-1, -2).flatten(-2)


class HRViTBlock(nn.Module):
    """x += attention(norm x) + shortcut(x), then x += MixCFN(norm x).

    Args:
        dim: channels C.
        attention: (B, H, W, C) -> the same shape.
        mlp_ratio: hidden channels of MixCFN, in parts of C.
        drop_path: probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, attention: CrossShapedAttention, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.shortcut = DiversityShortcut(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.ffn = MixCFN(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        x_BHWC = x_BHWC + self.drop_path(self.attention(self.norm1(x_BHWC)) + self.shortcut(x_BHWC))
        return x_BHWC + self.drop_path(self.ffn(self.norm2(x_BHWC)))
