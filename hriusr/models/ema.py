"""Exponential moving average of a network's weights: what is validated and shipped."""

import copy

import torch
from torch import Tensor, nn


class ExponentialMovingAverage:
    """Keeps a second network whose parameters and floating-point buffers follow those of the first.

    Buffers that are not saved (masks, means) are constants and stay as they are, as do those that hold infinities;
    integer buffers are copied.
    """

    def __init__(self, source: nn.Module):
        """Copy the network as it is.

        Args:
            source: the bare network that is trained; neither wrapped nor compiled.
        """
        self.source = source
        self.network = copy.deepcopy(source).eval().requires_grad_(False)
        saved = set(source.state_dict())
        self._averaged_names = [name for name, _ in source.named_parameters()]
        self._copied_names = []
        for name, buffer in source.named_buffers():
            if name not in saved:
                continue
            if buffer.is_floating_point() and bool(torch.isfinite(buffer).all()):
                self._averaged_names.append(name)
            else:
                self._copied_names.append(name)

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Move towards the trained network: ema = decay * ema + (1 - decay) * trained.

        Args:
            decay: 0..1; 0 copies.
        """
        averages, sources = _tensors(self.network, self._averaged_names), _tensors(self.source, self._averaged_names)
        if decay == 0:
            torch._foreach_copy_(averages, sources)
        else:
            torch._foreach_lerp_(averages, sources, 1 - decay)
        for average, value in zip(
            _tensors(self.network, self._copied_names), _tensors(self.source, self._copied_names), strict=True
        ):
            average.copy_(value)


def _tensors(network: nn.Module, names: list[str]) -> list[Tensor]:
    """Look tensors up anew each time: loading weights or moving a network may have replaced them."""
    found = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return [found[name].detach() for name in names]
