"""Shrinking and growing feature maps by a whole ratio: imprinting, patch merging, strided convolution.

All three have one interface: (B, H, W, dim) -> (B, ceil(H / r), ceil(W / r), out_dim) to shrink by r, and
(B, H, W, dim) -> (B, H r, W r, out_dim) to grow. So a network can compare them by an option.

- imprinting: HRIU between windows of different sizes (HRIUSca of HRIU-net) beside a shortcut, then a feed-forward part.
- merging: Swin's patch merging (arXiv:2103.14030), and the patch expanding that undoes it (arXiv:2105.05537).
- conv: strided convolution, and nearest enlargement + convolution.

Shapes: B batch, H W pixels, r ratio.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.hriu import HRIU
from hriusr.blocks.linear import Linear
from hriusr.blocks.norms import build_norm

RESAMPLINGS = ("imprinting", "merging", "conv")


class ImprintingResize(nn.Module):
    """HRIUSca: imprint windows onto smaller or larger ones, x' = shortcut(x) + HRIU(norm x), then x' += MLP(norm x').

    The shortcut is the mean of each r x r cell, or the cell repeated, through a Linear: a useful start from the first
    step, where the original's single number a picture was not.
    """

    def __init__(
        self,
        dim: int,
        out_dim: int | None = None,
        *,
        num_heads: int,
        source_size: int = 8,
        target_size: int | None = None,
        mlp_ratio: float = 2.0,
        tables: str = "axial",
        renorm: str = "softmax",
        norm: str = "layer",
    ) -> None:
        """Build the block.

        Args:
            dim: channels in.
            out_dim: channels out; None for 2 dim.
            num_heads: heads of the imprinting.
            source_size: side of a window, pixels of the input.
            target_size: side of the window it becomes; None for half. A whole multiple or fraction of source_size.
            mlp_ratio: hidden channels of the feed-forward part, in parts of out_dim; 0 leaves it out.
            tables: relative tables, "axial" or "full"; "crossed" is axial here.
            renorm: "softmax" or "l2".
            norm: "layer" or "instance".
        """
        super().__init__()
        out_dim = 2 * dim if out_dim is None else out_dim
        target_size = source_size // 2 if target_size is None else target_size
        self.imprint = HRIU(dim, num_heads, source_size, target_size, out_dim=out_dim, tables=tables, renorm=renorm)
        self.shrink_ratio = max(source_size // target_size, 1)
        self.grow_ratio = max(target_size // source_size, 1)
        self.norm1 = build_norm(norm, dim)
        self.shortcut = Linear(dim, out_dim)
        self.norm2 = build_norm(norm, out_dim) if mlp_ratio else None
        self.mlp = Mlp(out_dim, int(out_dim * mlp_ratio)) if mlp_ratio else None

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Resize a map; see the module's docstring for the shapes."""
        if self.shrink_ratio > 1:
            x_BCHW = x_BHWC.permute(0, 3, 1, 2)
            # Cells cut by the border count only the pixels they have
            means = F.avg_pool2d(x_BCHW, self.shrink_ratio, ceil_mode=True, count_include_pad=False)
            y_BHWC = self.shortcut(means.permute(0, 2, 3, 1))
        else:
            y_BHWC = self.shortcut(x_BHWC)
            y_BHWC = y_BHWC.repeat_interleave(self.grow_ratio, 1).repeat_interleave(self.grow_ratio, 2)
        y_BHWC = y_BHWC + self.imprint(self.norm1(x_BHWC))
        return y_BHWC if self.mlp is None else y_BHWC + self.mlp(self.norm2(y_BHWC))


class PatchMerging(nn.Module):
    """Join the r x r pixels of a cell in one vector, LayerNorm, Linear without bias; at r = 2 it is Swin's.

    Args:
        dim: channels in.
        out_dim: channels out; None for 2 dim.
        ratio: r.
        norm: "layer" or "instance".
    """

    def __init__(self, dim: int, out_dim: int | None = None, ratio: int = 2, norm: str = "layer"):
        super().__init__()
        self.ratio = ratio
        self.norm = build_norm(norm, dim * ratio**2)
        self.reduction = Linear(dim * ratio**2, 2 * dim if out_dim is None else out_dim, bias=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Shrink; sizes that do not divide are completed with zeros right and below."""
        height, width = x_BHWC.shape[1:3]
        x_BHWC = F.pad(x_BHWC, (0, 0, 0, -width % self.ratio, 0, -height % self.ratio))
        cells = x_BHWC.unflatten(2, (-1, self.ratio)).unflatten(1, (-1, self.ratio))  # B, H/r, r, W/r, r, C
        # Swin's order: down first, then right
        return self.reduction(self.norm(cells.permute(0, 1, 3, 4, 2, 5).flatten(3)))


class PatchExpanding(nn.Module):
    """Spread one vector over the r x r pixels of a cell: Linear without bias, pixel shuffle, norm.

    Args:
        dim: channels in.
        out_dim: channels out; None for dim / 2.
        ratio: r.
        norm: "layer" or "instance".
    """

    def __init__(self, dim: int, out_dim: int | None = None, ratio: int = 2, norm: str = "layer"):
        super().__init__()
        out_dim = dim // 2 if out_dim is None else out_dim
        self.ratio = ratio
        self.expansion = Linear(dim, out_dim * ratio**2, bias=False)
        self.norm = build_norm(norm, out_dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Grow by the ratio."""
        cells = self.expansion(x_BHWC).unflatten(-1, (self.ratio, self.ratio, -1))
        return self.norm(cells.transpose(2, 3).flatten(3, 4).flatten(1, 2))


class ConvResize(nn.Module):
    """Strided convolution with kernel r + 1 (odd), or nearest enlargement and a 3x3 convolution.

    Args:
        dim: channels in.
        out_dim: channels out.
        ratio: r.
        grows: whether to grow rather than shrink.
    """

    def __init__(self, dim: int, out_dim: int, ratio: int, grows: bool):
        super().__init__()
        self.grow_ratio = ratio if grows else 1
        kernel_size = 3 if grows else ratio + 1 + ratio % 2
        self.conv = nn.Conv2d(dim, out_dim, kernel_size, 1 if grows else ratio, kernel_size // 2)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Resize a map; see the module's docstring for the shapes."""
        if self.grow_ratio > 1:
            x_BHWC = x_BHWC.repeat_interleave(self.grow_ratio, 1).repeat_interleave(self.grow_ratio, 2)
        return self.conv(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def build_resampling(
    kind: str,
    dim: int,
    out_dim: int,
    ratio: int,
    *,
    grows: bool,
    num_heads: int,
    window_size: int,
    tables: str = "axial",
    renorm: str = "softmax",
    norm: str = "layer",
) -> nn.Module:
    """Make a block that shrinks or grows (B, H, W, dim) by a ratio.

    Args:
        kind: one of RESAMPLINGS.
        dim: channels in.
        out_dim: channels out.
        ratio: whole number above 1; window_size must be a multiple of it for imprinting.
        grows: whether to grow rather than shrink.
        num_heads: heads of the imprinting; the other kinds have none.
        window_size: side of the larger of imprinting's two windows; the other kinds have none.
        tables: relative tables of the imprinting.
        renorm: renormalisation of the imprinting.
        norm: "layer" or "instance"; conv has none.

    Raises:
        ValueError: unknown kind, or a ratio that does not divide the window.
    """
    if kind == "imprinting":
        if window_size % ratio:
            raise ValueError(f"ratio (={ratio}) must divide window_size (={window_size}) for imprinting")
        sides = (window_size // ratio, window_size) if grows else (window_size, window_size // ratio)
        return ImprintingResize(
            dim,
            out_dim,
            num_heads=num_heads,
            source_size=sides[0],
            target_size=sides[1],
            mlp_ratio=0,
            tables=tables,
            renorm=renorm,
            norm=norm,
        )
    if kind == "merging":
        return (PatchExpanding if grows else PatchMerging)(dim, out_dim, ratio, norm)
    if kind == "conv":
        return ConvResize(dim, out_dim, ratio, grows)
    raise ValueError(f"resampling (={kind!r}) must be one of {', '.join(RESAMPLINGS)}")
