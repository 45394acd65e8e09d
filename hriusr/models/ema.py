"""Exponential moving average of a network's weights: what is validated and shipped."""

import torch
from torch import Tensor, nn

from hriusr.models.parallel import copy_network, local


class ExponentialMovingAverage:
    """Keeps a second network whose parameters and floating-point buffers follow those of the first.

    Buffers that are not saved (masks, means) are constants and stay as they are, as do those that hold infinities;
    integer buffers are copied.
    """

    def __init__(self, source: nn.Module):
        """Copy the network as it is.

        Args:
            source: the bare network that is trained; neither wrapped nor compiled, and not moved from here on.
        """
        self.source = source
        self.network = copy_network(source).eval().requires_grad_(False)
        saved = set(source.state_dict())
        pairs = list(zip(self.network.parameters(), source.parameters(), strict=True))
        buffers = zip(self.network.named_buffers(), source.buffers(), strict=True)
        self._averaged = [(local(average.detach()), local(value.detach())) for average, value in pairs]
        self._copied: list[tuple[Tensor, Tensor]] = []
        for (name, average), value in buffers:
            if name in saved:
                is_averaged = value.is_floating_point() and bool(torch.isfinite(value).all())
                (self._averaged if is_averaged else self._copied).append((average, value))

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move towards the trained network: ema = decay * ema + (1 - decay) * trained.

        Args:
            decay: 0..1; 0 copies.
        """
        averages, values = map(list, zip(*self._averaged, strict=True))
        if decay == 0:
            torch._foreach_copy_(averages, values)
        else:
            torch._foreach_lerp_(averages, values, 1 - decay)
        for average, value in self._copied:
            average.copy_(value)
