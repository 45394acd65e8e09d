"""Blocks and residual groups of SwinIR (arXiv:2108.10257), HAT (arXiv:2205.04437) and Swin2SR (arXiv:2209.11345).

Parameter names are those of the published weights: in a block `norm1`, `attn`, `norm2`, `mlp` (HAT: `conv_block`), in
a group `residual_group.blocks.{b}`, `residual_group.overlap_attn`, `conv`, `patch_embed`.

Shapes: B batch, C channels, H W pixels, multiples of the window
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from hriusr.blocks.channel_attention import CAB
from hriusr.blocks.drop_path import DropPath
from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.recompute import run_block
from hriusr.blocks.residual import add_branch

CONNECTION_KINDS = ("1conv", "3conv", "identity")


def channels_first(x_BHWC: Tensor) -> Tensor:
    """View (B, H, W, C) as (B, C, H, W)."""
    return x_BHWC.permute(0, 3, 1, 2)


def channels_last(x_BCHW: Tensor) -> Tensor:
    """View (B, C, H, W) as (B, H, W, C)."""
    return x_BCHW.permute(0, 2, 3, 1)


def alternating_shift(block_number: int, window_size: int) -> int:
    """Shift of a group's block: none in even blocks, half a window in odd ones."""
    return window_size // 2 if block_number % 2 else 0


class SwinBlock(nn.Module):
    """Attention and feed-forward part, each behind its LayerNorm and with its residual.

    Args:
        dim: channels C.
        attn: attention, (B, H, W, C) -> (B, H, W, C).
        mlp_ratio: hidden channels of the feed-forward part, in parts of C.
        drop_path: probability that a sample skips a branch in training.
    """

    def __init__(self, dim: int, attn: nn.Module, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        x_BHWC = add_branch(x_BHWC, self.attn, self.norm1, self.drop_path)
        return add_branch(x_BHWC, self.mlp, self.norm2, self.drop_path)


class SwinV2Block(nn.Module):
    """Attention and feed-forward part, each before its LayerNorm and with its residual.

    Arguments as SwinBlock's. Both norms start at 1 as in Swin2SR, not at 0 as in the official Swin V2.
    """

    def __init__(self, dim: int, attn: nn.Module, mlp_ratio: float, drop_path: float):
        super().__init__()
        self.attn = attn
        self.norm1 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.norm2 = nn.LayerNorm(dim)
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        x_BHWC = add_branch(x_BHWC, self.attn, self.norm1, self.drop_path, is_norm_last=True)
        return add_branch(x_BHWC, self.mlp, self.norm2, self.drop_path, is_norm_last=True)


class HAB(nn.Module):
    """Hybrid attention block: window attention and channel attention side by side, then a feed-forward part.

    Arguments as SwinBlock's, and:
        conv_block: the channel attention, (B, C, H, W) -> (B, C, H, W).
        conv_scale: weight of conv_block's result.
    """

    def __init__(
        self, dim: int, attn: nn.Module, conv_block: CAB, conv_scale: float, mlp_ratio: float, drop_path: float
    ):
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = attn
        self.conv_block = conv_block
        self.conv_scale = conv_scale
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        normed_BHWC = self.norm1(x_BHWC)
        convolved_BHWC = channels_last(self.conv_block(channels_first(normed_BHWC)))
        x_BHWC = x_BHWC + self.drop_path(self.attn(normed_BHWC))
        x_BHWC = torch.add(x_BHWC, convolved_BHWC, alpha=self.conv_scale)
        return add_branch(x_BHWC, self.mlp, self.norm2, self.drop_path)


def residual_connection(kind: str, dim: int) -> nn.Module:
    """Make the convolution that closes a group or the body.

    Args:
        kind: "1conv"; "3conv", through a quarter of the channels; or "identity", none.
        dim: channels in and out.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "1conv":
        return nn.Conv2d(dim, dim, 3, padding=1)
    if kind == "3conv":
        return nn.Sequential(
            nn.Conv2d(dim, dim // 4, 3, padding=1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(dim // 4, dim // 4, 1),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(dim // 4, dim, 3, padding=1),
        )
    if kind == "identity":
        return nn.Identity()
    raise ValueError(f"resi_connection (={kind!r}) must be one of {CONNECTION_KINDS}")


class PatchEmbed(nn.Module):
    """From feature maps to positions with channels last; a 1x1 convolution and a LayerNorm on the way where wanted."""

    def __init__(self, dim: int, *, use_projection: bool, use_norm: bool):
        super().__init__()
        self.proj = nn.Conv2d(dim, dim, 1) if use_projection else nn.Identity()
        self.norm = nn.LayerNorm(dim) if use_norm else nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return (B, H, W, C)."""
        return self.norm(channels_last(self.proj(x_BCHW)))


class BlockSequence(nn.Module):
    """Blocks one after the other, closed by an overlapping cross-attention block where there is one."""

    def __init__(self, blocks: Iterable[nn.Module], overlap_attn: nn.Module | None, use_checkpoint: bool):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.overlap_attn = overlap_attn if overlap_attn is not None else nn.Identity()
        self.use_checkpoint = use_checkpoint

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        for block in self.blocks:
            x_BHWC = run_block(block, x_BHWC, self.use_checkpoint)
        return run_block(self.overlap_attn, x_BHWC, self.use_checkpoint)


class ResidualGroup(nn.Module):
    """Blocks, a closing convolution, and a residual around both (RSTB of SwinIR and Swin2SR, RHAG of HAT).

    Args:
        dim: channels C.
        blocks: the group's blocks, each (B, H, W, C) -> (B, H, W, C).
        resi_connection: kind of the closing convolution, see residual_connection.
        overlap_attn: block behind the others (HAT).
        use_projection: whether a 1x1 convolution follows the closing one (Swin2SR).
        use_checkpoint: keep only the blocks' inputs for the backward pass.

    Raises:
        ValueError: unknown resi_connection.
    """

    def __init__(
        self,
        dim: int,
        blocks: Iterable[nn.Module],
        resi_connection: str,
        *,
        overlap_attn: nn.Module | None = None,
        use_projection: bool = False,
        use_checkpoint: bool = False,
    ):
        super().__init__()
        self.residual_group = BlockSequence(blocks, overlap_attn, use_checkpoint)
        self.conv = residual_connection(resi_connection, dim)
        self.patch_embed = PatchEmbed(dim, use_projection=use_projection, use_norm=False)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.patch_embed(self.conv(channels_first(self.residual_group(x_BHWC)))) + x_BHWC
