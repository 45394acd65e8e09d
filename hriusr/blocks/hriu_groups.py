"""The groups that HRIUSR is made of: hybrid blocks, an overlapping block, a low-resolution branch.

    group(x):  c = x + gate * grow(HRIU blocks(shrink(x)))    every window sees a wide neighbourhood
               y = hybrid blocks(c), shifted by turns         HRIU + channel attention, then feed-forward
               y = overlapping block(y)                       each window looks at a larger one
               return conv(y) + x

Shapes: B batch, C channels, H W pixels, multiples of the window (and of window x ratio with the low branch).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.channel_attention import CAB
from hriusr.blocks.drop_path import DropPath
from hriusr.blocks.feed_forward import Mlp
from hriusr.blocks.gated_feed_forward import GatedConvMlp
from hriusr.blocks.hriu import HRIU
from hriusr.blocks.linear import Linear
from hriusr.blocks.norms import build_norm
from hriusr.blocks.overlap_hriu import OverlapHRIU
from hriusr.blocks.recompute import run_block
from hriusr.blocks.resampling import build_resampling
from hriusr.blocks.residual import add_branch
from hriusr.blocks.shared_hriu import SharedHRIU
from hriusr.blocks.swin_groups import alternating_shift, channels_first, channels_last

CHANNEL_ATTENTIONS = ("local", "global", "none")
FEED_FORWARDS = ("plain", "gated", "none")
_SLOPE = 0.2  # of LeakyReLU


class ConvMlp(nn.Module):
    """Linear, GELU, plus a depth-wise convolution of itself, Linear (SRFormer, arXiv:2303.09735, sec. 3.4).

    Args:
        dim: channels C in and out.
        hidden_dim: channels between.
        kernel_size: odd side of the depth-wise kernel, pixels.
    """

    def __init__(self, dim: int, hidden_dim: int, kernel_size: int):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"ffn_kernel_size (={kernel_size}) must be odd, or 0 for no convolution")
        self.fc1 = Linear(dim, hidden_dim)
        self.depthwise = nn.Conv2d(hidden_dim, hidden_dim, kernel_size, padding=kernel_size // 2, groups=hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C); the caller adds the residual."""
        x = F.gelu(self.fc1(x_BHWC))
        return self.fc2(x + F.gelu(channels_last(self.depthwise(channels_first(x)))))


