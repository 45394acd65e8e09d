"""Several answers averaged: one network on the eight flips and turns of a picture, or several networks on one.

Shapes: B pictures, C channels, H W pixels
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from hriusr.errors import OptionsError
from hriusr.upscaling.tile_plan import network_alignment
from hriusr.upscaling.tile_runner import evaluating


class SelfEnsemble(nn.Module):
    """Mean over the eight flips and turns of the input, each undone (EDSR, arXiv:1707.02921, sec. 3.4).

    Args:
        network: any; takes eight times as long.
    """

    turns_pictures = True  # see pooled_statistics.py

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network
        self.size_multiple = network_alignment(network)
        for name in ("upscale", "in_chans"):
            if hasattr(network, name):
                setattr(self, name, getattr(network, name))

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H * scale, W * scale)."""
        total = None
        for is_turned in (False, True):
            for axes in ((), (2,), (3,), (2, 3)):
                x_BCHW = lr_BCHW.transpose(2, 3) if is_turned else lr_BCHW
                y_BCHW = self.network(x_BCHW.flip(axes) if axes else x_BCHW).float()
                y_BCHW = y_BCHW.flip(axes) if axes else y_BCHW
                y_BCHW = y_BCHW.transpose(2, 3) if is_turned else y_BCHW
                total = y_BCHW if total is None else total + y_BCHW
        return total / 8


class NetworkEnsemble(nn.Module):
    """Mean of several networks of one scale.

    Args:
        networks: at least one.

    Raises:
        OptionsError: scales or channels differ.
    """

    def __init__(self, networks: Sequence[nn.Module]):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.in_chans = _the_same("take channels", [getattr(network, "in_chans", 3) for network in networks])
        self.upscale = _the_same("enlarge by", [network_scale(network) for network in networks])
        self.size_multiple = math.lcm(*(network_alignment(network) for network in networks))

    def forward(self, lr_BCHW: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H * scale, W * scale)."""
        return torch.stack([network(lr_BCHW).float() for network in self.networks]).mean(0)


def _the_same(what: str, values: Sequence[int]) -> int:
    if len(set(values)) > 1:
        raise OptionsError(f"weights of an ensemble must {what} the same, not {', '.join(map(str, values))}")
    return values[0]


@torch.no_grad()
def network_scale(network: nn.Module) -> int:
    """Return a network's `upscale`, or what it makes of a small picture where it does not say (BasicSR's RRDBNet).

    Args:
        network: takes (B, C, H, W), of 3 channels where it has no attribute in_chans.
    """
    network = getattr(network, "_orig_mod", network)  # not worth compiling for
    upscale = getattr(network, "upscale", None)
    if isinstance(upscale, int):
        return upscale
    alignment = network_alignment(network)
    side = 64 // alignment * alignment or alignment
    like = next(network.parameters(), torch.zeros(()))
    with evaluating(network):
        sr_BCHW = network(like.new_zeros(1, getattr(network, "in_chans", 3), side, side))
    return sr_BCHW.shape[-1] // side
