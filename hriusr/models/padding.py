"""Padding for networks that do not pad themselves: BasicSR's own and other foreign window networks.

BasicSR pads in its SwinIRModel, HAT in its HATModel; here it depends on the network, not on the model's name.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class PaddedNetwork(nn.Module):
    """Shares a network and lets it take pictures of any size."""

    def __init__(self, network: nn.Module, multiple: int):
        """Wrap a network.

        Args:
            network: not copied; its mode (training or evaluation) is taken over.
            multiple: it wants H and W to be multiples of this: its window size.
        """
        super().__init__()
        self.network = network
        self.window_size = multiple
        self.training = network.training

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Pad, run, and crop what belongs to the padding."""
        height, width = x_BCHW.shape[-2:]
        x_BCHW = pad_to_multiple(x_BCHW, self.window_size)
        output_BCHW = self.network(x_BCHW)
        scale = output_BCHW.shape[-1] // x_BCHW.shape[-1]
        return output_BCHW[..., : height * scale, : width * scale]


def with_padding(network: nn.Module, window_size: int | None) -> nn.Module:
    """Wrap a network that needs it; those of this package take any size.

    Args:
        network: bare.
        window_size: from its options, or None where it has no windows.
    """
    if window_size is None or type(network).__module__.startswith("hriusr."):
        return network
    return PaddedNetwork(network, window_size)


def pad_to_multiple(x_BCHW: Tensor, multiple: int) -> Tensor:
    """Pad right and below, by reflection; by repetition where the picture is smaller than the padding.

    Args:
        x_BCHW: pictures.
        multiple: H and W become multiples of it.
    """
    height, width = x_BCHW.shape[-2:]
    pad_bottom, pad_right = -height % multiple, -width % multiple
    if not (pad_bottom or pad_right):
        return x_BCHW
    mode = "reflect" if pad_bottom < height and pad_right < width else "replicate"
    return F.pad(x_BCHW, (0, pad_right, 0, pad_bottom), mode)