class LocalCAB(nn.Module):
    """Channel attention whose means are local: over 3 x 3 windows, interpolated between window centres.

    A pool over the whole input (RCAN, HAT) sees 64 x 64 pixels in training and a whole picture afterwards, and no
    tiling with an overlap can equal the whole picture. Local means have neither fault.

    Args:
        dim: channels C in and out.
        compress_ratio: the two 3x3 convolutions have C // compress_ratio channels between them.
        squeeze_factor: the gate is computed in C // squeeze_factor channels.
        window_size: side of the cells that are averaged, pixels.
    """

    def __init__(self, dim: int, compress_ratio: float, squeeze_factor: float, window_size: int):
        super().__init__()
        compressed, squeezed = max(int(dim // compress_ratio), 1), max(int(dim // squeeze_factor), 1)
        self.window_size = window_size
        self.conv1 = nn.Conv2d(dim, compressed, 3, padding=1)
        self.conv2 = nn.Conv2d(compressed, dim, 3, padding=1)
        self.squeeze = nn.Conv2d(dim, squeezed, 1)
        self.excite = nn.Conv2d(squeezed, dim, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W); H and W are multiples of the window."""
        x_BCHW = self.conv2(F.gelu(self.conv1(x_BCHW)))
        means = F.avg_pool2d(x_BCHW, self.window_size)
        means = F.avg_pool2d(means, 3, stride=1, padding=1, count_include_pad=False)
        gate = self.excite(F.relu(self.squeeze(means))).sigmoid()
        return x_BCHW * F.interpolate(gate, scale_factor=float(self.window_size), mode="bilinear", align_corners=False)


def build_channel_attention(
    kind: str, dim: int, compress_ratio: float, squeeze_factor: float, window_size: int
) -> nn.Module | None:
    """Make the convolutional half of a hybrid block, (B, C, H, W) -> (B, C, H, W), or None.

    Raises:
        ValueError: unknown kind.
    """
    if kind == "none":
        return None
    if kind == "local":
        return LocalCAB(dim, compress_ratio, squeeze_factor, window_size)
    if kind == "global":
        return CAB(dim, compress_ratio, squeeze_factor)
    raise ValueError(f"channel_attention (={kind!r}) must be one of {', '.join(CHANNEL_ATTENTIONS)}")


def build_feed_forward(kind: str, dim: int, hidden_dim: int, kernel_size: int) -> nn.Module | None:
    """Make a feed-forward part, (B, H, W, C) -> the same, or None.

    Args:
        kind: one of FEED_FORWARDS.
        dim: channels C.
        hidden_dim: channels between; of each half of a gated one.
        kernel_size: odd side of its depth-wise convolution, pixels; 0 for none, which a gated one must have.

    Raises:
        ValueError: unknown kind, or a kernel that does not fit.
    """
    if kind == "gated":
        return GatedConvMlp(dim, hidden_dim, kernel_size)
    if kind == "none":
        return None
    if kind == "plain":
        return ConvMlp(dim, hidden_dim, kernel_size) if kernel_size else Mlp(dim, hidden_dim)
    raise ValueError(f"ffn (={kind!r}) must be one of {', '.join(FEED_FORWARDS)}")


class HybridBlock(nn.Module):
    """x += attention(n) + scale * cab(n) with n = norm x; then x += feed-forward(norm x). Any of the three may lack.

    Args:
        dim: channels C.
        attention: (B, H, W, C) -> (B, H, W, C), or None.
        cab: (B, C, H, W) -> (B, C, H, W), or None.
        cab_scale: what the learned scale of each of cab's channels starts at.
        feed_forward: (B, H, W, C) -> (B, H, W, C), or None.
        norm: "layer" or "instance".
        drop_path: probability that a sample skips a branch in training.
    """

    def __init__(
        self,
        dim: int,
        attention: nn.Module | None,
        cab: nn.Module | None,
        *,
        cab_scale: float,
        feed_forward: nn.Module | None,
        norm: str,
        drop_path: float,
    ):
        super().__init__()
        self.norm1 = None if attention is None and cab is None else build_norm(norm, dim)
        self.attention = attention
        self.cab = cab
        self.cab_scale = None if cab is None else nn.Parameter(torch.full((dim,), float(cab_scale)))
        self.norm2 = None if feed_forward is None else build_norm(norm, dim)
        self.ffn = feed_forward
        self.drop_path = DropPath(drop_path)

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        if self.cab is not None:
            x_BHWC = x_BHWC + self.drop_path(self._mix(self.norm1(x_BHWC)))
        elif self.attention is not None:
            x_BHWC = add_branch(x_BHWC, self.attention, self.norm1, self.drop_path)
        if self.ffn is not None:
            x_BHWC = add_branch(x_BHWC, self.ffn, self.norm2, self.drop_path)
        return x_BHWC

    def _mix(self, n_BHWC: Tensor) -> Tensor:
        gated = self.cab_scale * channels_last(self.cab(channels_first(n_BHWC)))
        return gated if self.attention is None else self.attention(n_BHWC) + gated

    def quieten(self) -> None:
        """Let attention and feed-forward part start by adding nothing, with the gradient of what they could add."""
        if self.attention is not None:
            nn.init.zeros_(self.attention.project_out.weight)
        if self.ffn is not None:
            nn.init.zeros_(self.ffn.fc2.weight)

    def look_near(self) -> None:
        """Let each head start with a Gaussian window of its own: deviation 1 pixel, 2, 4 and so on.

        Scores that compare contents then make it a bilateral filter, where a flat start sees the mean of its window.
        """
        if self.attention is None:
            return
        table_hYX = self.attention.scores.bias_table
        rows, columns = (torch.arange(size) - (size - 1) / 2 for size in table_hYX.shape[1:])
        squares_YX = rows[:, None] ** 2 + columns**2
        deviations_h = 2.0 ** torch.arange(len(table_hYX))
        with torch.no_grad():
            table_hYX.copy_(-squares_YX / (2 * deviations_h[:, None, None] ** 2))


class LowResolutionBranch(nn.Module):
    """Shrink, attend at low resolution, grow, behind a gate that starts at zero.

    Args:
        dim: channels C in and out.
        ratio: how much smaller the low resolution is on each side.
        blocks: what runs at low resolution, (B, H/r, W/r, C) -> the same.
        shrink: (B, H, W, C) -> (B, H/r, W/r, C).
        grow: its counterpart.
    """

    def __init__(self, dim: int, blocks: nn.Sequential, shrink: nn.Module, grow: nn.Module):
        super().__init__()
        self.shrink = shrink
        self.blocks = blocks
        self.grow = grow
        self.gate = nn.Parameter(torch.zeros(dim))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return what the caller adds to x."""
        return self.gate * self.grow(self.blocks(self.shrink(x_BHWC)))


class HRIUGroup(nn.Module):
    """A residual group: low-resolution branch, hybrid blocks, overlapping block, convolution."""

    def __init__(
        self,
        dim: int,
        depth: int,
        num_heads: int,
        window_size: int,
        *,
        wide_window_size: int,
        shares_projections: bool,
        similarity: str,
        terms: str,
        tables: str,
        renorm: str,
        ffn: str,
        mlp_ratio: float,
        ffn_kernel_size: int,
        channel_attention: str,
        compress_ratio: float,
        squeeze_factor: float,
        cab_scale: float,
        overlap_ratio: float,
        overlap_terms: str,
        low_resolution_ratio: int,
        low_resolution_depth: int,
        resampling: str,
        num_convs: int,
        norm: str,
        drop_paths: list[float],
        use_checkpoint: bool,
    ):
        """Build the group; the arguments are those of hriusr.archs.hriusr_arch.HRIUSR, for one group."""
        super().__init__()
        block_options = {"norm": norm, "cab_scale": cab_scale}
        attention_options = {"terms": terms, "tables": tables}
        shared_options = attention_options | {"similarity": similarity}
        if num_heads == 0 and (overlap_ratio or low_resolution_ratio or wide_window_size):
            raise ValueError("num_heads (=0) needs overlap_ratio, low_resolution_ratio and wide_window_size to be 0")
        if (shares_projections or wide_window_size) and renorm != "softmax":
            raise ValueError(f"renorm (={renorm!r}) must be 'softmax' with shares_projections or wide_window_size")
        if similarity != "product" and not shares_projections:
            raise ValueError(f"similarity (={similarity!r}) needs shares_projections (=False) to be true")
        if wide_window_size and (wide_window_size < window_size or wide_window_size % window_size):
            raise ValueError(
                f"wide_window_size (={wide_window_size}) must be a multiple of window_size (={window_size}), or 0"
            )

        def hriu(number: int) -> nn.Module | None:
            if num_heads == 0:
                return None
            shift_size = alternating_shift(number, window_size)
            if shares_projections:
                return SharedHRIU(dim, num_heads, window_size, shift_size=shift_size, **shared_options)
            return HRIU(dim, num_heads, window_size, shift_size=shift_size, renorm=renorm, **attention_options)

        def narrow_or_wide_hriu(number: int) -> nn.Module | None:
            if not wide_window_size:
                return hriu(number)
            turn, is_wide = divmod(number, 2)
            if not is_wide:
                return hriu(turn)
            # a quarter or three: their borders never lie on those of narrow windows
            shift_size = window_size // 4 + alternating_shift(turn, window_size)
            ratio = wide_window_size // window_size
            return SharedHRIU(dim, num_heads, window_size, squeeze_ratio=ratio, shift_size=shift_size, **shared_options)

        def feed_forward(kernel_size: int, kind: str = ffn) -> nn.Module | None:
            return build_feed_forward(kind, dim, int(dim * mlp_ratio), kernel_size)

        self.use_checkpoint = use_checkpoint
        self.low_resolution = None
        if low_resolution_ratio > 1:
            low_blocks = [
                HybridBlock(
                    dim,
                    hriu(number),
                    None,
                    feed_forward=feed_forward(0, "plain"),
                    drop_path=0.0,
                    **block_options,
                )
                for number in range(low_resolution_depth)
            ]
            resize_options = {"num_heads": num_heads, "window_size": window_size, "norm": norm}
            resize_options |= {"tables": tables, "renorm": renorm}
            shrink, grow = (
                build_resampling(resampling, dim, dim, low_resolution_ratio, grows=grows, **resize_options)
                for grows in (False, True)
            )
            self.low_resolution = LowResolutionBranch(dim, nn.Sequential(*low_blocks), shrink, grow)
        blocks = []
        for number in range(depth):
            cab = build_channel_attention(channel_attention, dim, compress_ratio, squeeze_factor, window_size)
            blocks.append(
                HybridBlock(
                    dim,
                    narrow_or_wide_hriu(number),
                    cab,
                    feed_forward=feed_forward(ffn_kernel_size),
                    drop_path=drop_paths[number],
                    **block_options,
                )
            )
        if overlap_ratio > 0:
            overlap = OverlapHRIU(dim, num_heads, window_size, overlap_ratio, terms=overlap_terms, tables=tables)
            blocks.append(
                HybridBlock(
                    dim,
                    overlap,
                    None,
                    feed_forward=feed_forward(ffn_kernel_size),
                    drop_path=drop_paths[-1] if drop_paths else 0.0,
                    **block_options,
                )
            )
        self.blocks = nn.ModuleList(blocks)
        if num_convs < 1:
            raise ValueError(f"num_convs (={num_convs}) must be at least 1")
        convs = [nn.Conv2d(dim, dim, 3, padding=1) for _ in range(num_convs)]
        self.conv = convs[0] if num_convs == 1 else nn.Sequential(*_with_activations(convs))

    def forward(self, x_BHWC: Tensor) -> Tensor:
        """Return features of the same shape."""
        y_BHWC = x_BHWC
        if self.low_resolution is not None:
            y_BHWC = y_BHWC + run_block(self.low_resolution, x_BHWC, self.use_checkpoint)
        for block in self.blocks:
            y_BHWC = run_block(block, y_BHWC, self.use_checkpoint)
        return channels_last(self.conv(channels_first(y_BHWC))) + x_BHWC

    def quieten(self) -> None:
        """Let the group start by adding nothing, with lively features inside (He, arXiv:1502.01852, eq. 15)."""
        *inner, last = (module for module in self.conv.modules() if isinstance(module, nn.Conv2d))
        for conv in inner:
            nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
            nn.init.zeros_(conv.bias)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)


def _with_activations(convs: list[nn.Module]) -> list[nn.Module]:
    """Put an activation between each two layers; ReLU's kind, which bends small features as it does large ones."""
    return [convs[0], *(layer for conv in convs[1:] for layer in (nn.LeakyReLU(_SLOPE), conv))]
