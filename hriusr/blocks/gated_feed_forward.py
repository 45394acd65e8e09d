"""Gated feed-forward with a depth-wise convolution (GDFN of Restormer, arXiv:2111.09881, sec. 3.2, on one half)."""

import torch.nn.functional as F
from torch import Tensor, nn

from hriusr.blocks.attention_core import computes_in_place, computing_dtype
from hriusr.blocks.linear import Linear, linear
from hriusr.blocks.residual import Residual
from hriusr.blocks.swin_groups import channels_first, channels_last

_STRIP_BYTES = 1 << 20  # hidden features of one half at a time without gradients: they stay in the L2 cache of a core


class GatedConvMlp(nn.Module):
    """Linear into two halves; one goes through a depth-wise convolution and GELU and gates the other; Linear.

    On a CPU without gradients it goes by strips of rows: the hidden features, several times the map, then never leave
    the cache. The strips overlap by what the convolution reaches, so every value is the whole map's.

    Args:
        dim: channels C in and out.
        hidden_dim: channels of each half.
        kernel_size: odd side of the depth-wise kernel, pixels.
    """

    takes_residual = True

    def __init__(self, dim: int, hidden_dim: int, kernel_size: int):
        super().__init__()
        if kernel_size % 2 == 0:
            raise ValueError(f"ffn_kernel_size (={kernel_size}) must be odd: a gated feed-forward part needs one")
        self.fc1 = Linear(dim, 2 * hidden_dim)
        self.depthwise = nn.Conv2d(hidden_dim, hidden_dim, kernel_size, padding=kernel_size // 2, groups=hidden_dim)
        self.fc2 = Linear(hidden_dim, dim)

    def forward(self, x_BHWC: Tensor, residual: Residual | None = None) -> Tensor:
        """Map (B, H, W, C) to (B, H, W, C); with residual, do what it says around that, else the caller adds one."""
        batch, height, width, _ = x_BHWC.shape
        if not computes_in_place(x_BHWC):
            return self._run(x_BHWC, 0, height, residual)
        row_bytes = batch * width * self.fc2.in_features * computing_dtype(x_BHWC).itemsize
        strip = max(_STRIP_BYTES // row_bytes, 1)
        if height <= strip:
            return self._run(x_BHWC, 0, height, residual)
        y_BHWC = None
        for top in range(0, height, strip):
            rows = self._run(x_BHWC, top, min(top + strip, height), residual)
            if y_BHWC is None:
                y_BHWC = rows.new_empty(x_BHWC.shape)
            y_BHWC[:, top : top + strip] = rows
        return y_BHWC

    def _run(self, x_BHWC: Tensor, top: int, bottom: int, residual: Residual | None) -> Tensor:
        """Return the rows from top to before bottom."""
        reach = self.depthwise.padding[0]
        first, last = max(top - reach, 0), min(bottom + reach, x_BHWC.shape[1])
        (gate_weight, value_weight), (gate_bias, value_bias) = self.fc1.weight.chunk(2), self.fc1.bias.chunk(2)
        rows = x_BHWC[:, first:last]
        if residual is not None:
            rows = residual.before(rows)
        gate = linear(rows, gate_weight, gate_bias)
        gate = channels_last(self.depthwise(channels_first(gate)))[:, top - first : bottom - first]
        value = linear(rows[:, top - first : bottom - first], value_weight, value_bias)
        y = self.fc2(F.gelu(gate) * value)
        return y if residual is None else residual.after(y, x_BHWC[:, top:bottom])
