"""The feed-forward part of a transformer block: Linear, GELU, Linear on every position (arXiv:1706.03762, sec. 3.3).

Parameter names are Swin's: `fc1`, `fc2`.
"""

from torch import Tensor, nn


class Mlp(nn.Module):
    """Two linear layers with a GELU between them.

    Args:
        in_features: channels C in and out.
        hidden_features: channels between the two layers.
        drop: probability of dropout after each layer, 0..1.

    Raises:
        ValueError: hidden_features is below 1.
    """

    def __init__(self, in_features: int, hidden_features: int, drop: float = 0.0):
        super().__init__()
        if hidden_features < 1:
            raise ValueError(f"hidden_features (={hidden_features}) must be at least 1: raise mlp_ratio")
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, in_features)
        self.drop = nn.Dropout(drop) if drop > 0 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C); the caller adds the residual."""
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
