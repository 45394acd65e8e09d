"""The feed-forward part of a transformer block: Linear, GELU, Linear on every position (arXiv:1706.03762, sec. 3.3).

Parameter names are Swin's: `fc1`, `fc2`.
"""

from torch import Tensor, nn

from hriusr.blocks.attention_core import computes_in_place
from hriusr.blocks.linear import Linear
from hriusr.blocks.residual import Residual

_PART_BYTES = 1 << 20  # hidden features computed at a time without gradients


class Mlp(nn.Module):
    """Two linear layers with a GELU between them.

    Args:
        in_features: channels C in and out.
        hidden_features: channels between the two layers.
        drop: probability of dropout after each layer, 0..1.

    Raises:
        ValueError: hidden_features is below 1.
    """

    takes_residual = True

    def __init__(self, in_features: int, hidden_features: int, drop: float = 0.0):
        super().__init__()
        if hidden_features < 1:
            raise ValueError(f"hidden_features (={hidden_features}) must be at least 1: raise mlp_ratio")
        self.fc1 = Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = Linear(hidden_features, in_features)
        self.drop = nn.Dropout(drop) if drop > 0 else nn.Identity()

    def forward(self, x: Tensor, residual: Residual | None = None) -> Tensor:
        """Map (..., C) to (..., C); with residual, do what it says around that, else the caller adds one."""
        if not computes_in_place(x):
            return self._run(x, residual)
        # Without gradients a part of the positions at a time: the hidden channels stay in the cache
        x_PC = x.flatten(0, -2)
        num_rows = max(_PART_BYTES // (4 * self.fc1.out_features), 1)
        y_PC = None
        for start in range(0, len(x_PC), num_rows):
            y_part = self._run(x_PC[start : start + num_rows], residual)
            if y_PC is None:
                y_PC = y_part.new_empty(x_PC.shape)
            y_PC[start : start + num_rows] = y_part
        return y_PC.view(x.shape)

    def _run(self, x: Tensor, residual: Residual | None) -> Tensor:
        y = x if residual is None else residual.before(x)
        y = self.drop(self.fc2(self.drop(self.act(self.fc1(y)))))
        return y if residual is None else residual.after(y, x)
