"""A network whose result is known: it repeats pixels, and remembers what it was given."""

from torch import Tensor, nn
from torch.nn import functional as F


class Nearest(nn.Module):
    """Repeat each pixel.

    Attributes:
        shapes: of the inputs of every call.
    """

    def __init__(self, upscale: int = 2, in_chans: int = 3):
        super().__init__()
        self.upscale, self.in_chans = upscale, in_chans
        self.shapes: list[tuple[int, ...]] = []

    @property
    def num_calls(self) -> int:
        return len(self.shapes)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        assert x_BCHW.shape[1] == self.in_chans
        self.shapes.append(tuple(x_BCHW.shape))
        return F.interpolate(x_BCHW, scale_factor=self.upscale)
